"""Datasets by name whose files `origins.yml` describes: MovieLens, Last.fm, Amazon, Goodbooks.

Every rating is an interaction, as in the paper, and items without one stay in the catalogue. Titles
such as ``Matrix, The (1999)`` become ``The Matrix`` with the year beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import Field

from dallrec_core.data.base import LIKE_THRESHOLD, Dataset, make_dataset
from dallrec_core.data.cells import attribute_text
from dallrec_core.data.checks import Table
from dallrec_core.data.download import CATEGORY, ORIGINS, Located, locate
from dallrec_core.data.files import Threshold, check_likes, read_tables, tidy_items
from dallrec_core.data.tables import OLD, open_table, read_fields

GENRES = (
    "unknown|Action|Adventure|Animation|Children's|Comedy|Crime|Documentary|Drama|Fantasy|"
    "Film-Noir|Horror|Musical|Mystery|Romance|Sci-Fi|Thriller|War|Western"
).split("|")
"""MovieLens' genre vocabulary in the order of the flags of ``u.item``."""
UNTITLED = "items without a title"
"""What is said of items that are left out for that reason."""


def load_named(name: str, like_threshold: Threshold | None = None) -> Dataset:
    """Load a dataset that `origins.yml` describes.

    Args:
        name: of the dataset.
        like_threshold: ratings at or above it are likes (or "median", "count"); None: as usual.

    Raises:
        UserError: files missing and no network, or a malformed line.
    """
    return _load(name, locate(name), like_threshold)


def load_ml_100k(like_threshold: Threshold | None = None) -> Dataset:
    """Load MovieLens-100K, whose genres are nineteen columns of 0 and 1.

    Args:
        like_threshold: as in :func:`load_named`.

    Raises:
        UserError: files missing and no network, or a malformed line.
    """
    located = locate("ml-100k")
    names = ("item_id", "title", "released", "video", "link", *GENRES)
    items = read_fields(located.folder / "u.item", "|", names)
    flags = items[GENRES[1:]].apply(lambda column: column.str.strip() == "1")  # not "unknown"
    items["attributes"] = ["|".join(flags.columns[row]) for row in flags.to_numpy()]
    table = tidy_items(Table(items[["item_id", "title", "attributes"]], "u.item"))
    return _load("ml-100k", located, like_threshold, items=table)


def load_amazon(
    category: Annotated[str, Field(pattern=r"^\w+$")] = CATEGORY,
    like_threshold: Threshold | None = None,
) -> Dataset:
    """Load one category of Amazon Reviews 2023: ratings without texts, products with theirs.

    Products without a title are left out and counted, with their interactions.

    Args:
        category: as its publisher spells it, e.g. "Video_Games".
        like_threshold: as in :func:`load_named`.

    Raises:
        UserError: files missing and no network, or a malformed line.
    """
    return _load("amazon-2023", locate("amazon-2023", category), like_threshold, category)


def _load(
    name: str,
    located: Located,
    like_threshold: Threshold | None,
    category: str = "",
    items: Table | None = None,
) -> Dataset:
    read = ORIGINS[name].read
    about: dict[str, Any] = {"noun": "movie", "person": "", "attribute": "genres"}
    about |= {"like_threshold": LIKE_THRESHOLD} | read.get("about", {})
    if like_threshold is not None:
        about["like_threshold"] = like_threshold
    forms = {table: dict(read[table]) for table in ("interactions", "items") if table in read}
    files = {table: form.pop("file").format(category=category) for table, form in forms.items()}
    paths = {table: [located.folder / file] for table, file in files.items()}
    words = {word: about[word] for word in ("noun", "person", "attribute")}
    tables = read_tables(forms, paths, read.get("columns", {}), words)
    items = items or tables["items"]
    for table in (tables["interactions"], items):
        table.notes.clear()  # that its own files are understood goes without saying
    if "tags" in read:
        tags = _tags(located.folder, **read["tags"])
        items = replace(
            items, frame=items.frame.assign(attributes=items.frame["item_id"].map(tags))
        )
    titled = items.texts("title").notna().to_numpy()
    left_out = {}
    if about.get("unknown_items") == "drop":
        left_out[UNTITLED] = int((~titled).sum())
        items = replace(items, frame=items.frame[titled])
    notes = list(located.notes)
    if "timestamp" not in tables["interactions"].frame:
        notes.append(f"{files['interactions']} has no times; a temporal split is not possible")
    years = [column for column in ("title", "year") if column in items.frame]
    if repeated := int(items.frame.duplicated(years).sum()):
        notes.append(f"items that share title and year with an earlier one: {repeated}")
    data = make_dataset(
        tables["interactions"], items, name=name, dropped=left_out, notes=tuple(notes), **about
    )
    check_likes(data)
    return data


def _tags(folder: Path, file: str, names: str, most: int) -> Mapping[str, str]:
    """The tags that most users gave to each item, "rock|80s", by item id."""

    def read(name: str, columns: tuple[str, ...]) -> pd.DataFrame:
        source = open_table(folder / name, separator="\t", quoted=False, encoding=OLD)
        frame = source.read(dict.fromkeys(source.names[: len(columns)], "text"))
        return frame.set_axis(list(columns), axis=1)

    given, labels = read(file, ("user", "item", "tag")), read(names, ("tag", "label"))
    counts = given.groupby(["item", "tag"], as_index=False).size()
    first = counts.sort_values(["size", "tag"], ascending=[False, True]).groupby("item").head(most)
    return first.merge(labels, on="tag").groupby("item")["label"].agg(list).map(attribute_text)
