"""Datasets by name: those that `origins.yml` describes in full, and the dump of Book-Crossing.

Of MovieLens, Last.fm, Amazon and Goodbooks every rating is an interaction, as in the paper, and
items without one stay in the catalogue. Titles such as ``Matrix, The (1999)`` become ``The Matrix``
with the year beside them.

Book-Crossing (Ziegler et al. 2005; research use) has ratings, damaged ISBNs and unknown titles. Its
folder holds ``BX-Book-Ratings.csv`` and ``BX-Books.csv``; the users' age and place are not read.
The server that published the dump no longer answers everywhere. It is tried when the files are
missing, and the archive is refused unless it has the md5 that several public projects noted for it;
no checksum of the single files is known, so a folder placed by hand is used as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field, FiniteFloat, NonNegativeInt

from dallrec_core.data import books
from dallrec_core.data.base import LIKE_THRESHOLD, Dataset, make_dataset
from dallrec_core.data.checks import Table
from dallrec_core.data.columns import attribute_text
from dallrec_core.data.download import CATEGORY, ORIGINS, locate
from dallrec_core.data.files import Threshold, check_likes, read_tables
from dallrec_core.data.tables import read_fields
from dallrec_core.errors import UserError

UNTITLED = "items without a title"
"""What is said of items that are left out for that reason."""
TAGS = 5
"""How many tags of an artist count: those that most listeners gave."""
BOOK_LIKES = 6.0
"""Book-Crossing's ratings run from 1 to 10; the upper half are likes."""

_RATING_COLUMNS = {"user_id": "User-ID", "item_id": "ISBN", "rating": "Book-Rating"}


def load_named(
    name: str,
    like_threshold: Threshold | None = None,
    category: Annotated[str, Field(pattern=r"^\w+$")] = CATEGORY,
) -> Dataset:
    """Load a dataset that `origins.yml` describes.

    Amazon's products without a title are left out and counted, with their interactions.

    Args:
        name: of the dataset.
        like_threshold: ratings at or above it are likes (or "median", "count"); None: as usual.
        category: of "amazon-2023", as its publisher spells it, e.g. "Video_Games".

    Raises:
        UserError: files missing and no network, or a malformed line.
    """
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


# ---------------------------------------------------------------- Book-Crossing


def load_book_crossing(
    keep_implicit: bool = True,
    min_interactions: NonNegativeInt = 3,
    keep_untitled: bool = True,
    like_threshold: FiniteFloat = BOOK_LIKES,
) -> Dataset:
    """Load the dump; its books have no genres, so ``attributes`` is empty for all of them.

    Args:
        keep_implicit: keep ratings of 0 as interactions without a rating, as the paper's released
            split does; False leaves them out.
        min_interactions: leave out users and books with fewer interactions, again and again until
            none is left (the released split is such a core with 3); 0 or 1 keeps all.
        keep_untitled: keep books that ``BX-Books.csv`` does not know, about a tenth of the
            interactions, under a made-up title; False leaves them out. Their very name says that
            few people read them, so a language model is better judged without them.
        like_threshold: ratings (1 to 10) at or above it are likes.

    Raises:
        UserError: files missing and no network, a file that is not the dump's, no row left.
    """
    located = locate("book-crossing")
    ratings, left_out, notes = _read_ratings(located.folder / books.RATINGS)
    catalogue, catalogue_notes = books.read_catalogue(located.folder)
    if not keep_untitled:
        titled = ratings["item_id"].isin(books.titled(catalogue))
        ratings = _keep(ratings, titled, books.UNTITLED, left_out)
    if not keep_implicit:
        ratings = _keep(ratings, ratings["rating"] > 0, "implicit ratings (0)", left_out)
    best_first = ratings.sort_values("rating", ascending=False, kind="stable")
    highest = ~best_first.duplicated(["user_id", "item_id"]).sort_index()
    repeats = "repeated ratings of a pair (the highest is kept)"
    ratings = _keep(ratings, highest, repeats, left_out)
    dense = ratings.index.isin(_core(ratings, min_interactions).index)
    sparse = f"interactions of users or books with fewer than {min_interactions}"
    ratings = _keep(ratings, dense, sparse, left_out)
    if ratings.empty:
        what = f"no interaction is left: no user and book have {min_interactions} or more"
        raise UserError(f"{located.folder / books.RATINGS}: {what}. Lower min_interactions.")
    isbns = ratings["item_id"].unique()
    unread = f"books of {books.BOOKS} without a kept interaction"
    left_out[unread] = len(catalogue) - int(catalogue.index.isin(isbns).sum())
    items, unnamed = books.name_books(list(isbns), catalogue)
    ratings["rating"] = ratings["rating"].where(ratings["rating"] > 0)
    notes += [*catalogue_notes, *unnamed]
    about: dict[str, Any] = {
        "name": "book-crossing",
        "noun": "book",
        "like_threshold": like_threshold,
    }
    about |= {"dropped": left_out, "notes": (*located.notes, *notes)}
    tables = Table(ratings, books.RATINGS, _RATING_COLUMNS), Table(items, books.BOOKS)
    return make_dataset(*tables, **about)


def _read_ratings(path: Path) -> tuple[pd.DataFrame, dict[str, int], list[str]]:
    """The ratings with repaired ISBNs, what was left out, and remarks."""
    cells = dict(zip(_RATING_COLUMNS.values(), (".+", ".+", "10|[0-9]"), strict=True))
    frame, malformed, notes = books.read_dump(path, cells)
    ratings = frame.set_axis(list(_RATING_COLUMNS), axis=1).astype({"rating": np.float64})
    isbns = {text: books.repair_isbn(text) for text in ratings["item_id"].unique()}
    repaired = ratings["item_id"].map(isbns).astype("str")
    if changed := int((repaired != ratings["item_id"]).sum()):
        notes.append(f"{books.RATINGS}: {changed:,} rows had a damaged ISBN, which was repaired")
    left_out = {f"malformed rows of {books.RATINGS}": malformed}
    return ratings.assign(item_id=repaired), left_out, notes


def _keep(
    frame: pd.DataFrame, rows: np.ndarray | pd.Series, others: str, left_out: dict[str, int]
) -> pd.DataFrame:
    """The rows of a frame that are kept; count the others under that name."""
    left_out[others] = len(rows) - int(np.count_nonzero(rows))
    return frame[rows]


def _core(ratings: pd.DataFrame, least: int) -> pd.DataFrame:
    """What remains when users and books with fewer than `least` ratings are removed for good."""
    size = len(ratings) + 1
    while len(ratings) < size:
        size = len(ratings)
        for column in ("user_id", "item_id"):
            counts = ratings.groupby(column)[column].transform("size")
            ratings = ratings[counts >= least]
    return ratings
