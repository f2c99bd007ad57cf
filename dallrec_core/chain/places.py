"""Where things live: the notebooks, the runs with their artefacts, and data files."""

from __future__ import annotations

import os
import re
from pathlib import Path

from dallrec_core.errors import UserError

PACKAGE = Path(__file__).resolve().parents[1]
"""Where the library is; an installed one holds a copy of the notebooks."""


def project_root() -> Path | None:
    """Return the nearest folder above the current one, or the package's, that holds the book."""
    for folder in (Path.cwd(), *Path.cwd().parents, PACKAGE.parent):
        if (folder / "_config.yml").is_file() and (folder / "notebooks").is_dir():
            return folder
    return None


def book_root() -> Path:
    """Return the folder of the book's sources, or the package with its copy of the notebooks.

    Raises:
        UserError: when there are no notebooks, neither here nor in the package.
    """
    root = project_root() or (PACKAGE if (PACKAGE / "notebooks").is_dir() else None)
    if root is None:
        raise UserError(
            f"no notebooks at or above {Path.cwd()}; clone the repository and run this inside it"
        )
    return root


def notebooks_dir() -> Path:
    """Return the folder of the committed notebooks, in which they are executed."""
    return book_root() / "notebooks"


def runs_dir() -> Path:
    """Return the folder of all runs: `DALLREC_RUNS_DIR`, else `runs` beside the notebooks."""
    named = os.environ.get("DALLREC_RUNS_DIR")
    return Path(named).resolve() if named else (project_root() or Path.cwd()) / "runs"


def run_dir(run: str) -> Path:
    """Return the folder of one run.

    Raises:
        UserError: when the name could not be a folder of its own inside the runs.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", run) or run == "cache":
        raise UserError(
            f"'{run}' cannot name a run: use letters, digits, '.', '_' and '-' (and not 'cache')"
        )
    return runs_dir() / run


def cache_dir() -> Path:
    """Return the platform's folder for what can be fetched or made again."""
    import pooch

    return Path(pooch.os_cache("dallrec"))


def data_dir() -> Path:
    """Return the folder of data files: `DALLREC_DATA_DIR`, else the platform's cache folder.

    Raises:
        UserError: when the variable names something that is not a folder.
    """
    named = os.environ.get("DALLREC_DATA_DIR", "")
    if not named:
        return cache_dir()
    folder = Path(named).expanduser().resolve()
    if not folder.is_dir():
        raise UserError(
            f"DALLREC_DATA_DIR is {named}, which is not a folder. Create it or correct the "
            "variable; unset it to use the cache folder."
        )
    return folder
