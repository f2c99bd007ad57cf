"""Your own data: two CSV or parquet files, one of interactions and one of items."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import FiniteFloat

from dallrec_core.data.base import LIKE_THRESHOLD, Dataset, make_dataset
from dallrec_core.data.checks import Table
from dallrec_core.data.movielens import split_title
from dallrec_core.data.tables import read_table_file
from dallrec_core.errors import UserError

_COLUMNS = {
    "interactions": ("user_id", "item_id", "rating", "timestamp"),
    "items": (
        *("item_id", "title", "year", "attributes", "author", "text"),
        *("director", "country", "language"),
    ),
}
_NEEDED = {"interactions": ("user_id", "item_id"), "items": ("item_id", "title")}
_NO_GENRE = "(no genres listed)"


def load_files(
    interactions_path: str | Path = "",
    items_path: str | Path = "",
    columns: dict[str, str] | None = None,
    noun: Literal["movie", "book"] = "movie",
    separator: str = "",
    encoding: str = "utf-8",
    attribute: str = "genres",
    like_threshold: FiniteFloat = LIKE_THRESHOLD,
    duplicates: Literal["error", "merge"] = "error",
    unknown_items: Literal["error", "drop"] = "error",
) -> Dataset:
    """Load your own interactions and items.

    Interactions need user_id and item_id; rating and timestamp (whole seconds since 1970) are
    optional. Items need item_id and title; year, attributes (several separated by "|" or ","),
    author, text, director, country and language are optional. Without a year column, a year at
    the end of the title, "Heat (1995)", is used.

    Args:
        interactions_path: CSV (with a header line) or parquet.
        items_path: CSV or parquet.
        columns: our column name -> the name in your files; a prefix "interactions." or "items."
            limits an entry to one of the two files.
        noun: "movie" or "book", the word used in prompts.
        separator: of the CSV fields; empty means tab for ``*.tsv`` and comma otherwise.
        encoding: of the CSV files.
        attribute: what the attributes are, in one word.
        like_threshold: ratings at or above it are likes.
        duplicates: "error", or "merge" to keep the latest of repeated pairs and count the rest.
        unknown_items: "error", or "drop" to leave out and count interactions of unlisted items.

    Raises:
        UserError: a missing file or column, a bad cell (with file, line and column), a bad option.
    """
    paths = {
        "interactions": _path(interactions_path, "interactions_path"),
        "items": _path(items_path, "items_path"),
    }
    raw = {
        name: Table(read_table_file(path, separator=separator, encoding=encoding), str(path))
        for name, path in paths.items()
    }
    mapping = columns or {}
    _check_mapping(mapping, raw)
    tables = {name: _pick(raw[name], name, mapping) for name in raw}
    notes = []
    for name, table in tables.items():
        unused = [str(c) for c in raw[name].frame if c not in table.columns.values()]
        if unused:
            notes.append(f"{paths[name].name}: columns not used: {', '.join(unused)}")
    items = tables["items"].frame
    titles = [split_title(title) for title in items["title"].astype("str").fillna("")]
    dated = sum(year > 0 for _, year in titles)
    if "year" not in items and dated:
        items = items.assign(title=[t for t, _ in titles], year=[year for _, year in titles])
        notes.append(f"{paths['items'].name}: the year of {dated:,} items was taken from the title")
    if "attributes" in items:
        items = items.assign(attributes=[normal_attributes(cell) for cell in items["attributes"]])
    return make_dataset(
        tables["interactions"],
        replace(tables["items"], frame=items),
        duplicates=duplicates,
        unknown_items=unknown_items,
        name="files",
        noun=noun,
        attribute=attribute,
        like_threshold=float(like_threshold),
        notes=tuple(notes),
    )


def _path(path: str | Path, option: str) -> Path:
    if not str(path):
        raise UserError(f"dataset 'files' needs {option}: the path of a CSV or parquet file.")
    found = Path(path).expanduser()
    if not found.is_file():
        raise UserError(f"{option}: there is no file {found} (looked in {Path.cwd()}).")
    return found


def _check_mapping(mapping: dict[str, str], raw: dict[str, Table]) -> None:
    """Refuse entries that are none of our columns, or whose column is in none of their files."""
    for key, theirs in mapping.items():
        prefix, _, ours = key.rpartition(".")
        tables = [table for name, table in raw.items() if prefix in ("", name)]
        if not any(ours in _COLUMNS[name] for name in raw if prefix in ("", name)):
            valid = ", ".join(dict.fromkeys(name for names in _COLUMNS.values() for name in names))
            raise UserError(f"columns: '{key}' is none of our columns. Valid: {valid}.")
        if not any(theirs in table.frame for table in tables):
            places = " or ".join(table.source for table in tables)
            present = ", ".join(f"'{name}'" for table in tables for name in table.frame)
            raise UserError(
                f"columns: '{key}' is mapped to '{theirs}', which is not in {places}. "
                f"Columns there: {present}."
            )


def _pick(raw: Table, name: str, mapping: dict[str, str]) -> Table:
    """The columns we know under our names; an entry with the table's prefix wins."""
    theirs = {}
    for ours in _COLUMNS[name]:
        candidates = (mapping.get(f"{name}.{ours}"), mapping.get(ours), ours)
        found = [each for each in candidates if each in raw.frame]
        if found:
            theirs[ours] = str(found[0])
        elif ours in _NEEDED[name]:
            raw.require(ours, hint=_separator_hint(raw.frame))
    frame = raw.frame[list(theirs.values())].set_axis(list(theirs), axis=1)
    return replace(raw, frame=frame, columns=theirs)


def _separator_hint(raw: pd.DataFrame) -> str:
    """A hint where a CSV came out as a single column that holds another usual separator."""
    name = str(raw.columns[0])
    likely = [mark for mark in ",;\t|" if mark in name]
    if len(raw.columns) != 1 or not likely:
        return ""
    return f" The only column is '{name}': does it want the option separator={likely[0]!r}?"


def normal_attributes(cell: object) -> str:
    """Attributes separated by "|", or else by ",", as "Crime|Drama"; blank if there are none."""
    text = cell.strip() if isinstance(cell, str) else ""
    if not text or text == _NO_GENRE:
        return ""
    parts = (part.strip() for part in text.split("|" if "|" in text else ","))
    return "|".join(dict.fromkeys(part for part in parts if part))
