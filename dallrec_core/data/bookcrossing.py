"""Book-Crossing (Ziegler et al. 2005; research use): the original dump of three CSV files.

The folder ``bookcrossing`` below the data folder holds ``BX-Book-Ratings.csv`` and
``BX-Books.csv``. ``BX-Users.csv`` (age and place of each reader) may lie there too and is not read:
nothing in this book uses it.

The server that published the dump no longer answers everywhere. It is tried when the files are
missing, and the archive is refused unless it has the md5 that several public projects noted for it;
no checksum of the single files is known, so a folder placed by hand is used as it is.

A rating of 0 is *implicit*: the reader listed the book and gave no rating. It is kept as an
interaction without a rating, or left out, by choice.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import FiniteFloat, NonNegativeInt

from dallrec_core.data import books
from dallrec_core.data.base import Dataset, make_dataset
from dallrec_core.data.checks import Table
from dallrec_core.data.download import locate
from dallrec_core.errors import UserError

RATINGS = "BX-Book-Ratings.csv"
LIKE_THRESHOLD = 6.0
"""Ratings run from 1 to 10; the upper half are likes."""
_COLUMNS = {"user_id": "User-ID", "item_id": "ISBN", "rating": "Book-Rating"}


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
        UserError: files missing and no network, a file that is not the dump's, no row left, a bad
            option.
    """
    located = locate("book-crossing")
    ratings, left_out, notes = read_ratings(located.folder / RATINGS)
    catalogue, catalogue_notes = books.read_catalogue(located.folder)
    if not keep_untitled:
        titled = ratings["item_id"].isin(books.with_title(ratings["item_id"].unique(), catalogue))
        ratings = _keep(ratings, titled, books.UNTITLED, left_out)
    if not keep_implicit:
        ratings = _keep(ratings, ratings["rating"] > 0, "implicit ratings (0)", left_out)
    best_first = ratings.sort_values("rating", ascending=False, kind="stable")
    highest = ~best_first.duplicated(["user_id", "item_id"]).sort_index()
    repeats = "repeated ratings of a pair (the highest is kept)"
    ratings = _keep(ratings, highest, repeats, left_out)
    user, item = (pd.factorize(ratings[name])[0] for name in ("user_id", "item_id"))
    sparse = f"interactions of users or books with fewer than {min_interactions}"
    ratings = _keep(ratings, core(user, item, min_interactions), sparse, left_out)
    if ratings.empty:
        raise UserError(
            f"{located.folder / RATINGS}: no interaction is left: no user and book have "
            f"{min_interactions} or more. Lower min_interactions, or keep implicit ratings and "
            "books without a title."
        )
    isbns = ratings["item_id"].unique()
    unread = f"books of {books.BOOKS} without a kept interaction"
    left_out[unread] = len(catalogue) - int(catalogue.index.isin(isbns).sum())
    items, unnamed = books.name_books(list(isbns), catalogue)
    ratings["rating"] = ratings["rating"].where(ratings["rating"] > 0)
    return make_dataset(
        Table(ratings, RATINGS, _COLUMNS),
        Table(items, books.BOOKS),
        dropped=left_out,
        name="book-crossing",
        noun="book",
        like_threshold=float(like_threshold),
        notes=(*located.notes, *notes, *catalogue_notes, *unnamed),
    )


def read_ratings(path: Path) -> tuple[pd.DataFrame, dict[str, int], list[str]]:
    """Read ``BX-Book-Ratings.csv``, with repaired ISBNs, and what was left out and remarked.

    Rows without user, ISBN or a rating from 0 to 10 are left out.

    Raises:
        UserError: as :func:`~dallrec_core.data.books.read_dump`.
    """
    cells = dict(zip(_COLUMNS.values(), (".+", ".+", "10|[0-9]"), strict=True))
    frame, malformed, notes = books.read_dump(path, cells)
    ratings = frame.set_axis(list(_COLUMNS), axis=1).astype({"rating": np.float64})
    isbns = {text: books.repair_isbn(text) for text in ratings["item_id"].unique()}
    repaired = ratings["item_id"].map(isbns).astype("str")
    if changed := int((repaired != ratings["item_id"]).sum()):
        notes.append(f"{RATINGS}: {changed:,} rows had a damaged ISBN, which was repaired")
    return ratings.assign(item_id=repaired), {f"malformed rows of {RATINGS}": len(malformed)}, notes


def _keep(
    frame: pd.DataFrame, rows: np.ndarray | pd.Series, others: str, left_out: dict[str, int]
) -> pd.DataFrame:
    """The rows of a frame that are kept; count the others under that name."""
    left_out[others] = len(rows) - int(np.count_nonzero(rows))
    return frame[rows]


def core(users: np.ndarray, items: np.ndarray, least: int) -> np.ndarray:
    """Return which interactions [rows] remain when sparse users and items are removed for good.

    Args:
        users: user code of each interaction, int [rows].
        items: item code of each, int [rows].
        least: fewest interactions of a user, and of an item, in what remains.
    """
    kept = np.ones(len(users), dtype=bool)
    while True:
        enough = kept.copy()
        for codes in (users, items):
            enough &= np.bincount(codes[kept], minlength=codes.max(initial=0) + 1)[codes] >= least
        if (enough == kept).all():
            return kept
        kept = enough
