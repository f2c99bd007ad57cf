"""The one validator of tables: each failure names the file, the row, the column and the remedy.

Nothing here changes or drops a row. A frame's index holds the row numbers that messages show.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from dallrec_core.errors import UserError


@dataclass(frozen=True)
class Kind:
    """What the cells of a column of numbers must be."""

    what: str
    """in words, for "'x' is not …" """
    remedy: str
    """what to do about a cell that is not"""
    low: float = -np.inf
    """smallest value"""
    high: float = np.inf
    """largest value"""
    whole: bool = False
    """whether fractions are refused"""
    blank: float | None = None
    """what a blank cell stands for; None refuses it"""


NUMBERS = {
    "rating": Kind(
        "a finite number", "Write a number with a point as decimal sign, or remove the row."
    ),
    "timestamp": Kind(
        "a whole number of seconds since 1970, 0 or more",
        "Correct it, remove the row, or leave the timestamp column out.",
        low=0,
        high=2.0**62,
        whole=True,
    ),
    "year": Kind(
        "a year",
        "Write a whole number from 0 to 9999, or leave it blank where unknown.",
        low=0,
        high=9999,
        whole=True,
        blank=0,
    ),
}
"""The columns of numbers."""


@dataclass(frozen=True)
class Table:
    """A frame together with the words that locate a cell in it."""

    frame: pd.DataFrame
    """the raw table, one row per record; the index is called as messages call a row ("line")"""
    source: str
    """file or table name"""
    columns: Mapping[str, str] = field(default_factory=dict)
    """our column name -> their column name, where they differ"""

    def line(self, position: int) -> str:
        """The row at a 0-based position, e.g. ``line 7``."""
        return f"{self.frame.index.name or 'row'} {self.frame.index[position]}"

    def refuse(self, bad: np.ndarray | pd.Series, column: str, what: str, remedy: str) -> None:
        """Raise for the first true entry of ``bad`` [rows], if there is one.

        Args:
            bad: which rows are wrong.
            column: where.
            what: is wrong; ``{value}`` stands for the cell, ``{user_id}`` for another of its row.
            remedy: what to do about it.

        Raises:
            UserError: naming file, row, column and remedy.
        """
        rows = np.flatnonzero(bad).tolist()
        if not rows:
            return

        def cell(found: re.Match[str]) -> str:
            name = column if found[1] == "value" else found[1]
            return repr_value(self.frame[name].iloc[rows[0]]) if name in self.frame else found[0]

        what = re.sub(r"\{(\w+)\}", cell, what)
        where = f"{self.source}, {self.line(rows[0])}, column '{self.columns.get(column, column)}'"
        more = f" ({len(rows) - 1} more such {'row' if len(rows) == 2 else 'rows'})"
        raise UserError(f"{where}: {what}{more if len(rows) > 1 else ''}. {remedy}")

    def refuse_repeats(self, keys: pd.DataFrame, column: str, what: str, remedy: str) -> None:
        """Raise for the first row with the key of an earlier one; ``keys`` by 0-based position.

        Raises:
            UserError: as :meth:`refuse`, naming the earlier row too.
        """
        repeated = keys.duplicated()
        if repeated.any():
            first = keys.index[(keys == keys[repeated].iloc[0]).all(axis=1)][0]
            bad = np.isin(np.arange(len(self.frame)), keys.index[repeated])
            self.refuse(bad, column, f"{what} is already on {self.line(first)}", remedy)

    def require(self, *needed: str, hint: str = "") -> None:
        """Raise if a column of ``needed`` is missing or the table has no rows."""
        for ours in needed:
            if ours not in self.frame:
                present = ", ".join(f"'{self.columns.get(str(c), c)}'" for c in self.frame)
                raise UserError(
                    f"{self.source}: column '{ours}' is missing; the file has {present or 'none'}. "
                    f'Rename it there, or set columns={{"{ours}": "the name in your file"}}.'
                    f"{hint}"
                )
        if self.frame.empty:
            raise UserError(f"{self.source}: the table has no rows. Give a file with data.")

    def ids(self, column: str) -> tuple[np.ndarray, list[str]]:
        """Factorise an id column: codes [rows] into the returned list of distinct id texts."""
        codes, uniques = pd.factorize(self.frame[column])
        names = [id_text(value) for value in uniques]
        empty = np.array([*(not name for name in names), True])[codes]  # code -1 is a missing cell
        self.refuse(empty, column, "the id is empty", "Fill it, or remove the row.")
        return codes, names

    def numbers(self, column: str) -> np.ndarray:
        """A column of `NUMBERS` as finite float64 [rows]; dates become seconds since 1970."""
        kind, series = NUMBERS[column], self.frame[column]
        missing = blank(series)
        if kind.blank is None:
            self.refuse(missing, column, "the value is missing (NaN)", kind.remedy)
        if pd.api.types.is_datetime64_any_dtype(series):
            since = pd.to_datetime(series, utc=True) - pd.Timestamp(0, tz="UTC")
            series = np.floor(since.dt.total_seconds())
        values = pd.to_numeric(series, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        values = np.where(missing, kind.blank or 0.0, values)
        good = np.isfinite(values) & (values >= kind.low) & (values <= kind.high)
        if kind.whole:
            good &= values == np.floor(values)
        self.refuse(~good, column, f"{{value}} is not {kind.what}", kind.remedy)
        return values

    def texts(self, column: str) -> pd.Series:
        """A text column, stripped, blank becoming missing; index 0 … rows-1."""
        series = self.frame[column].reset_index(drop=True).astype("str").str.strip()
        return series.mask(series == "")


def check_choice(what: str, value: object, valid: Sequence[str]) -> None:
    """Refuse a name that is not one of ``valid``.

    Raises:
        UserError: listing them, with the closest one where there is one.
    """
    if value not in valid:
        close = difflib.get_close_matches(str(value).lower(), valid, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise UserError(f"there is no {what} '{value}'.{hint} Valid: {', '.join(valid)}.")


def blank(series: pd.Series) -> np.ndarray:
    """True [rows] where a cell is missing or only white space (or spells NaN)."""
    missing = series.isna().to_numpy(dtype=bool)
    if pd.api.types.is_numeric_dtype(series) or pd.api.types.is_datetime64_any_dtype(series):
        return missing
    text = series.astype("str").str.strip().str.lower()
    return missing | text.isin(["", "nan", "null", "none", "na"]).to_numpy(dtype=bool)


def id_text(value: object) -> str:
    """An id as text: whole floats lose their ``.0``, white space around is stripped."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def order_ids(names: Iterable[str]) -> list[str]:
    """Distinct ids in an order free of file order: numerically if all are numbers, else as text."""
    distinct = set(names)
    if all(name.removeprefix("-").isdecimal() for name in distinct):
        return sorted(distinct, key=lambda name: (int(name), name))
    return sorted(distinct)


def repr_value(value: object) -> str:
    """A cell as shown in a message, cut to 40 characters."""
    text = str(value)
    return f"'{text[:37]}...'" if len(text) > 40 else f"'{text}'"
