"""Datasets by name: embedded, downloaded, released by the authors, or the reader's own files."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial

from pydantic import ConfigDict, ValidationError, validate_call

from dallrec_core.data.base import Dataset, Split, Truth, make_dataset
from dallrec_core.data.checks import check_choice
from dallrec_core.data.download import ORIGINS, is_here, locate
from dallrec_core.data.files import load_files
from dallrec_core.data.matinee import load_matinee
from dallrec_core.data.named import load_book_crossing, load_named
from dallrec_core.data.published import load_published, load_published_book, load_released_edges
from dallrec_core.data.splits import save
from dallrec_core.errors import UserError

__all__ = [
    "NAMES", "Dataset", "Split", "Truth", "fetch_or_verify", "load", "make_dataset", "require",
    "save",
]  # fmt: skip

_LOADERS: dict[str, Callable[..., Dataset]] = {
    "matinee": load_matinee,
    "book-crossing": load_book_crossing,
    "published": load_published,
    "published-book": load_published_book,
    "released-edges": load_released_edges,
    "files": load_files,
}
_LOADERS |= {name: partial(load_named, name) for name in ORIGINS if name not in _LOADERS}
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
    check_choice("dataset", name, NAMES)
    loader = _LOADERS[name]
    try:
        return validate_call(config=ConfigDict(strict=True))(loader)(**options)
    except ValidationError as error:
        wrong = "; ".join(f"{e['loc'][0]}={e['input']!r}: {e['msg']}" for e in error.errors())
        valid = ", ".join(inspect.signature(loader).parameters) or "none"
        raise UserError(f"dataset '{name}', {wrong}. Its options: {valid}.") from error


def require(name: str, download: bool = False) -> None:
    """Make sure that the files of a dataset are on this machine.

    Args:
        name: of the dataset.
        download: fetch what is missing.

    Raises:
        UserError: naming the command that fetches them, or as downloading does.
    """
    if is_here(name):
        return
    if not download:
        raise UserError(
            f"the files of `{ORIGINS[name].folder}` are not on this machine; `dallrec data {name}` "
            "fetches and verifies them, and DALLREC_DATA_DIR names a folder that has them already"
        )
    locate(name)


def fetch_or_verify(name: str) -> list[str]:
    """Fetch a dataset, or verify the copy that is on this machine; return lines to print.

    Raises:
        UserError: an unknown name, no network, a failed checksum.
    """
    check_choice("dataset", name, NAMES)
    if name not in ORIGINS:
        what = "is embedded in the package" if name == "matinee" else "reads your own files"
        return [f"dataset '{name}' {what}; there is nothing to fetch"]
    located = locate(name)
    return [f"{name}: {located.folder}", *(f"  {line}" for line in located.lines)]
