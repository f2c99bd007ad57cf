r"""The CSV files of the Book-Crossing dump, whose quoting is broken in more than one way.

Fields are quoted and separated by ``;``. Quotes inside a field are escaped with a backslash
(``\"``), or not at all; a few rows of ``BX-Books.csv`` escape the quote that should have ended the
title, so that title and author run together. No CSV reader knows this mixture, and one that skips
what it does not understand loses rows in silence. Here every row is read, repaired or counted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dallrec_core.data.checks import repr_value
from dallrec_core.data.tables import decode, read_bytes
from dallrec_core.errors import UserError

_BETWEEN = re.compile(r'(?<!\\)(?:\\\\)*";"')  # an even number of backslashes escapes no quote
_ESCAPED = re.compile(r'\\(["\\])')
_RUN_TOGETHER = re.compile(r'\\?";')
_SPARE = 10  # malformed rows that a file of any size may have; beyond, one in a hundred


@dataclass(frozen=True)
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

    def without(self, column: str, wrong: pd.Series, what: str) -> Dump:
        """Set aside the rows where ``wrong`` is true because of a cell in ``column``."""
        cells = self.frame.loc[wrong, column]
        bad = {
            int(line): f"column '{column}': {repr_value(cell)} {what}"
            for line, cell in cells.items()
        }
        return Dump(self.path, self.frame[~wrong], {**self.bad, **bad}, self.repaired)

    def checked(self) -> Dump:
        """Return this table unless so many rows are malformed that it must be another file.

        Raises:
            UserError: naming the first malformed row and its column.
        """
        rows = len(self.frame) + len(self.bad)
        if len(self.bad) > _SPARE + rows // 100 or self.frame.empty:
            first = min(self.bad, default=1)
            problem = self.bad.get(first, "there is no row below the header")
            raise UserError(
                f"{self.path}, line {first}: {problem}; {len(self.bad):,} of {rows:,} rows are "
                "malformed. The original dump has quoted fields separated by ';'. Put an original "
                "copy in its place, or read your own edition as dataset 'files'."
            )
        return self

    def remarks(self, so: str) -> list[str]:
        """What to tell the reader: malformed rows (``so``: what that means) and repaired ones."""
        said = []
        if self.bad:
            first = min(self.bad)
            said.append(
                f"{self.path.name}: {len(self.bad):,} malformed rows, the first on line {first} "
                f"({self.bad[first]}); {so}"
            )
        if self.repaired:
            what = "rows whose title and author had run together were repaired"
            said.append(f"{self.path.name}: {self.repaired:,} {what}")
        return said


def read_dump(path: Path, columns: Sequence[str]) -> Dump:
    """Read one CSV file of the dump. Blank lines are the only thing skipped.

    Args:
        path: the file; Latin-1 as in the original, or UTF-8.
        columns: those wanted, by the names of the header.

    Raises:
        UserError: absent, empty or another file: a missing column, or too many malformed rows.
    """
    # Not splitlines: Latin-1 text holds control characters that it takes for line ends.
    lines = decode(read_bytes(path)).split("\n")
    names = [name.strip() for name in fields(lines[0].rstrip("\r"))]
    missing = [column for column in columns if column not in names]
    if missing:
        present = ", ".join(f"'{name}'" for name in names)
        raise UserError(
            f"{path}, line 1: column '{missing[0]}' is missing; the file has {present}. The "
            "original dump has quoted fields separated by ';'. Put an original copy in its place, "
            "or read your own edition as dataset 'files'."
        )
    places = [names.index(column) for column in columns]
    rows: list[list[str]] = []
    numbers: list[int] = []
    bad: dict[int, str] = {}
    repaired = 0
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        row = fields(line.rstrip("\r"))
        if len(row) == len(names) - 1:
            row = _parted(row)
            repaired += len(row) == len(names)
        if len(row) != len(names):
            bad[number] = f"{len(row)} fields where the header has {len(names)}"
            continue
        rows.append([row[place] for place in places])
        numbers.append(number)
    frame = pd.DataFrame(rows, columns=list(columns), index=numbers, dtype="str")
    frame = frame.apply(lambda column: column.str.replace(_ESCAPED, r"\1", regex=True).str.strip())
    return Dump(path, frame, bad, repaired).checked()


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
