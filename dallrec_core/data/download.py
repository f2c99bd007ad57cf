"""Fetch data from its original place, or use and verify the files a reader already has.

Files are looked for in ``DALLREC_DATA_DIR/<name>/``, or below the platform's cache folder when the
variable is not set. What is missing there is downloaded: checked by its checksum, retried, and
moved into place only when it is complete.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from zlib import error as ZlibError

from dallrec_core.chain.places import data_dir as data_dir
from dallrec_core.data.origins import RECIPES, Recipe, folder_of
from dallrec_core.errors import UserError

RETRIES = 3


@dataclass(frozen=True)
class Located:
    """A dataset's files on this machine."""

    folder: Path
    """holds every required file"""
    lines: tuple[str, ...]
    """what was found or fetched, one line per file"""
    notes: tuple[str, ...]
    """files that differ from the original edition"""
    fetched: bool
    """whether anything was downloaded or unpacked"""


def is_here(name: str) -> bool:
    """Tell whether all files of a dataset are on this machine; nothing is fetched.

    Args:
        name: as :func:`folder_of` takes it.

    Raises:
        UserError: as :func:`data_dir`.
    """
    folder = data_dir() / folder_of(name)
    return all((folder / file).is_file() for file in RECIPES[folder_of(name)].files)


def locate(name: str) -> Located:
    """Find a dataset's files, fetching what is missing, and verify them.

    Args:
        name: a key of ``RECIPES``.

    Raises:
        UserError: no network, a failed checksum, a bad archive, a folder that cannot be written.
    """
    recipe = RECIPES[name]
    folder = data_dir() / name
    missing = [file for file in recipe.files if not (folder / file).is_file()]
    lines: list[str] = []
    if missing:
        lines = _fetch_missing(recipe, name, folder, missing)
    notes = []
    for file, known in {**recipe.files, **recipe.optional}.items():
        if (folder / file).is_file():
            line, same = _verify(folder / file, known)
            lines.append(line)
            if not same:
                notes.append(line)
    return Located(folder, tuple(lines), tuple(notes), fetched=bool(missing))


def ensure(name: str) -> Path:
    """Return the folder with a dataset's files; print what was fetched or differs, if anything.

    Raises:
        UserError: as :func:`locate`.
    """
    located = locate(name)
    for line in located.lines if located.fetched else located.notes:
        print(line)
    return located.folder


def fetch_or_verify(name: str) -> list[str]:
    """Fetch or verify a dataset by the name readers use; return lines to print.

    Raises:
        UserError: an unknown name, and as :func:`locate`.
    """
    from dallrec_core.data import check_name

    check_name(name)
    if name == "matinee":
        return ["matinee is embedded in the package; there is nothing to fetch"]
    if name == "files":
        return ["dataset 'files' reads your own files; there is nothing to fetch"]
    located = locate(folder_of(name))
    return [f"{name}: {located.folder}", *(f"  {line}" for line in located.lines)]


def _fetch_missing(recipe: Recipe, name: str, folder: Path, missing: list[str]) -> list[str]:
    if not recipe.archive_md5:
        for file in missing:
            fetch(f"{recipe.url}/{file}", recipe.files[file], folder, wanted=name)
        return [f"{recipe.url}/{file}: fetched into {folder}" for file in missing]
    archive = fetch(recipe.url, recipe.archive_md5, folder.parent, wanted=name)
    added = extract(archive, folder, inside=recipe.inside)
    lost = [file for file in missing if not (folder / file).is_file()]
    if lost:
        raise UserError(f"{archive} does not hold {', '.join(lost)}. Delete it and run again.")
    return [f"{recipe.url}: md5 verified, {len(added)} files unpacked into {folder}"]


