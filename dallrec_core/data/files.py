"""Your own data: two CSV or parquet files, one of interactions and one of items."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from dallrec_core.data.base import LIKE_THRESHOLD, Dataset, make_dataset
from dallrec_core.data.checks import Table, check_threshold
from dallrec_core.data.movielens import split_title
from dallrec_core.data.tables import read_table_file, row_word
from dallrec_core.errors import UserError

NOUNS = ("movie", "book")
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
    columns: Mapping[str, str] | str = "",
    noun: str = "movie",
    separator: str = "",
    encoding: str = "utf-8",
    attribute: str = "genres",
    like_threshold: float = LIKE_THRESHOLD,
    duplicates: str = "error",
    unknown_items: str = "error",
) -> Dataset:
    """Load your own interactions and items.

    Interactions need user_id and item_id; rating and timestamp (whole seconds since 1970) are
    optional. Items need item_id and title; year, attributes (several separated by "|" or ","),
    author, text, director, country and language are optional. Without a year column, a year at
    the end of the title, "Heat (1995)", is used.

    Args:
        interactions_path: CSV (with a header line) or parquet.
        items_path: CSV or parquet.
        columns: our column name -> the name in your files, as a mapping or as json text; a prefix
            "interactions." or "items." limits an entry to one of the two files.
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
    _check_options(noun, duplicates, unknown_items, like_threshold)
    mapping = parse_columns(columns)
    paths = {"interactions": interactions_path, "items": items_path}
    found = {table: _path(path, f"{table}_path") for table, path in paths.items()}
    raw = {
        table: read_table_file(path, separator=separator, encoding=encoding)
        for table, path in found.items()
    }
    _check_mapped(mapping, raw, found)
    named = {table: _pick(raw[table], found[table], mapping, table) for table in raw}
    notes = [
        f"{found[name].name}: columns not used: {', '.join(unused)}"
        for name, table in named.items()
        if (unused := [str(c) for c in raw[name] if c not in table.columns.values()])
    ]
    items, from_title = _years_from_titles(named["items"].frame)
    if from_title:
        notes.append(
            f"{found['items'].name}: the year of {from_title:,} items was taken from the title"
        )
    if "attributes" in items:
        items["attributes"] = [normal_attributes(cell) for cell in items["attributes"]]
    return make_dataset(
        named["interactions"],
        replace(named["items"], frame=items),
        duplicates=duplicates,
        unknown_items=unknown_items,
        name="files",
        noun=noun,
        attribute=attribute,
        like_threshold=float(like_threshold),
        notes=tuple(notes),
    )


def _check_options(noun: str, duplicates: str, unknown_items: str, like_threshold: float) -> None:
    options = {
        "noun": (noun, NOUNS),
        "duplicates": (duplicates, ("error", "merge")),
        "unknown_items": (unknown_items, ("error", "drop")),
    }
    for name, (value, valid) in options.items():
        if value not in valid:
            raise UserError(f"{name} is {value!r}; it must be one of {', '.join(valid)}.")
    check_threshold(like_threshold)


def parse_columns(columns: Mapping[str, str] | str) -> dict[str, str]:
    """Return the column mapping given as a mapping or as json text.

    Raises:
        UserError: not a json object of texts, or a key that is none of our columns.
    """
    if isinstance(columns, str):
        try:
            columns = json.loads(columns) if columns.strip() else {}
        except json.JSONDecodeError as error:
            raise UserError(
                f'columns is not valid json ({error}). Write e.g. {{"user_id": "userId"}}.'
            ) from error
    if not isinstance(columns, Mapping) or not all(isinstance(v, str) for v in columns.values()):
        raise UserError('columns must map our names to yours, e.g. {"user_id": "userId"}.')
    every = list(dict.fromkeys(name for names in _COLUMNS.values() for name in names))
    for key in columns:
        table, dot, name = str(key).rpartition(".")
        if name not in (_COLUMNS.get(table, ()) if dot else every):
            valid = ", ".join(every)
            raise UserError(f"columns: '{key}' is none of our columns. Valid: {valid}.")
    return dict(columns)


def _path(path: str | Path, option: str) -> Path:
    if not str(path):
        raise UserError(f"dataset 'files' needs {option}: the path of a CSV or parquet file.")
    found = Path(path).expanduser()
    if not found.is_file():
        raise UserError(f"{option}: there is no file {found} (looked in {Path.cwd()}).")
    return found


def _check_mapped(
    mapping: dict[str, str], raw: dict[str, pd.DataFrame], paths: dict[str, Path]
) -> None:
    """Refuse entries whose column is in neither file (or not in the one named)."""
    for key, theirs in mapping.items():
        prefix = key.rpartition(".")[0]
        chosen = [prefix] if prefix else list(raw)
        if not any(theirs in raw[table] for table in chosen):
            names = " or ".join(str(paths[table]) for table in chosen)
            present = ", ".join(f"'{name}'" for table in chosen for name in raw[table])
            raise UserError(
                f"columns: '{key}' is mapped to '{theirs}', which is not in {names}. "
                f"Columns there: {present}."
            )


def _pick(raw: pd.DataFrame, path: Path, mapping: dict[str, str], name: str) -> Table:
    """The columns we know under our names; an entry with the table's prefix wins."""
    theirs: dict[str, str] = {}
    for ours in _COLUMNS[name]:
        for candidate in (mapping.get(f"{name}.{ours}"), mapping.get(ours), ours):
            if candidate in raw and ours not in theirs:
                theirs[ours] = str(candidate)
    frame = raw[list(theirs.values())].set_axis(list(theirs), axis=1)
    table = Table(frame, str(path), theirs, row_word(path))
    for ours in _NEEDED[name]:
        if ours not in theirs:
            Table(raw, str(path)).require(ours, hint=_separator_hint(raw))
    return table


def _separator_hint(raw: pd.DataFrame) -> str:
    """A hint where a CSV came out as a single column that holds another usual separator."""
    name = str(raw.columns[0])
    likely = [mark for mark in ",;\t|" if mark in name]
    if len(raw.columns) != 1 or not likely:
        return ""
    return f" The only column is '{name}': does it want the option separator={likely[0]!r}?"


def _years_from_titles(items: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Take "(1995)" off the titles where the file has no year column."""
    if "year" in items:
        return items, 0
    pairs = [split_title(title) if isinstance(title, str) else ("", 0) for title in items["title"]]
    dated = sum(year > 0 for _, year in pairs)
    if not dated:
        return items, 0
    titles = [title for title, _ in pairs]
    return items.assign(title=titles, year=[year for _, year in pairs]), dated


def normal_attributes(cell: object) -> str:
    """Attributes separated by "|", or else by ",", as "Crime|Drama"; blank if there are none."""
    text = cell.strip() if isinstance(cell, str) else ""
    if not text or text == _NO_GENRE:
        return ""
    parts = (part.strip() for part in text.split("|" if "|" in text else ","))
    return "|".join(dict.fromkeys(part for part in parts if part))
