"""Your own data: a file of interactions and one of items, in any usual form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field, FiniteFloat

from dallrec_core.data.base import LIKE_THRESHOLD, Dataset, likes, make_dataset
from dallrec_core.data.checks import Table
from dallrec_core.data.columns import attribute_text, split_title, understand
from dallrec_core.data.tables import open_table
from dallrec_core.errors import UserError

USUAL = {"interactions": ("user_id", "item_id", "rating", "timestamp"), "items": ()}
"""What the columns of a file without a header line are, in this order."""
Word = Annotated[str, Field(pattern=r"^\w[\w '’-]*$")]
"""A noun, as prompts can use it."""
Threshold = FiniteFloat | Literal["median", "count"]
"""From which rating on an item is liked; see :func:`~dallrec_core.data.base.likes`."""
_LISTS = ("attributes", "author", "director", "country", "language")
_ENOUGH = 20  # ratings; of fewer, 5 % is none


def load_files(
    interactions_path: str | Path = "",
    items_path: str | Path = "",
    columns: dict[str, str] | None = None,
    noun: Word = "movie",
    person: Word | Literal[""] = "",
    encoding: str = "",
    attribute: Word = "genres",
    like_threshold: Threshold = LIKE_THRESHOLD,
    duplicates: Literal["error", "merge"] = "error",
    unknown_items: Literal["error", "drop"] = "error",
) -> Dataset:
    """Load your own interactions and items: CSV in any dress, JSON lines, parquet, RecBole.

    Interactions need user_id and item_id; rating and timestamp (seconds, milli- or microseconds
    since 1970, or ISO dates) are optional. Items need item_id and title; year, attributes, author,
    text, director, country and language are optional. Well-known other names of these columns are
    understood and told in the notes. Without a year column, a year at the end of the title,
    "Heat (1995)", is used.

    Args:
        interactions_path: the file, packed (.gz, .zip, .bz2, .zst) or not, or a folder of
            RecBole's atomic files, which holds the items too.
        items_path: the file.
        columns: our column name -> the name in your files ("" for none).
        noun: what an item is, the word used in prompts.
        person: what a user is called in prompts.
        encoding: of text files; empty means UTF-8.
        attribute: what the attributes are, in one word.
        like_threshold: ratings at or above it are likes; "median": at or above the median of the
            user's own; "count": above it, for play counts.
        duplicates: "error", or "merge" to keep the latest of repeated pairs and count the rest.
        unknown_items: "error", or "drop" to leave out and count interactions of unlisted items.

    Raises:
        UserError: a missing file or column, a bad cell (with file, line and column), a bad option,
            a threshold that parts no likes from dislikes.
    """
    paths = _paths(interactions_path, items_path)
    form = {"encoding": encoding}
    about: dict[str, Any] = {"noun": noun, "person": person, "attribute": attribute}
    tables = read_tables({"interactions": form, "items": form}, paths, columns or {}, about)
    about |= {"name": "files", "like_threshold": like_threshold}
    about |= {"duplicates": duplicates, "unknown_items": unknown_items}
    data = make_dataset(tables["interactions"], tables["items"], **about)
    check_likes(data)
    return data


def _paths(interactions: str | Path, items: str | Path) -> dict[str, list[Path]]:
    """The existing files of both tables; RecBole may have split its interactions into parts."""
    folder = Path(interactions).expanduser()
    if str(interactions) and not items and folder.is_dir():
        found = {"interactions": sorted(folder.glob("*.inter")), "items": [*folder.glob("*.item")]}
        if not found["interactions"] or len(found["items"]) != 1:
            raise UserError(
                f"interactions_path: the folder {folder} should hold RecBole's atomic files: "
                "*.inter and one *.item. For other files give interactions_path and items_path."
            )
        return found
    paths = {}
    for name, path in (("interactions", interactions), ("items", items)):
        paths[name] = [Path(path).expanduser()]
        if not paths[name][0].is_file():
            raise UserError(f"{name}_path: there is no file '{path}' (looked in {Path.cwd()}).")
    return paths


def read_tables(
    forms: Mapping[str, Mapping[str, Any]],
    paths: Mapping[str, Sequence[Path]],
    columns: Mapping[str, str],
    words: Mapping[str, Any],
) -> dict[str, Table]:
    """Read the files of interactions and items under our names of their columns.

    Args:
        forms: by table, arguments of :func:`~dallrec_core.data.tables.open_table`.
        paths: by table, its files, which have the same columns.
        columns: our names -> theirs, as far as they must be told.
        words: noun, person and attribute of the dataset.

    Raises:
        UserError: naming file, line and column of what cannot be read.
    """
    sources = {
        kind: [open_table(path, **{"names": USUAL[kind], **forms[kind]}) for path in files]
        for kind, files in paths.items()
    }
    meant = understand({kind: first for kind, (first, *_) in sources.items()}, columns, words)
    tables = {}
    for kind, chosen in meant.items():
        parts = sources.pop(kind)  # so that the file's bytes go as soon as they are read
        table = joined([part.read(chosen) for part in parts])
        told = columns.values()
        others = [f"{n} as {ours}" for ours, n in chosen.items() if n != ours and n not in told]
        unused = [name for name in parts[0].names if name and name not in chosen.values()]
        for what, listed in (("read", others), ("columns not used:", unused)):
            if listed:
                table.notes.append(f"{parts[0].path.name}: {what} {', '.join(listed)}")
        tables[kind] = table
    return tables | {"items": tidy_items(tables["items"])}


def joined(parts: list[Table]) -> Table:
    """The rows of several files, which messages call "3 of x.train.inter", as one table."""
    if len(parts) == 1:
        return parts[0]
    places = [Path(part.source) for part in parts]
    frames = [part.frame for part in parts]
    lines = [f"{n} of {p.name}" for p, f in zip(places, frames, strict=True) for n in f.index]
    frame = pd.concat(frames).set_axis(pd.Index(lines, name="line"))
    return replace(parts[0], frame=frame, source=str(places[0].parent))


def tidy_items(table: Table) -> Table:
    """Bring attributes into one form, take years from titles, join texts that are lists."""
    frame, changed = table.frame, {}
    for column in (each for each in _LISTS if each in frame):
        changed[column] = _values(table, column)
    if "text" in frame:
        many = (list, np.ndarray)
        changed["text"] = [" ".join(t) if isinstance(t, many) else t for t in frame["text"]]
    if "year" not in frame:
        pairs = [split_title(title) for title in frame["title"].astype("str").fillna("")]
        if dated := sum(year > 0 for _, year in pairs):
            changed |= {"title": [title for title, _ in pairs], "year": [year for _, year in pairs]}
            name = Path(table.source).name
            table.notes.append(f"{name}: the year of {dated:,} items was taken from the title")
    return replace(table, frame=frame.assign(**changed))


def _values(table: Table, column: str) -> list[Any]:
    """Cells of a column of lists as "Crime|Drama"; facts that are no lists stay as they are."""
    spaced = column != "author" and table.columns.get(column, "").endswith(":token_seq")  # RecBole
    mark = ", " if column == "author" else "|"
    texts: list[Any] = []
    for row, cell in enumerate(table.frame[column]):
        if spaced and isinstance(cell, str):
            cell = [word.replace("_", " ") for word in cell.split()]
        plain = column != "attributes" and isinstance(cell, str) and not cell.startswith("[")
        try:
            texts.append(cell if plain else attribute_text(cell).replace("|", mark))
        except ValueError as error:
            bad, remedy = np.arange(len(table.frame)) == row, "Put '|' between the values."
            table.refuse(bad, column, f"{{value}} is {error}", remedy)
    return texts


def check_likes(data: Dataset) -> None:
    """Refuse a threshold that nearly all ratings, or nearly none, reach.

    Raises:
        UserError: with the quartiles of the ratings.
    """
    rated = data.interactions[data.interactions["rating"].notna()]
    share = likes(rated, data.like_threshold).mean()
    if len(rated) < _ENOUGH or 0.05 <= share <= 0.95:
        return
    least, *quartiles, most = (f"{x:g}" for x in rated["rating"].quantile([0, 0.25, 0.5, 0.75, 1]))
    raise UserError(
        f"with like_threshold={data.like_threshold} {share:.0%} of {len(rated):,} ratings are "
        f"likes, which says little about anybody. The ratings go from {least} to {most}, with "
        f"quartiles {', '.join(quartiles)}. Set a like_threshold between them, or 'count' if they "
        "count something; columns={'rating': ''} leaves them out."
    )
