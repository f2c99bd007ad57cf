"""Book-Crossing (Ziegler et al. 2005; research use): ratings, damaged ISBNs, unknown titles.

The folder ``bookcrossing`` below the data folder holds ``BX-Book-Ratings.csv`` and
``BX-Books.csv``; the users' age and place are not read. The server that published the dump no
longer answers everywhere. It is tried when the files are missing, and the archive is refused unless
it has the md5 that several public projects noted for it; no checksum of the single files is known,
so a folder placed by hand is used as it is.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import FiniteFloat, NonNegativeInt

from dallrec_core.data.base import Dataset, make_dataset
from dallrec_core.data.books import (
    BOOKS,
    RATINGS,
    UNTITLED,
    name_books,
    read_catalogue,
    read_dump,
    repair_isbn,
    with_title,
)
from dallrec_core.data.checks import Table
from dallrec_core.data.download import locate
from dallrec_core.errors import UserError

LIKE_THRESHOLD = 6.0
"""Ratings run from 1 to 10; the upper half are likes."""

_RATING_COLUMNS = {"user_id": "User-ID", "item_id": "ISBN", "rating": "Book-Rating"}


def load_book_crossing(
    keep_implicit: bool = True,
    min_interactions: NonNegativeInt = 3,
    keep_untitled: bool = True,
    like_threshold: FiniteFloat = LIKE_THRESHOLD,
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
    ratings, left_out, notes = _read_ratings(located.folder / RATINGS)
    catalogue, catalogue_notes = read_catalogue(located.folder)
    if not keep_untitled:
        titled = ratings["item_id"].isin(with_title(ratings["item_id"].unique(), catalogue))
        ratings = _keep(ratings, titled, UNTITLED, left_out)
    if not keep_implicit:
        ratings = _keep(ratings, ratings["rating"] > 0, "implicit ratings (0)", left_out)
    best_first = ratings.sort_values("rating", ascending=False, kind="stable")
    highest = ~best_first.duplicated(["user_id", "item_id"]).sort_index()
    repeats = "repeated ratings of a pair (the highest is kept)"
    ratings = _keep(ratings, highest, repeats, left_out)
    dense = _core(ratings, min_interactions)
    sparse = f"interactions of users or books with fewer than {min_interactions}"
    left_out[sparse] = len(ratings) - len(dense)
    ratings = dense
    if ratings.empty:
        raise UserError(
            f"{located.folder / RATINGS}: no interaction is left: no user and book have "
            f"{min_interactions} or more. Lower min_interactions, or keep implicit ratings and "
            "books without a title."
        )
    isbns = ratings["item_id"].unique()
    unread = f"books of {BOOKS} without a kept interaction"
    left_out[unread] = len(catalogue) - int(catalogue.index.isin(isbns).sum())
    items, unnamed = name_books(list(isbns), catalogue)
    ratings["rating"] = ratings["rating"].where(ratings["rating"] > 0)
    return make_dataset(
        Table(ratings, RATINGS, _RATING_COLUMNS),
        Table(items, BOOKS),
        dropped=left_out,
        name="book-crossing",
        noun="book",
        like_threshold=float(like_threshold),
        notes=(*located.notes, *notes, *catalogue_notes, *unnamed),
    )


def _read_ratings(path: Path) -> tuple[pd.DataFrame, dict[str, int], list[str]]:
    """The ratings with repaired ISBNs, what was left out, and remarks."""
    cells = dict(zip(_RATING_COLUMNS.values(), (".+", ".+", "10|[0-9]"), strict=True))
    frame, malformed, notes = read_dump(path, cells)
    ratings = frame.set_axis(list(_RATING_COLUMNS), axis=1).astype({"rating": np.float64})
    isbns = {text: repair_isbn(text) for text in ratings["item_id"].unique()}
    repaired = ratings["item_id"].map(isbns).astype("str")
    if changed := int((repaired != ratings["item_id"]).sum()):
        notes.append(f"{RATINGS}: {changed:,} rows had a damaged ISBN, which was repaired")
    return ratings.assign(item_id=repaired), {f"malformed rows of {RATINGS}": malformed}, notes


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