def fetch(url: str, checksum: str, folder: Path, *, wanted: str = "") -> Path:
    """Download one file into ``folder`` unless it is there with the right checksum.

    The file gets its name only once its checksum is right; failed tries are repeated ``RETRIES``
    times and leave nothing behind.

    Args:
        url: where from; the last part is the file's name.
        checksum: expected md5 or sha256.
        folder: where to.
        wanted: the folder below ``DALLREC_DATA_DIR`` where messages say to put files by hand.

    Raises:
        UserError: no network, an HTTP error, a wrong checksum, a folder that cannot be written.
    """
    import pooch
    import requests

    from dallrec_core.chain.progress import is_interactive

    name, known = url.rsplit("/", 1)[-1], f"{_algorithm(checksum)}:{checksum}"
    way_out = (
        f"Check the network and run again, or put the files into a folder FOLDER/{wanted or name} "
        "yourself and set DALLREC_DATA_DIR=FOLDER."
    )
    pooch.get_logger().setLevel(logging.WARNING)
    store = pooch.create(folder, "", registry={name: known}, urls={name: url})
    store.retry_if_failed = RETRIES
    if not (folder / name).is_file():
        print(f"downloading {url}")
    try:
        downloader = pooch.HTTPDownloader(progressbar=is_interactive(), timeout=30)
        return Path(store.fetch(name, downloader=downloader))
    except requests.RequestException as error:
        raise UserError(f"cannot download {url}: {_reason(error)}. {way_out}") from error
    except ValueError as error:
        raise UserError(
            f"{url} does not have the {known.replace(':', ' ')}: the download is incomplete or the "
            f"file has changed. Nothing was kept. {way_out}"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror or error}. Free some space, or set "
            "DALLREC_DATA_DIR to a folder that can be written."
        ) from error


def _reason(error: Exception) -> str:
    """The last link of a chain of network errors, which is the one people understand."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answered {response.status_code} {response.reason}"
    cause: BaseException = error
    while cause.__context__ is not None:
        cause = cause.__context__
    return str(cause) or type(cause).__name__


def extract(archive: Path, folder: Path, *, inside: str = "") -> list[Path]:
    """Unpack the members below ``inside`` of a zip into ``folder`` and return the files added.

    Everything is unpacked and its checksums are verified in ``<folder>.partial`` first; files
    that are already in ``folder`` stay as they are.

    Args:
        archive: the zip file.
        folder: where the files go; made if absent.
        inside: only members below this folder of the archive, which is taken off their paths.

    Raises:
        UserError: not a zip, truncated or corrupt, a member that would leave the folder (absolute
            path, "..", link), no member found, a folder that cannot be written, a full disk.
    """
    partial = folder.with_name(folder.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        with zipfile.ZipFile(archive) as bundle:
            for member in bundle.infolist():
                _refuse_escape(member, archive)
            bundle.extractall(partial)
        root = partial / inside
        files = [path for path in sorted(root.rglob("*")) if path.is_file()]
        if not files:
            raise UserError(f"{archive} holds no file below '{inside}'. Is it the right archive?")
        added = [file for file in files if not (folder / file.relative_to(root)).exists()]
        for file in added:
            target = folder / file.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
        return [folder / file.relative_to(root) for file in added]
    except (zipfile.BadZipFile, EOFError, ZlibError, NotImplementedError, RuntimeError) as error:
        raise UserError(
            f"{archive} is not a complete zip archive ({error}). Delete it and run again."
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot unpack {archive} into {folder}: {error.strerror or error}. Free some space, "
            "or set DALLREC_DATA_DIR to a folder that can be written."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _refuse_escape(member: zipfile.ZipInfo, archive: Path) -> None:
    """Refuse a link, and a path that is absolute, goes up, or names a drive."""
    path = PurePosixPath(member.orig_filename.replace("\\", "/"))
    leaves = path.is_absolute() or ".." in path.parts or ":" in path.parts[0]
    if leaves or stat.S_ISLNK(member.external_attr >> 16):
        raise UserError(
            f"{archive}: member {member.orig_filename!r} would leave the folder it is unpacked "
            "into. Nothing was unpacked; delete the archive and fetch it from its original place."
        )


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
