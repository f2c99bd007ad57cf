"""Unpack a zip archive without trusting it."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath
from zlib import error as ZlibError

from dallrec_core.errors import UserError

_CHUNK = 1 << 20


def extract(archive: Path, folder: Path, *, inside: str = "") -> list[Path]:
    """Unpack the members below ``inside`` of a zip into ``folder``.

    Everything is unpacked and its checksums are verified in ``<folder>.partial`` first; files
    that are already in ``folder`` stay as they are.

    Args:
        archive: the zip file.
        folder: where the files go; made if absent.
        inside: only members below this folder of the archive, which is taken off their paths.

    Returns:
        The files that were added.

    Raises:
        UserError: not a zip, truncated or corrupt, a member that would leave the folder (absolute
            path, "..", link), no member found, a folder that cannot be written, a full disk.
    """
    partial = folder.with_name(folder.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        _unpack(archive, partial, inside)
        return _move_in(partial, folder)
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


def _unpack(archive: Path, partial: Path, inside: str) -> None:
    with zipfile.ZipFile(archive) as bundle:
        paths = {info: safe_path(info, archive) for info in bundle.infolist()}
        root = PurePosixPath(inside)
        chosen = {
            info: path.relative_to(root)
            for info, path in paths.items()
            if not info.is_dir() and path.is_relative_to(root)
        }
        if not chosen:
            raise UserError(f"{archive} holds no file below '{inside}'. Is it the right archive?")
        for info, path in chosen.items():
            target = partial / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with bundle.open(info) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, _CHUNK)


def safe_path(info: zipfile.ZipInfo, archive: Path) -> PurePosixPath:
    """Return a member's path inside its archive.

    Raises:
        UserError: when the path is absolute, goes up, names a drive, or the member is a link.
    """
    name = info.orig_filename
    path = PurePosixPath(name.replace("\\", "/"))
    leaves = path.is_absolute() or ".." in path.parts or PureWindowsPath(name).drive or "\0" in name
    if leaves or stat.S_ISLNK(info.external_attr >> 16):
        raise UserError(
            f"{archive}: member {name!r} would leave the folder it is unpacked into. Nothing was "
            "unpacked; delete the archive and fetch it from its original place."
        )
    return path


def _move_in(partial: Path, folder: Path) -> list[Path]:
    """Rename each finished file to its place unless one is there already."""
    added = []
    for file in sorted(path for path in partial.rglob("*") if path.is_file()):
        target = folder / file.relative_to(partial)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
            added.append(target)
    return added
