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

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from dallrec_core.data.base import Dataset, make_dataset
from dallrec_core.data.books import (
    BOOKS,
    FOLDER,
    UNTITLED,
    check_switches,
    has_title,
    name_books,
    read_catalogue,
    repair_isbn,
)
from dallrec_core.data.bx_dump import Dump, read_dump
from dallrec_core.data.checks import Table, check_threshold
from dallrec_core.data.download import locate
from dallrec_core.errors import UserError

RATINGS = "BX-Book-Ratings.csv"
LIKE_THRESHOLD = 6.0
"""Ratings run from 1 to 10; the upper half are likes."""
_SCALE = [str(rating) for rating in range(11)]
_COLUMNS = {"User-ID": "user_id", "ISBN": "item_id", "Book-Rating": "rating"}


def load_book_crossing(
    keep_implicit: bool = True,
    min_interactions: int = 3,
    keep_untitled: bool = True,
    like_threshold: float = LIKE_THRESHOLD,
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
    _check_options(min_interactions, like_threshold)
    check_switches(keep_implicit=keep_implicit, keep_untitled=keep_untitled)
    located = locate(FOLDER)
    dump = read_ratings(located.folder / RATINGS)
    notes = [*located.notes, *dump.remarks("left out")]
    ratings, changed = _numbered(dump.frame)
    if changed:
        notes.append(f"{RATINGS}: {changed:,} rows had a damaged ISBN, which was repaired")
    left_out = {f"malformed rows of {RATINGS}": len(dump.bad)}
    catalogue, catalogue_notes = read_catalogue(located.folder)
    if not keep_untitled:
        titled = has_title(list(ratings["item_id"]), catalogue)
        left_out[UNTITLED] = int(np.count_nonzero(~titled))
        ratings = ratings[titled]
    ratings = _filter(ratings, keep_implicit, min_interactions, left_out, dump.path)
    used = ratings["item_id"].unique()
    if catalogue is not None:
        rest = len(catalogue) - int(catalogue.index.isin(used).sum())
        left_out[f"books of {BOOKS} without a kept interaction"] = rest
    items, unnamed = name_books(list(used), catalogue)
    theirs = {ours: name for name, ours in _COLUMNS.items()}
    data = make_dataset(
        Table(ratings, RATINGS, theirs, row="line"),
        Table(items, BOOKS),
        dropped=left_out,
        name="book-crossing",
        noun="book",
        like_threshold=float(like_threshold),
        notes=(*notes, *catalogue_notes, *unnamed),
    )
    # Only here: the checks of `make_dataset` take a missing rating for a slip.
    explicit = data.interactions["rating"].where(data.interactions["rating"] > 0)
    if implicit := int(explicit.isna().sum()):
        note = f"{implicit:,} interactions are implicit (0 in {RATINGS}) and count as likes"
        data = replace(data, notes=(*data.notes, note))
    return replace(data, interactions=data.interactions.assign(rating=explicit))


def _check_options(min_interactions: int, like_threshold: float) -> None:
    whole = isinstance(min_interactions, int) and not isinstance(min_interactions, bool)
    if not whole or min_interactions < 0:
        raise UserError(
            f"min_interactions is {min_interactions!r}; it must be a whole number, 0 or more."
        )
    check_threshold(like_threshold)


def read_ratings(path: Path) -> Dump:
    """Read ``BX-Book-Ratings.csv``; rows without user, ISBN or a rating from 0 to 10 are set aside.

    Raises:
        UserError: as :func:`~dallrec_core.data.bx_dump.read_dump`; too many rows set aside.
    """
    dump = read_dump(path, tuple(_COLUMNS))
    for column in ("User-ID", "ISBN"):
        dump = dump.without(column, dump.frame[column] == "", "is empty")
    rating = dump.frame["Book-Rating"]
    return dump.without("Book-Rating", ~rating.isin(_SCALE), "is no rating from 0 to 10").checked()


def _numbered(frame: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Ratings under our names, with repaired ISBNs, and the number of rows that this changed."""
    codes, texts = pd.factorize(frame["ISBN"])
    isbns = np.array([repair_isbn(text) for text in texts], dtype=object)
    changed = np.array(isbns != np.array(texts, dtype=object))
    out = pd.DataFrame(
        {
            "user_id": frame["User-ID"],
            "item_id": pd.array(isbns[codes], dtype="str"),
            "rating": frame["Book-Rating"].astype(np.float64),
        }
    )
    return out, int(changed[codes].sum())


def _filter(
    frame: pd.DataFrame,
    keep_implicit: bool,
    min_interactions: int,
    left_out: dict[str, int],
    path: Path,
) -> pd.DataFrame:
    """Drop, in this order, implicit ratings, repeats and sparse users and books; count each."""
    if not keep_implicit:
        implicit = (frame["rating"] == 0).to_numpy()
        left_out["implicit ratings (0)"] = int(implicit.sum())
        frame = frame[~implicit]
    users, items = (pd.factorize(frame[name])[0] for name in ("user_id", "item_id"))
    # Best rated first, then the usual line order, so that the explicit one of a pair is kept.
    order = np.argsort(-frame["rating"].to_numpy(), kind="stable")
    pairs = pd.Series(users.astype(np.int64) * (len(frame) + 1) + items)
    repeated = pairs.iloc[order].duplicated().sort_index().to_numpy()
    left_out["repeated ratings of a pair (the highest is kept)"] = int(repeated.sum())
    kept = core(users, items, min_interactions, ~repeated)
    sparse = f"interactions of users or books with fewer than {min_interactions}"
    left_out[sparse] = int((~repeated & ~kept).sum())
    if not kept.any():
        raise UserError(
            f"{path}: no interaction is left: no user and book have {min_interactions} or more. "
            "Lower min_interactions, or keep implicit ratings and books without a title."
        )
    return frame[kept]


def core(users: np.ndarray, items: np.ndarray, least: int, kept: np.ndarray) -> np.ndarray:
    """Return which interactions [rows] remain when sparse users and items are removed for good.

    Args:
        users: user code of each interaction, int [rows].
        items: item code of each, int [rows].
        least: fewest interactions of a user, and of an item, in what remains.
        kept: bool [rows]: the interactions to begin with.
    """
    kept = kept.copy()
    while True:
        enough = kept.copy()
        for codes in (users, items):
            enough &= np.bincount(codes[kept], minlength=codes.max(initial=0) + 1)[codes] >= least
        if (enough == kept).all():
            return kept
        kept = enough
