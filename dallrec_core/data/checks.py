"""The one validator of tables: each failure names the file, the row, the column and the remedy.

Nothing here changes or drops a row. A frame's index holds the row numbers that messages show.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from dallrec_core.errors import UserError

BLANKS = ("", "-", "–", "—", "?", "n/a", "na", "nan", "null", "none", "\\n", "<na>")
"""Cells that stand for nothing, in lower case.

:meta hide-value:
"""
_RATING = "Write a number with a point as decimal sign, or remove the row."
_YEAR = "Write a whole number up to 9999, or leave it blank where unknown."
_TIME = (
    "Write whole seconds since 1970 or a date such as 2003-12-31T10:30, remove the row, or leave "
    "the timestamp column out."
)
_UNITS = ("seconds", "milliseconds", "microseconds", "nanoseconds")
_UNIT_FROM = (1e11, 1e14, 1e17)  # seconds of the year 5138 are milliseconds of 1973


@dataclass(frozen=True)
class Table:
    """A frame together with the words that locate a cell in it."""

    frame: pd.DataFrame
    """the raw table, one row per record; the index is called as messages call a row ("line")"""
    source: str
    """file or table name"""
    columns: Mapping[str, str] = field(default_factory=dict)
    """our column name -> their column name, where they differ"""
    notes: list[str] = field(default_factory=list)
    """what was understood or left blank, in words; grows while the table is checked"""

    def line(self, position: int) -> str:
        """The row at a 0-based position, e.g. ``line 7``."""
        return f"{self.frame.index.name or 'row'} {self.frame.index[position]}"

    def refuse(self, bad: np.ndarray | pd.Series, column: str, what: str, remedy: str) -> None:
        """Raise for the first true entry of ``bad`` [rows], if there is one.

        Args:
            bad: which rows are wrong.
            column: where.
            what: is wrong; ``{value}`` stands for the cell.
            remedy: what to do about it.

        Raises:
            UserError: naming file, row, column and remedy.
        """
        rows = np.flatnonzero(bad).tolist()
        if not rows:
            return
        if column in self.frame:
            what = what.replace("{value}", repr_value(self.frame[column].iloc[rows[0]]))
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

    def require(self, *needed: str) -> None:
        """Raise if a column of ``needed`` is missing or the table has no rows."""
        for ours in needed:
            if ours not in self.frame:
                present = ", ".join(f"'{self.columns.get(str(c), c)}'" for c in self.frame)
                raise UserError(
                    f"{self.source}: column '{ours}' is missing; the table has {present or 'none'}."
                )
        if self.frame.empty:
            raise UserError(f"{self.source}: the table has no rows. Give a file with data.")

    def ids(self, column: str) -> tuple[np.ndarray, list[str]]:
        """Codes [rows] of an id column, into the returned list of distinct id texts.

        Raises:
            UserError: naming the first row without an id.
        """
        codes, uniques = pd.factorize(self.frame[column])
        names = [id_text(value) for value in uniques]
        empty = np.array([*(not name for name in names), True])[codes]  # code -1 is a missing cell
        self.refuse(empty, column, "the id is empty", "Fill it, or remove the row.")
        return codes, names

    def ratings(self) -> np.ndarray:
        """The ratings, float32 [rows], NaN where blank."""
        return self._numbers("rating", "a finite number", _RATING).astype(np.float32)

    def years(self) -> np.ndarray:
        """The years, int32 [rows], 0 where blank."""
        values = self._numbers("year", "a year", _YEAR)
        wrong = ~np.isnan(values) & ((np.abs(values) > 9999) | (values != np.floor(values)))
        self.refuse(wrong, "year", "{value} is not a year", _YEAR)
        return np.nan_to_num(values).astype(np.int32)

    def _numbers(self, column: str, what: str, remedy: str) -> np.ndarray:
        """Finite numbers, float64 [rows], NaN where the cell is blank."""
        missing = blank(self.frame[column])
        values = pd.to_numeric(self.frame[column], errors="coerce")
        values = values.to_numpy(np.float64, na_value=np.nan)
        self.refuse(~missing & ~np.isfinite(values), column, f"{{value}} is not {what}", remedy)
        if count := int(missing.sum()):
            so = ", interactions without one, which count as likes" if column == "rating" else ""
            self._note(column, f"{count:,} cells are blank{so}")
        return np.where(missing, np.nan, values) if count else values

    def times(self) -> np.ndarray:
        """Whole seconds since 1970, int64 [rows], from numbers of any usual unit or ISO dates."""
        series = self.frame["timestamp"]
        self.refuse(blank(series), "timestamp", "the time is missing", _TIME)
        values = np.full(len(series), np.nan)
        if not pd.api.types.is_datetime64_any_dtype(series):
            values = pd.to_numeric(series, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        written = np.isnan(values)
        if written.any():
            values = values.copy()
            dates = pd.to_datetime(series[written], format="ISO8601", errors="coerce", utc=True)
            seconds = (dates - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
            values[written] = np.floor(seconds.to_numpy(np.float64, na_value=np.nan))
            self._note("timestamp", "dates are read as UTC where they name no zone")
        wrong = ~(values >= 0)
        self.refuse(wrong, "timestamp", "{value} is not a time from 1970 on", _TIME)
        units = np.searchsorted(_UNIT_FROM, values, side="right")
        usual = int(np.bincount(units).argmax())
        what = f"{{value}} is no time in {_UNITS[usual]}, as most of the column is"
        self.refuse(units != usual, "timestamp", what, _TIME)
        if usual:
            self._note("timestamp", f"times are {_UNITS[usual]} since 1970, by their size")
        return (values // 1000.0**usual).astype(np.int64)

    def texts(self, column: str) -> pd.Series:
        """A text column, stripped, blank becoming missing; index 0 … rows-1.

        A title is blank only where it is empty: there may be a film called "None".
        """
        series = self.frame[column].reset_index(drop=True).astype("str").str.strip()
        empty = series.isna() | (series == "")
        if column == "title":
            return series.mask(empty)
        missing = blank(series)
        if count := int((missing & ~empty).sum()):
            first = series[missing & ~empty].iloc[0]
            self._note(column, f"{count:,} cells such as '{first}' count as blank")
        return series.mask(missing)

    def _note(self, column: str, what: str) -> None:
        self.notes.append(f"{self.source}, column '{self.columns.get(column, column)}': {what}")


def check_choice(what: str, value: object, valid: Sequence[str]) -> None:
    """Refuse a name that is not one of ``valid``.

    Raises:
        UserError: listing them, with the closest one where there is one.
    """
    if value not in valid:
        near = difflib.get_close_matches(str(value).lower(), valid, n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        raise UserError(f"there is no {what} '{value}'{hint}. Valid: {', '.join(valid)}.")


def blank(series: pd.Series) -> np.ndarray:
    """True [rows] where a cell is missing or one of the spellings in `BLANKS`."""
    missing = series.isna().to_numpy(dtype=bool)
    if pd.api.types.is_numeric_dtype(series) or pd.api.types.is_datetime64_any_dtype(series):
        return missing
    return missing | series.astype("str").str.strip().str.lower().isin(BLANKS).to_numpy(dtype=bool)


def id_text(value: object) -> str:
    """An id as text: whole floats lose their ``.0``, white space around is stripped."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def codes_in(ids: Iterable[str], known: Iterable[str]) -> np.ndarray:
    """Return the position of each id in `known`, int32 [rows], -1 where it is absent."""
    return pd.Index(known).get_indexer(pd.Index(ids, dtype="str")).astype(np.int32)


def order_ids(names: Iterable[str]) -> list[str]:
    """Distinct ids in an order free of file order: numerically if all are numbers, else as text."""
    distinct = set(names)
    if all(name.removeprefix("-").isdecimal() for name in distinct):
        return sorted(distinct, key=lambda name: (int(name), name))
    return sorted(distinct)


def repr_value(value: object) -> str:
    """A cell as shown in a message, cut to 40 characters."""
    text = id_text(value) if isinstance(value, float) else str(value)
    return f"'{text[:37]}...'" if len(text) > 40 else f"'{text}'"
