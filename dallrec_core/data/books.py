"""Books: ISBNs that lost their zeros, catalogues of titles, and books that nobody named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd

from dallrec_core.data.bx_dump import read_dump
from dallrec_core.data.download import data_dir
from dallrec_core.data.tables import decode, read_bytes, read_fields
from dallrec_core.errors import UserError

UNTITLED = "interactions of books without a known title"
"""What loaders call the interactions they leave out for that reason."""
YEARS = (1000, 2005)
"""Years that a reader of 2004 can mean; others are slips of the catalogue and become 0."""
FOLDER = "bookcrossing"
"""Folder below the data folder that holds the dump or a catalogue."""
BOOKS = "BX-Books.csv"
CATALOGUE = "items.tsv"
COLUMNS = ["title", "author", "year", "publisher"]

_BX_COLUMNS = {
    "ISBN": "item_id",
    "Book-Title": "title",
    "Book-Author": "author",
    "Year-Of-Publication": "year",
    "Publisher": "publisher",
}
_TSV_COLUMNS = {"isbn10": "item_id", **{name: name for name in COLUMNS}}
_NOBODY = re.compile(r"(?:n/?a|none|unknown|not applicable.*)", re.IGNORECASE)


def repair_isbn(text: str) -> str:
    """Return an ISBN as it is printed: ten characters, leading zeros back, a final X capital.

    A table that once held ISBNs as numbers has "6379702" for "0006379702". Anything else than an
    ISBN (Book-Crossing has a few ASINs) only becomes upper case.
    """
    return text.strip().upper().zfill(10)


def has_catalogue() -> bool:
    """Tell whether a catalogue of titles is on this machine."""
    return any((data_dir() / FOLDER / name).is_file() for name in (BOOKS, CATALOGUE))


def read_catalogue(folder: Path) -> tuple[pd.DataFrame | None, list[str]]:
    """Read titles, authors, years and publishers by ISBN, and remarks about them.

    Taken from ``BX-Books.csv`` of the dump, else from ``items.tsv``: tab-separated without any
    quoting, with columns isbn10, title[, author, year, publisher]. None if neither is there.

    Raises:
        UserError: a missing column, a line with too many or few fields, a file that is not that.
    """
    if (folder / BOOKS).is_file():
        dump = read_dump(folder / BOOKS, tuple(_BX_COLUMNS))
        frame = dump.frame.rename(columns=_BX_COLUMNS)
        notes = dump.remarks("their books keep their ISBN and lose their title")
    elif (folder / CATALOGUE).is_file():
        frame, notes = read_tsv(folder / CATALOGUE), []
    else:
        return None, []
    frame = frame.assign(item_id=[repair_isbn(text) for text in frame["item_id"]])
    # Of two entries of a book the one with a title counts.
    frame = frame.iloc[np.argsort(frame["title"].str.strip() == "", kind="stable")]
    repeated = frame.duplicated("item_id")
    if repeated.any():
        notes.append(f"catalogue: {int(repeated.sum()):,} books listed again under the same ISBN")
    return frame[~repeated].set_index("item_id"), notes


def read_tsv(path: Path) -> pd.DataFrame:
    """Read ``items.tsv`` as text; the index is the line number.

    Raises:
        UserError: naming the missing column, or the first line with a wrong number of fields.
    """
    names = decode(read_bytes(path)).splitlines()[0].split("\t")
    for column in ("isbn10", "title"):
        if column not in names:
            present = ", ".join(f"'{name}'" for name in names)
            raise UserError(
                f"{path}, line 1: column '{column}' is missing; the file has {present}. It must "
                "be separated by tabs and name isbn10 and title; author, year and publisher help."
            )
    frame = read_fields(path, "\t", names).iloc[1:]
    return frame[[name for name in _TSV_COLUMNS if name in frame]].rename(columns=_TSV_COLUMNS)


def check_switches(**options: object) -> None:
    """Refuse options that are neither True nor False.

    Raises:
        UserError: naming the option.
    """
    for name, value in options.items():
        if not isinstance(value, bool):
            raise UserError(f"{name} is {value!r}; it must be true or false.")


def has_title(isbns: Sequence[str], catalogue: pd.DataFrame | None) -> np.ndarray:
    """Tell which of these (repaired) ISBNs have a title in the catalogue; bool [rows]."""
    if catalogue is None:
        return np.zeros(len(isbns), dtype=bool)
    titled = catalogue.index[catalogue["title"].map(plain_text) != ""]
    return np.asarray(pd.Index(isbns).isin(titled))


def name_books(
    isbns: Sequence[str], catalogue: pd.DataFrame | None, index: pd.Index | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Return the items table of these (repaired, distinct) ISBNs, and remarks.

    Prompts name a book by its title, and an empty one is an error everywhere else. A book that
    the catalogue does not know is therefore called "Unknown book (ISBN 0006379702)" and counted.

    Args:
        isbns: one per item.
        catalogue: of :func:`read_catalogue`; None where there is none.
        index: row numbers for messages.
    """
    known = pd.DataFrame(columns=COLUMNS, dtype="str") if catalogue is None else catalogue
    isbn = pd.Series(list(isbns), dtype="str")
    items = known.reindex(index=isbn, columns=COLUMNS).reset_index(drop=True)
    items.insert(0, "item_id", isbn)
    for column in ("title", "author", "publisher"):
        items[column] = [plain_text(text) for text in items[column]]
    items["author"] = items["author"].mask(items["author"].str.fullmatch(_NOBODY), "")
    nameless = items["title"] == ""
    items["title"] = items["title"].where(~nameless, "Unknown book (ISBN " + isbn + ")")
    notes = []
    if nameless.any():
        notes.append(
            f"{int(nameless.sum()):,} of {len(items):,} books have no known title and are called "
            f"'Unknown book (ISBN …)'"
        )
    items["year"], odd = plain_years(items["year"])
    if odd:
        low, high = YEARS
        notes.append(f"{odd:,} books have a year outside {low} to {high}; it counts as unknown")
    return items if index is None else items.set_axis(index), notes


def plain_text(cell: object) -> str:
    """A cell of a catalogue without HTML entities, left-over backslashes and doubled spaces."""
    if not isinstance(cell, str):
        return ""
    return " ".join(unescape(cell).replace("\\", "").split())


def plain_years(column: pd.Series) -> tuple[np.ndarray, int]:
    """Years as int32 [rows], 0 where unknown, and how many were no year that can be meant."""
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    blank = column.fillna("").astype("str").str.strip().isin(["", "0"]).to_numpy(dtype=bool)
    good = (values >= YEARS[0]) & (values <= YEARS[1]) & (values == np.floor(values))
    return np.where(good, values, 0).astype(np.int32), int(np.count_nonzero(~good & ~blank))
