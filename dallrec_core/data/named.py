"""Datasets by name whose files `origins.yml` describes: MovieLens, Last.fm, Amazon, Goodbooks.

Every rating is an interaction, as in the paper, and items without one stay in the catalogue. Titles
such as ``Matrix, The (1999)`` become ``The Matrix`` with the year beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from dallrec_core.data.base import LIKE_THRESHOLD, Dataset, make_dataset
from dallrec_core.data.columns import attribute_text
from dallrec_core.data.download import CATEGORY, ORIGINS, locate
from dallrec_core.data.files import Threshold, check_likes, read_tables
from dallrec_core.data.tables import read_fields

UNTITLED = "items without a title"
"""What is said of items that are left out for that reason."""
TAGS = 5
"""How many tags of an artist count: those that most listeners gave."""


def load_named(name: str, like_threshold: Threshold | None = None) -> Dataset:
    """Load a dataset that `origins.yml` describes.

    Args:
        name: of the dataset.
        like_threshold: ratings at or above it are likes (or "median", "count"); None: as usual.

    Raises:
        UserError: files missing and no network, or a malformed line.
    """
    return _load(name, like_threshold)


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
    return _load("amazon-2023", like_threshold, category)


def _load(name: str, like_threshold: Threshold | None, category: str = CATEGORY) -> Dataset:
    located, read = locate(name, category), ORIGINS[name].read
    about: dict[str, Any] = {"noun": "movie", "person": "", "attribute": "genres"}
    about |= {"like_threshold": LIKE_THRESHOLD} | read.get("about", {})
    if like_threshold is not None:
        about["like_threshold"] = like_threshold
    forms = {kind: dict(read[kind]) for kind in ("interactions", "items")}
    files = {kind: form.pop("file").format(category=category) for kind, form in forms.items()}
    paths = {kind: [located.folder / file] for kind, file in files.items()}
    interactions, items = read_tables(forms, paths, read.get("columns", {}), about).values()
    for table in (interactions, items):
        table.notes.clear()  # that its own files are understood goes without saying
    if name in _ATTRIBUTES:
        found = items.frame["item_id"].astype("str").map(_ATTRIBUTES[name](located.folder))
        items = replace(items, frame=items.frame.assign(attributes=found))
    left_out = {}
    if about.get("unknown_items") == "drop":
        titled = items.texts("title").notna().to_numpy()
        left_out[UNTITLED] = int((~titled).sum())
        items = replace(items, frame=items.frame[titled])
    notes = list(located.notes)
    if "timestamp" not in interactions.frame:
        notes.append(f"{files['interactions']} has no times; a temporal split is not possible")
    years = [column for column in ("title", "year") if column in items.frame]
    if repeated := int(items.frame.duplicated(years).sum()):
        notes.append(f"items that share title and year with an earlier one: {repeated}")
    data = make_dataset(
        interactions, items, name=name, dropped=left_out, notes=tuple(notes), **about
    )
    check_likes(data)
    return data


def _genres(folder: Path) -> Mapping[str, str]:
    """The genres of MovieLens-100K by item id, which stand in columns of 0 and 1."""
    names = ORIGINS["ml-100k"].read["items"]["names"]
    films = read_fields(folder / "u.item", "|", names).frame
    flags = films[names[names.index("Action") :]] == "1"
    texts = ["|".join(flags.columns[row]) for row in flags.to_numpy()]
    return dict(zip(films["item_id"], texts, strict=True))


def _tags(folder: Path) -> Mapping[str, str]:
    """The tags that most listeners gave to each artist, "rock|80s", by item id."""
    given = read_fields(folder / "user_taggedartists.dat", "\t").frame
    labels = read_fields(folder / "tags.dat", "\t").frame
    counts = given.groupby(["artistID", "tagID"], as_index=False).size()
    counts = counts.sort_values(["size", "tagID"], ascending=[False, True])
    first = counts.groupby("artistID").head(TAGS).merge(labels, on="tagID")
    return first.groupby("artistID")["tagValue"].agg(list).map(attribute_text)


_ATTRIBUTES = {"ml-100k": _genres, "lastfm-2k": _tags}
"""By dataset, what finds the attributes of its items where no column of theirs holds them."""
