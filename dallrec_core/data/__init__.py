"""Datasets by name: embedded, downloaded, released by the authors, or the reader's own files."""

from __future__ import annotations

import difflib
import importlib
import inspect

from dallrec_core.data.base import Dataset, Split, Truth, make_dataset
from dallrec_core.data.download import ensure, is_here
from dallrec_core.data.origins import folder_of
from dallrec_core.data.saved import save
from dallrec_core.errors import UserError

__all__ = [
    "NAMES", "Dataset", "Split", "Truth", "load", "make_dataset", "require", "save",
]  # fmt: skip

_LOADERS = {
    "matinee": ("matinee", "load_matinee"),
    "ml-100k": ("movielens", "load_ml_100k"),
    "ml-1m": ("movielens", "load_ml_1m"),
    "book-crossing": ("bookcrossing", "load_book_crossing"),
    "published": ("published", "load_published"),
    "published-book": ("published", "load_published_book"),
    "released-edges": ("released_edges", "load_released_edges"),
    "files": ("files", "load_files"),
}
NAMES = tuple(_LOADERS)
"""Names that :func:`load` knows."""


def load(name: str, **options: object) -> Dataset:
    """Load a dataset by name; print ``dataset.summary()`` to show what was left out.

    Args:
        name: one of ``NAMES``.
        options: passed to the loader, e.g. ``interactions_path=`` and ``items_path=`` for "files".

    Raises:
        UserError: unknown name or option, missing or malformed files, no network.
    """
    check_name(name)
    module, function = _LOADERS[name]
    loader = getattr(importlib.import_module(f"dallrec_core.data.{module}"), function)
    known = list(inspect.signature(loader).parameters)
    for option in options:
        if option not in known:
            valid = ", ".join(known) or "none"
            raise UserError(f"dataset '{name}' has no option '{option}'. Its options: {valid}.")
    return loader(**options)


def require(name: str, download: bool = False) -> None:
    """Make sure that the files of a dataset are on this machine.

    Args:
        name: of the dataset.
        download: fetch what is missing.

    Raises:
        UserError: naming the command that fetches them, or as downloading does.
    """
    if download:
        ensure(folder_of(name))
    elif not is_here(name):
        raise UserError(
            f"the files of `{folder_of(name)}` are not on this machine; `dallrec data {name}` "
            "fetches and verifies them, and DALLREC_DATA_DIR names a folder that has them already"
        )


def check_name(name: str) -> None:
    """Refuse an unknown dataset name.

    Raises:
        UserError: listing the valid names, with the closest one where there is one.
    """
    if name in NAMES:
        return
    close = difflib.get_close_matches(str(name).lower(), NAMES, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    raise UserError(f"there is no dataset '{name}'.{hint} Valid names: {', '.join(NAMES)}.")
