"""Fetch data from its original place, or use and verify the files a reader already has.

Files are looked for in ``DALLREC_DATA_DIR/<folder>/``, or below the platform's cache folder when
the variable is not set. What is missing there is downloaded: checked by its checksum, retried, and
moved into place only when it is complete. ``origins.yml`` beside this module says where from.
"""

from __future__ import annotations

import logging
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from dallrec_core.chain.artefacts import atomic
from dallrec_core.chain.pages import data_dir
from dallrec_core.errors import UserError

RETRIES = 3
CATEGORY = "All_Beauty"
"""Of a dataset that comes in categories, the one that is meant where none is named."""


@dataclass(frozen=True)
class Origin:
    """Which files a dataset consists of and where they come from."""

    folder: str
    """below the data folder"""
    url: str
    """of the zip archive, or of the folder that holds the single files"""
    files: Mapping[str, str]
    """file name -> md5 or sha256 of the original edition; empty where nobody knows it"""
    archive: str = ""
    """md5 or sha256 of the zip; empty where nobody knows it, or it changes"""
    inside: str = ""
    """the folder inside the zip, with a slash behind it"""
    read: Mapping[str, Any] = field(default_factory=dict)
    """how the files are read, for `named`"""

    @property
    def place(self) -> Path:
        """The folder of the files on this machine, whether it is there or not."""
        return data_dir() / self.folder

    @property
    def missing(self) -> list[str]:
        """Names of the files that are not on this machine."""
        return [file for file in self.files if not (self.place / file).is_file()]

    def of(self, category: str) -> Origin:
        """The files of one category, where a dataset consists of several."""
        known = {file.format(category=category): each for file, each in self.files.items()}
        return replace(self, files=known)


ORIGINS = {
    name: Origin(**known)
    for name, known in yaml.safe_load(Path(__file__).with_name("origins.yml").read_text()).items()
}
"""What can be fetched, by the name of the dataset.

:meta hide-value:
"""


class Located(NamedTuple):
    """A dataset's files on this machine."""

    folder: Path
    """holds every required file"""
    lines: list[str]
    """what was found or fetched"""
    notes: list[str]
    """files that differ from the original edition"""


def is_here(name: str) -> bool:
    """Tell whether all files of a dataset are on this machine; one without files always is."""
    return name not in ORIGINS or not ORIGINS[name].of(CATEGORY).missing


def locate(name: str, category: str = CATEGORY) -> Located:
    """Find a dataset's files, fetching what is missing, and verify them.

    Args:
        name: a key of ``ORIGINS``.
        category: of a dataset that comes in several.

    Raises:
        UserError: no network, a failed checksum, a folder that cannot be written.
    """
    origin = ORIGINS[name].of(category)
    folder, missing = origin.place, origin.missing
    lines = []
    if missing and origin.url.endswith(".zip"):
        archive = fetch(origin.url, origin.archive, folder.parent, origin.folder)
        with zipfile.ZipFile(archive) as bundle:
            for file in missing:
                packed = bundle.open(f"{origin.inside}{file}")
                with packed, atomic(folder / file) as partial, partial.open("wb") as plain:
                    shutil.copyfileobj(packed, plain)  # some are larger than memory should be
        checked = f"{_algorithm(origin.archive)} verified" if origin.archive else "not verified"
        lines.append(f"{origin.url}: {checked}, {len(missing)} files unpacked into {folder}")
    elif missing:
        for file in missing:
            place = (folder / file).parent
            fetch(f"{origin.url}/{file}", origin.files[file], place, origin.folder)
            lines.append(f"{origin.url}/{file}: fetched into {folder}")
    found = [_verified(folder / file, known) for file, known in origin.files.items()]
    return Located(folder, lines + found, [line for line in found if _DIFFERS in line])


def fetch(url: str, checksum: str, folder: Path, wanted: str) -> Path:
    """Download one file into ``folder`` unless it is there with the right checksum.

    The file gets its name only once its checksum is right; failed tries are repeated ``RETRIES``
    times and leave nothing behind.

    Args:
        url: where from; the last part is the file's name.
        checksum: expected md5 or sha256; empty where none is known.
        folder: where to.
        wanted: the folder below ``DALLREC_DATA_DIR`` where messages say to put files by hand.

    Raises:
        UserError: no network, an HTTP error, a wrong checksum, a folder that cannot be written;
            with what pooch or requests say.
    """
    import pooch

    from dallrec_core.chain.progress import is_interactive

    name, kind = url.rsplit("/", 1)[-1], _algorithm(checksum)
    pooch.get_logger().setLevel(logging.WARNING)
    known = {name: f"{kind}:{checksum}" if checksum else None}
    store = pooch.create(folder, "", registry=known, urls={name: url}, retry_if_failed=RETRIES)
    if not (folder / name).is_file():
        print(f"downloading {url}")
    try:
        downloader = pooch.HTTPDownloader(progressbar=is_interactive(), timeout=30)
        return Path(store.fetch(name, downloader=downloader))
    except (OSError, ValueError) as error:  # requests' errors are of the first kind
        raise UserError(
            f"cannot download {url} into {folder}: {error}. Check network and disk and run again, "
            f"or put the files into a folder FOLDER/{wanted} yourself and set "
            "DALLREC_DATA_DIR=FOLDER."
        ) from error


def _algorithm(checksum: str) -> str:
    return "sha256" if len(checksum) == 64 else "md5"


_DIFFERS = "differs from the original edition"


def _verified(path: Path, known: str) -> str:
    import pooch

    if not known:
        return f"{path.name}: found (no checksum is known for it)"
    name = _algorithm(known)
    found = pooch.file_hash(str(path), alg=name)
    if found == known:
        return f"{path.name}: verified ({name} {found})"
    return f"{path.name} {_DIFFERS} ({name} {found}, not {known})"
