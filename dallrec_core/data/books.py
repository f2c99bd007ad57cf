r"""Catalogues of books by ISBN, and the dump of Book-Crossing in its own form of CSV.

The quoting of the dump's files is broken in more than one way. Fields are quoted and separated by
``;``. Quotes inside a field are escaped with a backslash (``\"``), or not at all; three rows of
``BX-Books.csv`` escape the quote that should have ended the title. No CSV reader knows this
mixture, and one that skips what it does not understand loses rows in silence. Here every row is
read or counted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd

from dallrec_core.data.checks import repr_value
from dallrec_core.data.tables import read_fields, read_text
from dallrec_core.errors import UserError

UNTITLED = "interactions of books without a known title"
"""What loaders call the interactions they leave out for that reason."""
YEARS = (1000, 2005)
"""Years that a reader of 2004 can mean; others are slips of the catalogue and become 0."""
FOLDER = "bookcrossing"
"""Folder below the data folder that holds the dump or a catalogue."""
BOOKS, RATINGS = "BX-Books.csv", "BX-Book-Ratings.csv"
CATALOGUE = "items.tsv"

_BX_COLUMNS = {
    "ISBN": "item_id",
    "Book-Title": "title",
    "Book-Author": "author",
    "Year-Of-Publication": "year",
    "Publisher": "publisher",
}
_FACTS = ["title", "author", "year", "publisher"]
_NOBODY = re.compile(r"(?:n/?a|none|unknown|-|not applicable.*)", re.IGNORECASE)
_BETWEEN = re.compile(r'(?<!\\)(?:\\\\)*";"')  # an even number of backslashes escapes no quote
_ESCAPED = re.compile(r'\\(["\\])')
_RUN_TOGETHER = re.compile(r'\\?";')
_SPARE = 10  # malformed rows that a file of any size may have; beyond, one in a hundred


# ---------------------------------------------------------------- the files of the dump


def _not_the_dump(path: Path, line: int, problem: str) -> UserError:
    return UserError(
        f"{path}, line {line}: {problem}. The original dump has quoted fields separated by ';'. "
        "Put an original copy in its place, or read your own edition as dataset 'files'."
    )


def read_dump(path: Path, columns: Mapping[str, str]) -> tuple[pd.DataFrame, int, list[str]]:
    """Read one CSV file of the dump. Blank lines are the only thing skipped unsaid.

    Args:
        path: the file; Latin-1 as in the original, or UTF-8.
        columns: name in the header -> pattern that its cells match in full.

    Returns:
        these columns as text, the index being the line number; how many rows are malformed and
        left out; remarks about them and about repaired rows.

    Raises:
        UserError: absent, empty, a missing column, or so many malformed rows that it must be
            another file.
    """
    # Not splitlines: Latin-1 text holds control characters that it takes for line ends.
    lines = pd.Series(read_text(path).split("\n")).str.rstrip("\r")
    rows = lines[lines.str.strip() != ""].map(fields)
    rows.index += 1
    names = [name.strip() for name in rows.iloc[0]]
    for column in columns:
        if column not in names:
            present = ", ".join(f"'{name}'" for name in names)
            raise _not_the_dump(path, 1, f"column '{column}' is missing; the file has {present}")
    rows = rows.iloc[1:]
    short = rows.str.len() == len(names) - 1
    rows[short] = rows[short].map(_parted)
    whole = rows.str.len() == len(names)
    bad = {
        n: f"{len(row)} fields where the header has {len(names)}" for n, row in rows[~whole].items()
    }
    frame = pd.DataFrame(rows[whole].tolist(), pd.Index(rows.index[whole], name="line"), names)
    frame = frame[list(columns)].astype("str")
    for column, pattern in columns.items():
        frame[column] = frame[column].str.replace(_ESCAPED, r"\1", regex=True).str.strip()
        wrong = ~frame[column].str.fullmatch(pattern).astype(bool)
        for line, cell in frame.loc[wrong, column].items():
            bad[line] = f"column '{column}': {repr_value(cell)} does not belong there"
        frame = frame[~wrong]
    first = min(bad, default=1)
    if len(bad) > _SPARE + len(rows) // 100 or frame.empty:
        problem = bad.get(first, "there is no row below the header")
        more = f"{problem}; {len(bad):,} of {len(rows):,} rows are malformed"
        raise _not_the_dump(path, first, more)
    notes = []
    if bad:
        what = f"{len(bad):,} malformed rows, the first on line {first} ({bad[first]}), left out"
        notes.append(f"{path.name}: {what}")
    if repaired := int((short & whole).sum()):
        what = "rows whose title and author had run together were repaired"
        notes.append(f"{path.name}: {repaired:,} {what}")
    return frame, len(bad), notes


def fields(line: str) -> list[str]:
    """Split a row into its fields, without the quotes around them; escapes stay."""
    if len(line) < 2 or not (line.startswith('"') and line.endswith('"')):
        return line.split(";") if '"' not in line else [line]
    body = line[1:-1]
    return _BETWEEN.split(body) if "\\" in body else body.split('";"')


def _parted(row: list[str]) -> list[str]:
    """Part a field at the escaped quote that should have ended it, if there is just one."""
    places = [place for place, field in enumerate(row) if len(_RUN_TOGETHER.findall(field)) == 1]
    if len(places) != 1:
        return row
    place = places[0]
    return [*row[:place], *_RUN_TOGETHER.split(row[place]), *row[place + 1 :]]


# ---------------------------------------------------------------- catalogues


def repair_isbn(text: str) -> str:
    """Return an ISBN as it is printed: ten characters, leading zeros back, a final X capital.

    A table that once held ISBNs as numbers has "6379702" for "0006379702". Anything else than an
    ISBN (Book-Crossing has a few ASINs) only becomes upper case.
    """
    return text.strip().upper().zfill(10)


def read_catalogue(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """Read titles, authors, years and publishers by ISBN, and remarks about them.

    Taken from ``BX-Books.csv`` of the dump, else from ``items.tsv``: tab-separated without any
    quoting, with columns isbn10, title[, author, year, publisher]. Empty if neither is there.

    Raises:
        UserError: a missing column, a line with too many or few fields, a file that is not that.
    """
    frame, notes = pd.DataFrame(columns=["item_id", *_FACTS], dtype="str"), list[str]()
    if (folder / BOOKS).is_file():
        frame, _, notes = read_dump(folder / BOOKS, dict.fromkeys(_BX_COLUMNS, "(?s:.*)"))
        frame = frame.rename(columns=_BX_COLUMNS)
    elif (folder / CATALOGUE).is_file():
        table = read_fields(folder / CATALOGUE, "\t")
        table.require("isbn10", "title")
        frame = table.frame.rename(columns={"isbn10": "item_id"})
    frame = frame.assign(item_id=[repair_isbn(text) for text in frame["item_id"]])
    # Of two entries of a book the one with a title counts.
    frame = frame.iloc[np.argsort(frame["title"].str.strip() == "", kind="stable")]
    repeated = frame.duplicated("item_id")
    if repeated.any():
        notes.append(f"catalogue: {int(repeated.sum()):,} books listed again under the same ISBN")
    return frame[~repeated].set_index("item_id"), notes


def titled(catalogue: pd.DataFrame) -> set[str]:
    """Return the (repaired) ISBNs that have a title in the catalogue."""
    return set(catalogue.index[catalogue["title"].map(plain_text) != ""])


def name_books(isbns: Sequence[str], catalogue: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the items table of these (repaired, distinct) ISBNs, and remarks.

    Prompts name a book by its title, and an empty one is an error everywhere else. A book that
    the catalogue does not know is therefore called "Unknown book (ISBN 0006379702)" and counted.

    Args:
        isbns: one per item.
        catalogue: of :func:`read_catalogue`.
    """
    isbn = pd.Series(list(isbns), dtype="str")
    items = catalogue.reindex(index=isbn, columns=_FACTS).reset_index(drop=True)
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
    return items, notes


def plain_text(cell: object) -> str:
    """A cell of a catalogue without HTML entities, left-over backslashes and doubled spaces."""
    return " ".join(unescape(cell).replace("\\", "").split()) if isinstance(cell, str) else ""


def plain_years(column: pd.Series) -> tuple[np.ndarray, int]:
    """Years as int32 [rows], 0 where unknown, and how many were no year that can be meant."""
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    blank = (values == 0) | column.isna() | (column.astype("str").str.strip() == "")
    good = (values >= YEARS[0]) & (values <= YEARS[1]) & (values == np.floor(values))
    return np.where(good, values, 0).astype(np.int32), int((~good & ~blank).sum())
