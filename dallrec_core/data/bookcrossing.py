r"""Book-Crossing (Ziegler et al. 2005; research use): its dump, damaged ISBNs, unknown titles.

The folder ``bookcrossing`` below the data folder holds ``BX-Book-Ratings.csv`` and
``BX-Books.csv``; the users' age and place are not read. The server that published the dump no
longer answers everywhere. It is tried when the files are missing, and the archive is refused unless
it has the md5 that several public projects noted for it; no checksum of the single files is known,
so a folder placed by hand is used as it is.

The quoting of these files is broken in more than one way. Fields are quoted and separated by ``;``.
Quotes inside a field are escaped with a backslash (``\"``), or not at all; three rows of
``BX-Books.csv`` escape the quote that should have ended the title. No CSV reader knows this
mixture, and one that skips what it does not understand loses rows in silence. Here every row is
read or counted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import FiniteFloat, NonNegativeInt

from dallrec_core.data.base import Dataset, make_dataset
from dallrec_core.data.checks import Table, repr_value
from dallrec_core.data.download import locate
from dallrec_core.data.tables import read_fields, read_text
from dallrec_core.errors import UserError

UNTITLED = "interactions of books without a known title"
"""What loaders call the interactions they leave out for that reason."""
YEARS = (1000, 2005)
"""Years that a reader of 2004 can mean; others are slips of the catalogue and become 0."""
FOLDER = "bookcrossing"
"""Folder below the data folder that holds the dump or a catalogue."""
BOOKS, RATINGS = "BX-Books.csv", "BX-Book-Ratings.csv"
CATALOGUE = "items.tsv"
LIKE_THRESHOLD = 6.0
"""Ratings run from 1 to 10; the upper half are likes."""

_BX_COLUMNS = {
    "ISBN": "item_id",
    "Book-Title": "title",
    "Book-Author": "author",
    "Year-Of-Publication": "year",
    "Publisher": "publisher",
}
_FACTS = ["title", "author", "year", "publisher"]
_NOBODY = re.compile(r"(?:n/?a|none|unknown|-|not applicable.*)", re.IGNORECASE)
_BETWEEN = re.compile(r'(?<!\\)(?:\\\\)*";"')  # an even number of backslashes escapes no quote
_ESCAPED = re.compile(r'\\(["\\])')
_SPARE = 10  # malformed rows that a file of any size may have; beyond, one in a hundred
_RATING_COLUMNS = {"user_id": "User-ID", "item_id": "ISBN", "rating": "Book-Rating"}


# ---------------------------------------------------------------- the dataset


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


# ---------------------------------------------------------------- the files of the dump


def _not_the_dump(path: Path, line: int, problem: str) -> UserError:
    return UserError(
        f"{path}, line {line}: {problem}. The original dump has quoted fields separated by ';'. "
        "Put an original copy in its place, or read your own edition as dataset 'files'."
    )


def read_dump(path: Path, columns: Mapping[str, str]) -> tuple[pd.DataFrame, int, list[str]]:
    """Read one CSV file of the dump. Blank lines are the only thing skipped unsaid.

    Args:
        path: the file; Latin-1 as in the original, or UTF-8.
        columns: name in the header -> pattern that its cells match in full.

    Returns:
        these columns as text, the index being the line number; how many rows are malformed and
        left out; a remark about them.

    Raises:
        UserError: absent, empty, a missing column, or so many malformed rows that it must be
            another file.
    """
    # Not splitlines: Latin-1 text holds control characters that it takes for line ends.
    lines = pd.Series(read_text(path).split("\n")).str.rstrip("\r")
    rows = lines[lines.str.strip() != ""].map(fields)
    rows.index += 1
    names = [name.strip() for name in rows.iloc[0]]
    for column in columns:
        if column not in names:
            present = ", ".join(f"'{name}'" for name in names)
            raise _not_the_dump(path, 1, f"column '{column}' is missing; the file has {present}")
    rows = rows.iloc[1:]
    whole = rows.str.len() == len(names)
    bad = {
        n: f"{len(row)} fields where the header has {len(names)}" for n, row in rows[~whole].items()
    }
    frame = pd.DataFrame(rows[whole].tolist(), pd.Index(rows.index[whole], name="line"), names)
    frame = frame[list(columns)].astype("str")
    for column, pattern in columns.items():
        frame[column] = frame[column].str.replace(_ESCAPED, r"\1", regex=True).str.strip()
        wrong = ~frame[column].str.fullmatch(pattern).astype(bool)
        for line, cell in frame.loc[wrong, column].items():
            bad[line] = f"column '{column}': {repr_value(cell)} does not belong there"
        frame = frame[~wrong]
    first = min(bad, default=1)
    if len(bad) > _SPARE + len(rows) // 100 or frame.empty:
        problem = bad.get(first, "there is no row below the header")
        more = f"{problem}; {len(bad):,} of {len(rows):,} rows are malformed"
        raise _not_the_dump(path, first, more)
    what = f"{len(bad):,} malformed rows, the first on line {first} ({bad.get(first)}), left out"
    return frame, len(bad), [f"{path.name}: {what}"] if bad else []


def fields(line: str) -> list[str]:
    """Split a row into its fields, without the quotes around them; escapes stay."""
    if len(line) < 2 or not (line.startswith('"') and line.endswith('"')):
        return line.split(";") if '"' not in line else [line]
    body = line[1:-1]
    return _BETWEEN.split(body) if "\\" in body else body.split('";"')


# ---------------------------------------------------------------- catalogues


def repair_isbn(text: str) -> str:
    """Return an ISBN as it is printed: ten characters, leading zeros back, a final X capital.

    A table that once held ISBNs as numbers has "6379702" for "0006379702". Anything else than an
    ISBN (Book-Crossing has a few ASINs) only becomes upper case.
    """
    return text.strip().upper().zfill(10)


def read_catalogue(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """Read titles, authors, years and publishers by ISBN, and remarks about them.

    Taken from ``BX-Books.csv`` of the dump, else from ``items.tsv``: tab-separated without any
    quoting, with columns isbn10, title[, author, year, publisher]. Empty if neither is there.

    Raises:
        UserError: a missing column, a line with too many or few fields, a file that is not that.
    """
    frame, notes = pd.DataFrame(columns=["item_id", *_FACTS], dtype="str"), list[str]()
    if (folder / BOOKS).is_file():
        frame, _, notes = read_dump(folder / BOOKS, dict.fromkeys(_BX_COLUMNS, "(?s:.*)"))
        frame = frame.rename(columns=_BX_COLUMNS)
    elif (folder / CATALOGUE).is_file():
        table = read_fields(folder / CATALOGUE, "\t")
        table.require("isbn10", "title")
        frame = table.frame.rename(columns={"isbn10": "item_id"})
    frame = frame.assign(item_id=[repair_isbn(text) for text in frame["item_id"]])
    # Of two entries of a book the one with a title counts.
    frame = frame.iloc[np.argsort(frame["title"].str.strip() == "", kind="stable")]
    repeated = frame.duplicated("item_id")
    if repeated.any():
        notes.append(f"catalogue: {int(repeated.sum()):,} books listed again under the same ISBN")
    return frame[~repeated].set_index("item_id"), notes


def with_title(isbns: Sequence[str], catalogue: pd.DataFrame) -> list[str]:
    """Return those of these (repaired) ISBNs that have a title in the catalogue."""
    titled = set(catalogue.index[catalogue["title"].map(plain_text) != ""])
    return [isbn for isbn in isbns if isbn in titled]


def name_books(isbns: Sequence[str], catalogue: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the items table of these (repaired, distinct) ISBNs, and remarks.

    Prompts name a book by its title, and an empty one is an error everywhere else. A book that
    the catalogue does not know is therefore called "Unknown book (ISBN 0006379702)" and counted.

    Args:
        isbns: one per item.
        catalogue: of :func:`read_catalogue`.
    """
    isbn = pd.Series(list(isbns), dtype="str")
    items = catalogue.reindex(index=isbn, columns=_FACTS).reset_index(drop=True)
    items.insert(0, "item_id", isbn)
    for column in ("title", "author", "publisher"):
        items[column] = [plain_text(text) for text in items[column]]
    items["author"] = items["author"].mask(items["author"].str.fullmatch(_NOBODY), "")
    nameless = items["title"] == ""
    items["title"] = items["title"].where(~nameless, "Unknown book (ISBN " + isbn + ")")
    notes = []
    if nameless.any():
        notes.append(
            f"{int(nameless.sum()):,} of {len(items):,} books have no known title and are called "
            f"'Unknown book (ISBN …)'"
        )
    items["year"], odd = plain_years(items["year"])
    if odd:
        low, high = YEARS
        notes.append(f"{odd:,} books have a year outside {low} to {high}; it counts as unknown")
    return items, notes


def plain_text(cell: object) -> str:
    """A cell of a catalogue without HTML entities, left-over backslashes and doubled spaces."""
    return " ".join(unescape(cell).replace("\\", "").split()) if isinstance(cell, str) else ""


def plain_years(column: pd.Series) -> tuple[np.ndarray, int]:
    """Years as int32 [rows], 0 where unknown, and how many were no year that can be meant."""
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    blank = (values == 0) | column.isna() | (column.astype("str").str.strip() == "")
    good = (values >= YEARS[0]) & (values <= YEARS[1]) & (values == np.floor(values))
    return np.where(good, values, 0).astype(np.int32), int((~good & ~blank).sum())
