r"""Books: the files of the Book-Crossing dump, damaged ISBNs, and titles that nobody knows.

The quoting of the dump's CSV files is broken in more than one way. Fields are quoted and separated
by ``;``. Quotes inside a field are escaped with a backslash (``\"``), or not at all; a few rows of
``BX-Books.csv`` escape the quote that should have ended the title, so that title and author run
together. No CSV reader knows this mixture, and one that skips what it does not understand loses
rows in silence. Here every row is read, repaired or counted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd

from dallrec_core.chain.pages import data_dir
from dallrec_core.data.checks import repr_value
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


@dataclass
class Dump:
    """One file of the dump."""

    path: Path
    """the file"""
    frame: pd.DataFrame
    """the columns asked for, as text; the index is the line number"""
    bad: dict[int, str]
    """line of each row that could not be used -> what is wrong with it"""
    repaired: int
    """rows whose title and author had run together"""

    def set_aside(self, column: str, wrong: pd.Series, what: str) -> None:
        """Count the rows where ``wrong`` is true because of a cell in ``column`` as malformed."""
        for line, cell in self.frame.loc[wrong, column].items():
            self.bad[int(str(line))] = f"column '{column}': {repr_value(cell)} {what}"
        self.frame = self.frame[~wrong]

    def remarks(self, so: str) -> list[str]:
        """What to tell the reader: malformed rows (``so``: what that means) and repaired ones.

        Raises:
            UserError: when so many rows are malformed that it must be another file.
        """
        rows, first = len(self.frame) + len(self.bad), min(self.bad, default=1)
        if len(self.bad) > _SPARE + rows // 100 or self.frame.empty:
            problem = self.bad.get(first, "there is no row below the header")
            more = f"{problem}; {len(self.bad):,} of {rows:,} rows are malformed"
            raise _not_the_dump(self.path, first, more)
        said = []
        if self.bad:
            said.append(
                f"{self.path.name}: {len(self.bad):,} malformed rows, the first on line {first} "
                f"({self.bad[first]}); {so}"
            )
        if self.repaired:
            what = "rows whose title and author had run together were repaired"
            said.append(f"{self.path.name}: {self.repaired:,} {what}")
        return said


def _not_the_dump(path: Path, line: int, problem: str) -> UserError:
    return UserError(
        f"{path}, line {line}: {problem}. The original dump has quoted fields separated by ';'. "
        "Put an original copy in its place, or read your own edition as dataset 'files'."
    )


def read_dump(path: Path, columns: Sequence[str]) -> Dump:
    """Read one CSV file of the dump. Blank lines are the only thing skipped.

    Args:
        path: the file; Latin-1 as in the original, or UTF-8.
        columns: those wanted, by the names of the header.

    Raises:
        UserError: absent, empty, or a missing column.
    """
    # Not splitlines: Latin-1 text holds control characters that it takes for line ends.
    lines = decode(read_bytes(path)).split("\n")
    names = [name.strip() for name in fields(lines[0].rstrip("\r"))]
    for column in columns:
        if column not in names:
            present = ", ".join(f"'{name}'" for name in names)
            raise _not_the_dump(path, 1, f"column '{column}' is missing; the file has {present}")
    rows: dict[int, list[str]] = {}
    bad: dict[int, str] = {}
    repaired = 0
    for number, line in enumerate(lines[1:], start=2):
        row = fields(line.rstrip("\r"))
        if len(row) == len(names) - 1:
            row = _parted(row)
            repaired += len(row) == len(names)
        if len(row) == len(names):
            rows[number] = row
        elif line.strip():
            bad[number] = f"{len(row)} fields where the header has {len(names)}"
    frame = pd.DataFrame(list(rows.values()), pd.Index(rows, name="line"), names, dtype="str")
    frame = frame[list(columns)]
    frame = frame.apply(lambda column: column.str.replace(_ESCAPED, r"\1", regex=True).str.strip())
    return Dump(path, frame, bad, repaired)


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


def has_catalogue() -> bool:
    """Tell whether a catalogue of titles is on this machine."""
    return any((data_dir() / FOLDER / name).is_file() for name in (BOOKS, CATALOGUE))


def read_catalogue(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """Read titles, authors, years and publishers by ISBN, and remarks about them.

    Taken from ``BX-Books.csv`` of the dump, else from ``items.tsv``: tab-separated without any
    quoting, with columns isbn10, title[, author, year, publisher]. Empty if neither is there.

    Raises:
        UserError: a missing column, a line with too many or few fields, a file that is not that.
    """
    notes: list[str] = []
    if (folder / BOOKS).is_file():
        dump = read_dump(folder / BOOKS, tuple(_BX_COLUMNS))
        notes = dump.remarks("their books keep their ISBN and lose their title")
        frame = dump.frame.rename(columns=_BX_COLUMNS)
    elif (folder / CATALOGUE).is_file():
        frame = read_tsv(folder / CATALOGUE)
    else:
        frame = pd.DataFrame(columns=["item_id", *_FACTS], dtype="str")
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
    frame = read_fields(path, "\t", names).iloc[1:].rename(columns={"isbn10": "item_id"})
    return frame[[name for name in ("item_id", *_FACTS) if name in frame]]


def has_title(isbns: Sequence[str], catalogue: pd.DataFrame) -> np.ndarray:
    """Tell which of these (repaired) ISBNs have a title in the catalogue; bool [rows]."""
    titled = catalogue.index[catalogue["title"].map(plain_text) != ""]
    return np.asarray(pd.Index(isbns).isin(titled))


def name_books(
    isbns: Sequence[str], catalogue: pd.DataFrame, index: pd.Index | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Return the items table of these (repaired, distinct) ISBNs, and remarks.

    Prompts name a book by its title, and an empty one is an error everywhere else. A book that
    the catalogue does not know is therefore called "Unknown book (ISBN 0006379702)" and counted.

    Args:
        isbns: one per item.
        catalogue: of :func:`read_catalogue`.
        index: row numbers for messages.
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
    return items if index is None else items.set_axis(index), notes


def plain_text(cell: object) -> str:
    """A cell of a catalogue without HTML entities, left-over backslashes and doubled spaces."""
    return " ".join(unescape(cell).replace("\\", "").split()) if isinstance(cell, str) else ""


def plain_years(column: pd.Series) -> tuple[np.ndarray, int]:
    """Years as int32 [rows], 0 where unknown, and how many were no year that can be meant."""
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    blank = column.fillna("").astype("str").str.strip().isin(["", "0"]).to_numpy(dtype=bool)
    good = (values >= YEARS[0]) & (values <= YEARS[1]) & (values == np.floor(values))
    return np.where(good, values, 0).astype(np.int32), int(np.count_nonzero(~good & ~blank))
