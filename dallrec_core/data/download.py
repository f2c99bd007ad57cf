"""Fetch data from its original place, or use and verify the files a reader already has.

Files are looked for in ``DALLREC_DATA_DIR/<folder>/``, or below the platform's cache folder when
the variable is not set. What is missing there is downloaded: checked by its checksum, retried, and
moved into place only when it is complete. ``origins.yml`` beside this module says where from.
"""

from __future__ import annotations

import hashlib
import logging
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
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
    """the folder inside the zip"""
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
        added = _unpack(archive, origin.inside, folder)
        checked = f"{_algorithm(origin.archive)} verified" if origin.archive else "not verified"
        lines.append(f"{origin.url}: {checked}, {added} files unpacked into {folder}")
    elif missing:
        for file in missing:
            place = (folder / file).parent
            fetch(f"{origin.url}/{file}", origin.files[file], place, origin.folder)
            lines.append(f"{origin.url}/{file}: fetched into {folder}")
    notes = []
    for file, known in origin.files.items():
        line, same = _verify(folder / file, known)
        lines.append(line)
        if not same:
            notes.append(line)
    return Located(folder, lines, notes)


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
        UserError: no network, an HTTP error, a wrong checksum, a folder that cannot be written.
    """
    import pooch
    import requests

    from dallrec_core.chain.progress import is_interactive

    name, kind = url.rsplit("/", 1)[-1], _algorithm(checksum)
    way_out = (
        f"Check the network and run again, or put the files into a folder FOLDER/{wanted} "
        "yourself and set DALLREC_DATA_DIR=FOLDER."
    )
    pooch.get_logger().setLevel(logging.WARNING)
    known = {name: f"{kind}:{checksum}" if checksum else None}
    store = pooch.create(folder, "", registry=known, urls={name: url}, retry_if_failed=RETRIES)
    if not (folder / name).is_file():
        print(f"downloading {url}")
    try:
        downloader = pooch.HTTPDownloader(progressbar=is_interactive(), timeout=30)
        return Path(store.fetch(name, downloader=downloader))
    except requests.RequestException as error:
        raise UserError(f"cannot download {url}: {_reason(error)}. {way_out}") from error
    except ValueError as error:
        raise UserError(
            f"{url} does not have the {kind} {checksum}: the download is incomplete or the file "
            f"has changed. Nothing was kept. {way_out}"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror or error}. Free some space, or set "
            "DALLREC_DATA_DIR to a folder that can be written."
        ) from error


def _reason(error: BaseException) -> str:
    """The first link of a chain of network errors, which is the one people understand."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error) or type(error).__name__


def _unpack(archive: Path, inside: str, folder: Path) -> int:
    """Unpack what lies directly in the folder ``inside`` of a zip; return how many files came.

    Files get their own names in ``folder``, so that none can leave it, and appear only when they
    are whole. Those that are there already stay as they are.
    """
    added = 0
    with zipfile.ZipFile(archive) as bundle:
        for member in bundle.infolist():
            path = PurePosixPath(member.filename)
            target = folder / path.name
            if path.parent == PurePosixPath(inside) and not member.is_dir() and not target.exists():
                with atomic(target) as partial:
                    partial.write_bytes(bundle.read(member))
                added += 1
    return added


def _algorithm(checksum: str) -> str:
    return "sha256" if len(checksum) == 64 else "md5"


def _verify(path: Path, known: str) -> tuple[str, bool]:
    if not known:
        return f"{path.name}: found (no checksum is known for it)", True
    name = _algorithm(known)
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, name).hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    if found == known:
        return f"{path.name}: verified ({name} {found})", True
    return f"{path.name} differs from the original edition ({name} {found}, not {known})", False
