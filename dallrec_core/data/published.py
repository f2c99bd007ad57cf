"""The split that the paper's authors released (zzerrrro/DALLRec at commit 75959c1).

Each line of ``train.txt`` and ``test.txt`` is ``user item item …``. Every rating is a positive and
no rating values are released. In the raw order of a line the position predicts test membership;
rows are therefore sorted by the original ids before anything else happens.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dallrec_core.data import books
from dallrec_core.data.base import Dataset, make_dataset
from dallrec_core.data.checks import Table
from dallrec_core.data.download import data_dir, locate
from dallrec_core.data.movielens import read_movies
from dallrec_core.data.origins import RECIPES
from dallrec_core.data.tables import codes_in, decode, read_bytes
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
PARTS = ("train", "test")
"""Names of the two files of interactions, without their ending."""
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
    interactions, item_ids = _read(located.folder)
    left_out: dict[str, int] = {}
    if chosen.noun == "book":
        interactions, items, notes = _as_books(interactions, item_ids, left_out, keep_untitled)
    else:
        items, notes = _titled(item_ids, chosen)
    return make_dataset(
        Table(_without_overlap(interactions, left_out), "train.txt and test.txt", row="line"),
        Table(items, "item_list.txt", row="line"),
        duplicates="merge",
        dropped=left_out,
        name=chosen.name,
        noun=chosen.noun,
        notes=(*located.notes, *notes),
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
    frame = _read(locate(f"published/{variant}").folder)[0]
    codes = {
        "user": codes_in(frame["user_id"], data.users["user_id"]),
        "item": codes_in(frame["item_id"], data.items["item_id"]),
    }
    frame = pd.DataFrame(codes).assign(part=frame["part"].astype("str").to_numpy())
    return frame[frame["item"] >= 0].sort_values("user", kind="stable", ignore_index=True)


def _read(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """The rows of both parts in the order of the files, and the original ids of the items."""
    users, items = (read_id_list(folder / f"{name}_list.txt") for name in ("user", "item"))
    frames = [read_lines(folder / f"{part}.txt", users, items, part) for part in PARTS]
    return pd.concat(frames), items


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


def _without_overlap(interactions: pd.DataFrame, left_out: dict[str, int]) -> pd.DataFrame:
    """Remove test rows whose pair is in train: a model may have seen them."""
    items, users = interactions["item_id"].cat, interactions["user_id"].cat.codes
    pair = users.to_numpy(np.int64) * len(items.categories) + items.codes.to_numpy()
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


def read_id_list(path: Path) -> list[str]:
    """Return the original ids of ``org_id remap_id`` lines, by remapped number.

    Raises:
        UserError: naming the first line that breaks the form or the numbering 0, 1, 2 …
    """
    lines = decode(read_bytes(path)).splitlines()
    ids: dict[str, int] = {}
    for number, line in enumerate(lines[1:], start=2):
        fields = line.split()
        if len(fields) != 2 or fields[1] != str(len(ids)):
            raise UserError(
                f"{path}, line {number}: '{line[:60]}' is not 'org_id remap_id' with remap_id "
                f"{len(ids)}. Delete the file to fetch it anew."
            )
        if fields[0] in ids:
            raise UserError(
                f"{path}, line {number}: id {fields[0]} is already on line {ids[fields[0]]}. "
                "Delete the file to fetch it anew."
            )
        ids[fields[0]] = number
    return list(ids)


def read_lines(path: Path, user_ids: list[str], item_ids: list[str], part: str) -> pd.DataFrame:
    """Read ``user item item …`` lines as user_id, item_id, part; the index is the line number.

    Raises:
        UserError: naming the first line with something that is not a number or not in the lists.
    """
    lines = decode(read_bytes(path)).splitlines()
    for number, text in enumerate(lines, start=1):
        if bad := [field for field in text.split() if not field.isdecimal()]:
            raise UserError(
                f"{path}, line {number}: '{bad[0]}' is not a number; the form is 'user item item "
                "…'. Delete the file to fetch it anew."
            )
    rows = [[int(field) for field in text.split()] for text in lines]
    sizes = [max(len(row) - 1, 0) for row in rows]
    users = np.repeat([row[0] if row else 0 for row in rows], sizes)
    items = np.array([item for row in rows for item in row[1:]], dtype=np.int64)
    line = np.repeat(np.arange(1, len(rows) + 1), sizes)
    for name, numbers, known in (("user", users, user_ids), ("item", items, item_ids)):
        unknown = numbers >= len(known)
        if unknown.any():
            first = int(np.flatnonzero(unknown)[0])
            raise UserError(
                f"{path}, line {line[first]}: {name} {numbers[first]} is not in {name}_list.txt, "
                f"which numbers 0 to {len(known) - 1}. Delete both files to fetch them anew."
            )
    columns = {
        "user_id": pd.Categorical.from_codes(users, user_ids),
        "item_id": pd.Categorical.from_codes(items, item_ids),
        "part": pd.Categorical.from_codes(np.full(len(line), PARTS.index(part)), PARTS),
    }
    return pd.DataFrame(columns, index=line)
