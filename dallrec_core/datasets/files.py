"""Your own data: two CSV or parquet files, one of interactions and one of items."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from dallrec_core.datasets.base import LIKE_THRESHOLD, Dataset, make_dataset
from dallrec_core.datasets.checks import Source
from dallrec_core.datasets.movielens import split_title
from dallrec_core.datasets.tables import PARQUET, read_table_file, separator_hint
from dallrec_core.errors import UserError

NOUNS = ("movie", "book")
INTERACTION_COLUMNS = ("user_id", "item_id", "rating", "timestamp")
ITEM_COLUMNS = (
    *("item_id", "title", "year", "attributes", "author", "text"),
    *("director", "country", "language"),
)
_COLUMNS = {
    "interactions": (INTERACTION_COLUMNS, ("user_id", "item_id")),
    "items": (ITEM_COLUMNS, ("item_id", "title")),
}
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
    _check_texts(separator=separator, encoding=encoding, attribute=attribute)
    mapping = parse_columns(columns)
    paths = [_path(interactions_path, "interactions_path"), _path(items_path, "items_path")]
    raw = [read_table_file(path, separator=separator, encoding=encoding) for path in paths]
    _check_mapped(mapping, raw, paths)
    interactions, words = _pick(raw[0], paths[0], mapping, "interactions", separator)
    items, item_words = _pick(raw[1], paths[1], mapping, "items", separator)
    notes = _unused(raw[0], words, paths[0]) + _unused(raw[1], item_words, paths[1])
    items, from_title = _years_from_titles(items)
    if from_title:
        notes.append(f"{paths[1].name}: the year of {from_title:,} items was taken from the title")
    if "attributes" in items:
        items["attributes"] = [normal_attributes(cell) for cell in items["attributes"]]
    return make_dataset(
        interactions,
        items,
        name="files",
        noun=noun,
        attribute=attribute,
        source=Source(
            str(paths[0]), str(paths[1]), words, item_words, _row(paths[0]), _row(paths[1])
        ),
        like_threshold=float(like_threshold),
        duplicates=duplicates,
        unknown_items=unknown_items,
        notes=notes,
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
    number = isinstance(like_threshold, int | float) and not isinstance(like_threshold, bool)
    if not number or not np.isfinite(like_threshold):
        raise UserError(f"like_threshold is {like_threshold!r}; it must be a number.")


def _check_texts(**options: object) -> None:
    for name, value in options.items():
        if not isinstance(value, str):
            raise UserError(f"{name} is {value!r}; it must be text.")


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
    for key in columns:
        table, dot, name = str(key).rpartition(".")
        valid = _COLUMNS.get(table, ((), ()))[0] if dot else (*INTERACTION_COLUMNS, *ITEM_COLUMNS)
        if name not in valid:
            names = ", ".join(dict.fromkeys((*INTERACTION_COLUMNS, *ITEM_COLUMNS)))
            raise UserError(f"columns: '{key}' is none of our columns. Valid: {names}.")
    return dict(columns)


def _path(path: str | Path, option: str) -> Path:
    if not str(path):
        raise UserError(f"dataset 'files' needs {option}: the path of a CSV or parquet file.")
    found = Path(path).expanduser()
    if not found.is_file():
        raise UserError(f"{option}: there is no file {found} (looked in {Path.cwd()}).")
    return found


def _check_mapped(mapping: dict[str, str], raw: list[pd.DataFrame], paths: list[Path]) -> None:
    """Refuse entries whose column is in neither file (or not in the one named)."""
    for key, theirs in mapping.items():
        table = key.rpartition(".")[0]
        chosen = {"interactions": [0], "items": [1]}.get(table, [0, 1])
        if not any(theirs in raw[i] for i in chosen):
            where = " or ".join(str(paths[i]) for i in chosen)
            present = ", ".join(f"'{name}'" for i in chosen for name in raw[i])
            raise UserError(
                f"columns: '{key}' is mapped to '{theirs}', which is not in {where}. "
                f"Columns there: {present}."
            )


def _mapping_for(mapping: dict[str, str], table: str) -> dict[str, str]:
    """Our name -> their name for one of the two files; a prefixed entry wins."""
    general = {ours: theirs for ours, theirs in mapping.items() if "." not in ours}
    own = {
        ours.partition(".")[2]: theirs
        for ours, theirs in mapping.items()
        if ours.startswith(f"{table}.")
    }
    return general | own


def _pick(
    raw: pd.DataFrame, path: Path, mapping: dict[str, str], table: str, separator: str
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The columns we know under our names, and what they are called in the file."""
    wanted, needed = _COLUMNS[table]
    theirs = {ours: name for ours, name in _mapping_for(mapping, table).items() if name in raw}
    words = {ours: theirs.get(ours, ours) for ours in wanted}
    words = {ours: name for ours, name in words.items() if name in raw}
    for ours in needed:
        if ours not in words:
            present = ", ".join(f"'{name}'" for name in raw) or "none"
            raise UserError(
                f"{path}: column '{ours}' is missing; the file has {present}. Rename it there, or "
                f'set columns={{"{ours}": "the name in your file"}}.'
                f"{separator_hint(raw, separator)}"
            )
    return raw[list(words.values())].set_axis(list(words), axis=1), words


def _unused(raw: pd.DataFrame, words: dict[str, str], path: Path) -> list[str]:
    rest = [str(name) for name in raw if name not in words.values()]
    return [f"{path.name}: columns not used: {', '.join(rest)}"] if rest else []


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


def _row(path: Path) -> str:
    return "row" if path.suffix.lower() in PARQUET else "line"
