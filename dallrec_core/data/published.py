"""The split and the numbers that the authors released (zzerrrro/DALLRec at commit 75959c1).

Each line of ``train.txt`` and ``test.txt`` is ``user item item …``. Every rating is a positive and
no rating values are released. In the raw order of a line the position predicts test membership;
rows are therefore sorted by the original ids before anything else happens.

The numbers that they printed and logged are kept as data, none of ours among them; the two files
beside this module say where each number stands.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from dallrec_core.chain.pages import data_dir
from dallrec_core.data import books
from dallrec_core.data.base import Dataset, make_dataset, pair_keys
from dallrec_core.data.checks import Table
from dallrec_core.data.download import Located, locate
from dallrec_core.data.files import tidy_items
from dallrec_core.data.tables import AGAIN, codes_in, decode, read_bytes, read_fields
from dallrec_core.errors import UserError

PARTS = ("train", "test")
"""Names of the two files of interactions, without their ending."""
OVERLAP = "released test rows whose pair is in train too (kept there)"
METRICS = ("R@10", "R@20", "R@50", "N@10", "N@20", "N@50", "P@20")
"""Columns of the printed table: recall, nDCG, precision."""

_HALF = 0.00005  # a value printed with four decimals may be this far from the one it stands for
_LAST = 0.01  # of a percentage with two decimals, rounded or truncated


# ---------------------------------------------------------------- the split


def load_published() -> Dataset:
    """Load the released MovieLens split; ``dataset.presplit`` holds its (train, test).

    Films get titles, years and genres from MovieLens-1M where that is on this machine
    (``dallrec data ml-1m``); else they are called "item 1193".

    Raises:
        UserError: files missing and no network, a malformed line.
    """
    located = locate("published")
    interactions, ids = _read(located.folder)
    items = pd.DataFrame({"item_id": ids}, pd.RangeIndex(2, len(ids) + 2, name="line"))
    movies = data_dir() / "ml-1m" / "movies.dat"
    if movies.is_file():
        known = Table(read_fields(movies, "::", ("item_id", "title", "attributes")), movies.name)
        items = items.join(tidy_items(known).frame.set_index("item_id"), on="item_id")
    titles = items["title"] if "title" in items else pd.Series(np.nan, items.index, dtype="str")
    items["title"] = titles.fillna("item " + items["item_id"])
    items["year"] = items["year"].fillna(0) if "year" in items else 0
    notes = []
    if nameless := int(titles.isna().sum()):
        hint = "run `dallrec data ml-1m` for titles"
        notes.append(f"{nameless:,} items have no title and are called by id; {hint}")
    return _dataset("published", "movie", located, interactions, items, {}, notes)


def load_published_book(keep_untitled: bool = True) -> Dataset:
    """Load the released Book-Crossing split; ``dataset.presplit`` holds its (train, test).

    Books get title, author and year from ``BX-Books.csv`` or ``items.tsv`` in the folder
    ``bookcrossing``; their ISBNs are repaired, and books that were two only by a damaged ISBN
    become one.

    Args:
        keep_untitled: keep books whose title nobody knows under a made-up one; False leaves them
            out (and fetches the dump's titles where there is no catalogue at all).

    Raises:
        UserError: files missing and no network, a malformed line.
    """
    located = locate("published-book")
    interactions, ids = _read(located.folder)
    isbns = [books.repair_isbn(text) for text in ids]
    changed = sum(new != old for new, old in zip(isbns, ids, strict=True))
    codes, names = pd.factorize(pd.array(isbns, dtype="str"))
    left_out = {"books listed twice under one ISBN (merged)": len(isbns) - len(names)}
    rows = codes[interactions["item_id"].cat.codes]
    interactions = interactions.assign(item_id=pd.Categorical.from_codes(rows, list(names)))
    lines = pd.Index(np.unique(codes, return_index=True)[1] + 2, name="line")
    catalogue, notes = _catalogue(keep_untitled)
    notes = [f"{changed:,} of {len(isbns):,} ISBNs were damaged and are repaired", *notes]
    if not keep_untitled:
        known = books.has_title(list(names), catalogue)
        left_out["books without a known title"] = int(np.count_nonzero(~known))
        left_out[books.UNTITLED] = int(np.count_nonzero(~known[rows]))
        interactions, names, lines = interactions[known[rows]], names[known], lines[known]
    items, unnamed = books.name_books(list(names), catalogue, lines)
    if catalogue.empty:
        folder = data_dir() / books.FOLDER
        unnamed.append(f"for titles put {books.BOOKS} or {books.CATALOGUE} into {folder}")
    notes += unnamed
    return _dataset("published-book", "book", located, interactions, items, left_out, notes)


def _dataset(
    name: str,
    noun: str,
    located: Located,
    interactions: pd.DataFrame,
    items: pd.DataFrame,
    left_out: dict[str, int],
    notes: list[str],
) -> Dataset:
    """Make the dataset, without test rows whose pair is in train: a model may have seen them."""
    codes = {"user": interactions["user_id"].cat.codes, "item": interactions["item_id"].cat.codes}
    pairs = pair_keys(pd.DataFrame(codes))
    in_test = (interactions["part"] == "test").to_numpy()
    seen = in_test & np.isin(pairs, pairs[~in_test])
    if seen.any():
        left_out[OVERLAP] = int(seen.sum())
    return make_dataset(
        Table(interactions[~seen], "train.txt and test.txt"),
        Table(items, "item_list.txt"),
        duplicates="merge",
        dropped=left_out,
        name=name,
        noun=noun,
        notes=(*located.notes, *notes),
    )


def _catalogue(optional: bool) -> tuple[pd.DataFrame, list[str]]:
    """Titles from this machine, or from the publisher of the dump unless they are optional."""
    if optional or books.has_catalogue():
        return books.read_catalogue(data_dir() / books.FOLDER)
    try:
        return books.read_catalogue(locate("book-crossing").folder)
    except UserError as error:
        raise UserError(
            f"the released split has no titles of its own, and {error} The file to put there is "
            f"{books.BOOKS} (or {books.CATALOGUE}). With keep_untitled=True it runs without titles."
        ) from error


def file_order(data: Dataset) -> pd.DataFrame:
    """Return the released rows in the order of the files, which nothing but a look at it may use.

    Args:
        data: a released split, whose codes are used; books that were merged have no row of their
            own.

    Returns:
        user, item (codes), part ("train" or "test"), user by user as in the line, train first.
    """
    frame, _ = _read(locate(data.name).folder)
    codes = {
        "user": codes_in(frame["user_id"], data.users["user_id"]),
        "item": codes_in(frame["item_id"], data.items["item_id"]),
    }
    frame = pd.DataFrame(codes).assign(part=frame["part"].astype("str").to_numpy())
    return frame[frame["item"] >= 0].sort_values("user", kind="stable", ignore_index=True)


def _read(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """The rows of both parts in the order of the files, and the original ids of the items."""
    ids = {name: read_id_list(folder / f"{name}_list.txt") for name in ("user", "item")}
    parts = [read_lines(folder / f"{part}.txt", ids) for part in PARTS]
    sizes = [len(part) for part in parts]
    label = pd.Categorical.from_codes(np.repeat([0, 1], sizes), list(PARTS))
    return pd.concat(parts).assign(part=label), ids["item"]


def read_id_list(path: Path) -> list[str]:
    """Return the original ids of ``org_id remap_id`` lines, by remapped number.

    Raises:
        UserError: naming the first line that breaks the form or the numbering 0, 1, 2 …
    """
    table = Table(read_fields(path, " ", ("org_id", "remap_id")).iloc[1:], str(path))
    ids, numbers = table.frame["org_id"], table.frame["remap_id"]
    wrong = numbers != pd.RangeIndex(len(ids)).astype("str")
    table.refuse(wrong, "remap_id", "{value} breaks the numbering 0, 1, 2 …", AGAIN)
    table.refuse_repeats(pd.DataFrame({"id": ids.to_numpy()}), "org_id", "id {value}", AGAIN)
    return ids.tolist()


def read_lines(path: Path, ids: dict[str, list[str]]) -> pd.DataFrame:
    """Read ``user item item …`` lines as user_id, item_id; the index is the line number.

    Args:
        path: the file.
        ids: the original ids of users and items, which the file numbers.

    Raises:
        UserError: naming the first line with something that is not a number of the lists.
    """
    lines = decode(read_bytes(path)).splitlines()
    fields = pd.Series(lines, pd.RangeIndex(1, len(lines) + 1, name="line")).str.split()
    rows = pd.DataFrame({"user": fields.str[0], "item": fields.str[1:]}).explode("item").dropna()
    table, columns = Table(rows, str(path)), {}
    for name, known in ids.items():
        codes = codes_in(rows[name], map(str, range(len(known))))
        what = f"{{value}} is no number of {name}_list.txt, which has 0 to {len(known) - 1}"
        table.refuse(codes < 0, name, what, AGAIN)
        columns[f"{name}_id"] = pd.Categorical.from_codes(codes, known)
    return pd.DataFrame(columns, rows.index)


# ---------------------------------------------------------------- the printed numbers


def printed_table() -> pd.DataFrame:
    """Return the printed results, columns `METRICS`, by (backbone, variant).

    Variants are base, dallrec, and improve, the printed gain in per cent.
    """
    return _numbers("published_table.csv").set_index(["backbone", "variant"])


def training_logs() -> pd.DataFrame:
    """Return the last line of each released training log of MMSSL, by the time of the log.

    Columns label ("or" for the original data, "aug" for augmented ones), longest, and `METRICS`.
    """
    return _numbers("published_logs.csv").set_index("log")


def _numbers(name: str) -> pd.DataFrame:
    return pd.read_csv(Path(__file__).with_name(name), comment="#")


def improvements() -> pd.DataFrame:
    """Return each printed gain beside the one that follows from the two values above it.

    Returns:
        One row per backbone and metric: printed and recomputed (per cent), low and high (what
        values that round to the printed ones allow), follows (whether the printed gain lies there).
    """
    table = printed_table()
    base, ours, said = (
        table.xs(variant, level="variant").stack() for variant in ("base", "dallrec", "improve")
    )
    found = pd.DataFrame(
        {
            "printed": said,
            "recomputed": 100 * (ours / base - 1),
            "low": 100 * ((ours - _HALF) / (base + _HALF) - 1),
            "high": 100 * ((ours + _HALF) / (base - _HALF) - 1),
        }
    )
    follows = (said > found["low"] - _LAST) & (said < found["high"] + _LAST)
    return found.assign(follows=follows).rename_axis(["backbone", "metric"]).reset_index()
