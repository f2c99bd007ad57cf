"""The split that the paper's authors released (zzerrrro/DALLRec at commit 75959c1).

Each line of ``train.txt`` and ``test.txt`` is ``user item item …``. Every rating is a positive and
no rating values are released. In the raw order of a line the position predicts test membership;
rows are therefore sorted by the original ids before anything else happens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dallrec_core.datasets import books
from dallrec_core.datasets.base import Dataset, make_dataset
from dallrec_core.datasets.checks import Source
from dallrec_core.datasets.download import data_dir, locate
from dallrec_core.datasets.movielens import read_movies
from dallrec_core.datasets.origins import RECIPES
from dallrec_core.datasets.published_files import PARTS, read_id_list, read_lines
from dallrec_core.errors import UserError


@dataclass(frozen=True)
class Variant:
    """One of the released data sets."""

    name: str
    """of the dataset"""
    noun: str
    """word used in prompts"""
    titles: str
    """file or folder below the data folder that has the titles"""


VARIANTS = {
    "movielens": Variant("published", noun="movie", titles="ml-1m/movies.dat"),
    "book": Variant("published-book", noun="book", titles=books.FOLDER),
}
"""The released data sets that can be loaded."""
OVERLAP = "released test rows whose pair is in train too (kept there)"


def load_published(variant: str = "movielens", keep_untitled: bool = True) -> Dataset:
    """Load a released split; ``dataset.presplit`` holds its (train, test).

    Films get titles, years and genres from MovieLens-1M where that is on this machine
    (``dallrec data ml-1m``); else they are called "item 1193". Books get title, author and year
    from ``BX-Books.csv`` or ``items.tsv`` in the folder ``bookcrossing``; their ISBNs are repaired,
    and books that were two only by a damaged ISBN become one.

    Args:
        variant: "movielens" or "book".
        keep_untitled: keep books whose title nobody knows under a made-up one; False leaves them
            out (and fetches the dump's titles where there is no catalogue at all).

    Raises:
        UserError: unknown variant, files missing and no network, a malformed line.
    """
    if variant not in VARIANTS:
        raise UserError(f"no released split '{variant}'. Valid: {', '.join(VARIANTS)}.")
    books.check_switches(keep_untitled=keep_untitled)
    chosen = VARIANTS[variant]
    located = locate(f"published/{variant}")
    folder = located.folder
    user_ids = read_id_list(folder / "user_list.txt")
    item_ids = read_id_list(folder / "item_list.txt")
    interactions = pd.concat(
        [read_lines(folder / f"{part}.txt", user_ids, item_ids, part) for part in PARTS]
    )
    left_out: dict[str, int] = {}
    if chosen.noun == "book":
        interactions, items, notes = _as_books(interactions, item_ids, left_out, keep_untitled)
    else:
        items, notes = _titled(item_ids, chosen)
    return make_dataset(
        _apart(interactions, left_out),
        items,
        name=chosen.name,
        noun=chosen.noun,
        source=Source("train.txt and test.txt", "item_list.txt", row="line", item_row="line"),
        duplicates="merge",
        dropped=left_out,
        notes=[*located.notes, *notes],
    )


def load_published_book(keep_untitled: bool = True) -> Dataset:
    """Load the released Book-Crossing split: :func:`load_published` with variant "book".

    Args:
        keep_untitled: keep books whose title nobody knows under a made-up one.

    Raises:
        UserError: files missing and no network, a malformed line.
    """
    return load_published("book", keep_untitled)


def file_order(data: Dataset, variant: str = "movielens") -> pd.DataFrame:
    """Return the released rows in the order of the files, which nothing but a look at it may use.

    Args:
        data: from :func:`load_published`, whose codes are used.
        variant: the same as there; books that were merged have no row of their own.

    Returns:
        user, item (codes), part ("train" or "test"), user by user as in the line, train first.
    """
    folder = locate(f"published/{variant}").folder
    user_ids, item_ids = (read_id_list(folder / f"{name}_list.txt") for name in ("user", "item"))
    frames = [read_lines(folder / f"{part}.txt", user_ids, item_ids, part) for part in PARTS]
    frame = pd.concat(frames, ignore_index=True)
    codes = {
        name: pd.Index(ids).get_indexer(frame[f"{name}_id"].astype(str))
        for name, ids in (("user", data.users["user_id"]), ("item", data.items["item_id"]))
    }
    frame = pd.DataFrame(codes).assign(part=frame["part"].astype(str))
    return frame[frame["item"] >= 0].sort_values("user", kind="stable", ignore_index=True)


def _as_books(
    interactions: pd.DataFrame,
    item_ids: list[str],
    left_out: dict[str, int],
    keep_untitled: bool,
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Repair the ISBNs: interactions and items by repaired ISBN, and remarks."""
    isbns = [books.repair_isbn(text) for text in item_ids]
    changed = sum(new != old for new, old in zip(isbns, item_ids, strict=True))
    codes, names = pd.factorize(pd.array(isbns, dtype="str"))
    left_out["books listed twice under one ISBN (merged)"] = len(isbns) - len(names)
    rows = codes[interactions["item_id"].cat.codes]
    interactions = interactions.assign(item_id=pd.Categorical.from_codes(rows, list(names)))
    lines = pd.Index(np.unique(codes, return_index=True)[1] + 2)
    catalogue, notes = _catalogue(keep_untitled)
    notes = [f"{changed:,} of {len(isbns):,} ISBNs were damaged and are repaired", *notes]
    if not keep_untitled:
        known = books.has_title(list(names), catalogue)
        left_out["books without a known title"] = int(np.count_nonzero(~known))
        left_out[books.UNTITLED] = int(np.count_nonzero(~known[rows]))
        interactions, names, lines = interactions[known[rows]], names[known], lines[known]
    items, unnamed = books.name_books(list(names), catalogue, lines)
    if catalogue is None:
        folder = data_dir() / books.FOLDER
        unnamed.append(f"for titles put {books.BOOKS} or {books.CATALOGUE} into {folder}")
    return interactions, items, [*notes, *unnamed]


def _catalogue(optional: bool) -> tuple[pd.DataFrame | None, list[str]]:
    """Titles from this machine, or from the publisher of the dump unless they are optional."""
    catalogue, notes = books.read_catalogue(data_dir() / books.FOLDER)
    if catalogue is not None or optional:
        return catalogue, notes
    try:
        return books.read_catalogue(locate(books.FOLDER).folder)
    except UserError as error:
        raise UserError(
            f"the released split has no titles of its own, and {error} The file to put there is "
            f"{books.BOOKS} (or {books.CATALOGUE}). With keep_untitled=True it runs without titles."
        ) from error


def _apart(interactions: pd.DataFrame, left_out: dict[str, int]) -> pd.DataFrame:
    """Remove test rows whose pair is in train: a model may have seen them."""
    users, items = (interactions[name].cat.codes for name in ("user_id", "item_id"))
    pair = users.to_numpy(dtype=np.int64) * (int(items.max()) + 1) + items.to_numpy()
    in_test = (interactions["part"] == "test").to_numpy()
    seen = in_test & np.isin(pair, pair[~in_test])
    if seen.any():
        left_out[OVERLAP] = int(seen.sum())
    return interactions[~seen]


def _titled(item_ids: list[str], variant: Variant) -> tuple[pd.DataFrame, list[str]]:
    """The items table of the released ids, with titles where they are known."""
    items = pd.DataFrame({"item_id": item_ids}, index=pd.RangeIndex(2, len(item_ids) + 2))
    path = data_dir() / variant.titles
    if path.is_file():
        known = read_movies(path).set_index("item_id")
        items = items.join(known, on="item_id")
    else:
        items["title"] = pd.Series(np.nan, index=items.index, dtype="str")
    nameless = items["title"].isna()
    items["title"] = items["title"].where(~nameless, "item " + items["item_id"])
    if not nameless.any():
        return items, []
    dataset = variant.titles.partition("/")[0]
    hint = f"; run `dallrec data {dataset}` for titles" if dataset in RECIPES else ""
    return items, [f"{int(nameless.sum()):,} items have no title and are called by id{hint}"]
