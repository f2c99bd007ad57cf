"""Checks on user-supplied tables: each failure names the file, the row, the column and the remedy.

Every function raises :class:`~dallrec_core.errors.UserError`; none changes or drops a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
import pandas as pd

from dallrec_core.errors import UserError

MAX_YEAR = 9999


@dataclass(frozen=True)
class Source:
    """What error messages call the two tables of a dataset."""

    interactions: str = "the interactions table"
    """file (or name) the interactions came from"""
    items: str = "the items table"
    """file (or name) the items came from"""
    columns: Mapping[str, str] = field(default_factory=dict)
    """our column name -> the name in the interactions file, where they differ"""
    item_columns: Mapping[str, str] = field(default_factory=dict)
    """our column name -> the name in the items file, where they differ"""
    row: str = "row"
    """what a row of the interactions is called: "line" in text files, "row" in parquet"""
    item_row: str = "row"
    """what a row of the items is called"""

    def tables(self, interactions: pd.DataFrame, items: pd.DataFrame) -> tuple[Table, Table]:
        """Join both frames with their words."""
        return (
            Table(interactions, self.interactions, self.columns, self.row),
            Table(items, self.items, self.item_columns, self.item_row),
        )


@dataclass(frozen=True)
class Table:
    """A frame together with the words that locate a cell in it.

    The frame's index holds the row numbers shown in messages (line numbers as in an editor).
    """

    frame: pd.DataFrame
    """the raw table, one row per record"""
    source: str
    """file or table name"""
    columns: Mapping[str, str] = field(default_factory=dict)
    """our column name -> their column name"""
    row: str = "row"
    """"line" or "row" """

    def theirs(self, column: str) -> str:
        """The column's name in the user's file."""
        return self.columns.get(column, column)

    def line(self, position: int) -> str:
        """The row at a 0-based position, e.g. ``line 7``."""
        return f"{self.row} {self.frame.index[position]}"

    def fail(self, bad: np.ndarray, column: str, what: str, remedy: str) -> NoReturn:
        """Raise for the first true entry of ``bad`` [rows]; ``{value}`` stands for the cell."""
        first = int(np.flatnonzero(bad)[0])
        where = f"{self.source}, {self.line(first)}, column '{self.theirs(column)}'"
        value = self.frame[column].iloc[first] if column in self.frame else ""
        others = int(np.count_nonzero(bad)) - 1
        more = f" ({others} more such {'row' if others == 1 else 'rows'})" if others else ""
        raise UserError(f"{where}: {what.replace('{value}', repr_value(value))}{more}. {remedy}")

    def require(self, *needed: str) -> None:
        """Raise if a column of ``needed`` is missing or the table has no rows."""
        ours = [name for name in needed if name not in self.frame]
        missing = [self.theirs(name) for name in ours]
        if missing:
            present = ", ".join(f"'{self.theirs(str(c))}'" for c in self.frame) or "none"
            names = ", ".join(f"'{name}'" for name in missing)
            raise UserError(
                f"{self.source}: column {names} is missing; the file has {present}. Rename it "
                f"there, or map it with columns={{'{ours[0]}': 'the name in your file'}}."
            )
        if self.frame.empty:
            raise UserError(f"{self.source}: the table has no rows. Give a file with data.")

    def ids(self, column: str) -> tuple[np.ndarray, list[str]]:
        """Factorise an id column: codes [rows] into the returned list of distinct id texts."""
        codes, uniques = pd.factorize(self.frame[column])
        names = [id_text(value) for value in uniques]
        empty = np.array([*(not name for name in names), True])[codes]  # code -1 is a missing cell
        if empty.any():
            self.fail(empty, column, "the id is empty", "Fill it, or remove the row.")
        return codes, names

    def numbers(self, column: str, *, unit: str) -> np.ndarray:
        """A column as finite float64 [rows]; ``unit`` says in messages what is expected."""
        values = pd.to_numeric(self.frame[column], errors="coerce").to_numpy(
            dtype=np.float64, na_value=np.nan
        )
        missing = blank(self.frame[column])
        remedy = f"Write {unit}, or remove the row."
        if missing.any():
            self.fail(missing, column, "the value is missing (NaN)", remedy)
        if not np.isfinite(values).all():
            self.fail(~np.isfinite(values), column, "{value} is not a finite number", remedy)
        return values

    def timestamps(self, column: str = "timestamp") -> np.ndarray:
        """Seconds since 1970 as int64 [rows]; datetime columns are converted."""
        series = self.frame[column]
        if pd.api.types.is_datetime64_any_dtype(series):
            if series.isna().any():
                self.fail(series.isna().to_numpy(), column, "the time is missing", "Fill it.")
            utc = pd.to_datetime(series, utc=True).dt.tz_localize(None)
            return utc.to_numpy().astype("datetime64[s]").astype(np.int64)
        values = self.numbers(column, unit="whole seconds since 1970")
        bad = (values < 0) | (values != np.floor(values)) | (values >= 2.0**62)
        if bad.any():
            what = "{value} is not a whole number of seconds since 1970, 0 or more"
            self.fail(bad, column, what, "Correct it, or leave the timestamp column out.")
        return values.astype(np.int64)

    def years(self, column: str = "year") -> np.ndarray:
        """Years as int32 [rows]; blank means unknown and becomes 0."""
        series = self.frame[column]
        values = pd.to_numeric(series, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        values = np.where(blank(series), 0.0, values)
        good = (values >= 0) & (values <= MAX_YEAR) & (values == np.floor(values))
        if not good.all():
            remedy = f"Write a whole number from 0 to {MAX_YEAR}, or leave it blank where unknown."
            self.fail(~good, column, "{value} is not a year", remedy)
        return values.astype(np.int32)

    def texts(self, column: str) -> pd.Series:
        """A text column, stripped, blank becoming missing; index 0 … rows-1."""
        series = self.frame[column].reset_index(drop=True).astype("str").str.strip()
        return series.mask(series == "")

    def titles(self, column: str = "title") -> pd.Series:
        """The title column; every row must have one."""
        titles = self.texts(column)
        if titles.isna().any():
            remedy = "Prompts name items by their title; fill it, or remove the item."
            self.fail(titles.isna().to_numpy(), column, "the title is empty", remedy)
        return titles


def blank(series: pd.Series) -> np.ndarray:
    """True [rows] where a cell is missing or only white space (or spells NaN)."""
    missing = series.isna().to_numpy(dtype=bool)
    if pd.api.types.is_numeric_dtype(series):
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
