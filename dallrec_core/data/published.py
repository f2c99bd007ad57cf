"""What others released: the DALLRec authors' splits and numbers, and edges of a real model.

The splits are those of zzerrrro/DALLRec at commit 75959c1. Each line of ``train.txt`` and
``test.txt`` is ``user item item …``. Every rating is a positive and no rating values are released.
In the raw order of a line the position predicts test membership; rows are therefore sorted by the
original ids before anything else happens. The numbers that they printed and logged are kept as
data, none of ours among them; the two files beside this module say where each number stands.

The edges are those of akBear23/VoteGCL (MIT) at commit d4133e3: Nguyen et al., "Enhancing
graph-based recommendations with majority-voting LLM-rerank augmentation", arXiv 2507.21563. A
recommender proposes ten items to a user, a language model ranks them several times, and the item
that wins the vote becomes an edge. For Amazon-Scientific there are ``train.txt``, the same with
those edges (``train_augmented.txt``), and ``test.txt`` with each user's last item, in lines of
``user item rating``; there are no titles.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dallrec_core.chain.pages import data_dir
from dallrec_core.data import books
from dallrec_core.data.base import Dataset, make_dataset, pair_keys
from dallrec_core.data.checks import Table, codes_in
from dallrec_core.data.download import locate
from dallrec_core.data.files import joined, tidy_items
from dallrec_core.data.tables import read_fields, read_text

PARTS = ("train", "test")
"""Names of the two files of interactions, without their ending."""
OVERLAP = "released test rows whose pair is in train too (kept there)"
METRICS = ("R@10", "R@20", "R@50", "N@10", "N@20", "N@50", "P@20")
"""Columns of the printed table: recall, nDCG, precision."""

_HALF = 0.00005  # a value printed with four decimals may be this far from the one it stands for
_LAST = 0.01  # of a percentage with two decimals, rounded or truncated
_AGAIN = "Delete the file to fetch it anew, or correct the line."


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
    movies, known = data_dir() / "ml-1m" / "movies.dat", pd.DataFrame({"item_id": []}, dtype="str")
    if movies.is_file():
        known = tidy_items(read_fields(movies, "::", ("item_id", "title", "attributes"))).frame
    items = pd.DataFrame({"item_id": ids}).merge(known, on="item_id", how="left")
    items = items.reindex(columns=["item_id", "title", "year", "attributes"])
    notes = list(located.notes)
    if nameless := int(items["title"].isna().sum()):
        hint = "run `dallrec data ml-1m` for titles"
        notes.append(f"{nameless:,} items have no title and are called by id; {hint}")
    items["title"] = items["title"].fillna("item " + items["item_id"])
    items["year"] = items["year"].fillna(0)
    return _dataset(interactions, items, {}, name="published", notes=tuple(notes))


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
    isbns = {text: books.repair_isbn(text) for text in ids}
    changed = sum(old != new for old, new in isbns.items())
    interactions["item_id"] = interactions["item_id"].map(isbns)
    names = list(dict.fromkeys(isbns.values()))
    left_out = {"books listed twice under one ISBN (merged)": len(ids) - len(names)}
    folder = data_dir() / books.FOLDER
    here = any((folder / name).is_file() for name in (books.BOOKS, books.CATALOGUE))
    if not keep_untitled and not here:
        locate("book-crossing")  # the released split has no titles of its own
    catalogue, notes = books.read_catalogue(folder)
    if not keep_untitled:
        titled = books.titled(catalogue)
        known, named = interactions["item_id"].isin(titled), [n for n in names if n in titled]
        left_out["books without a known title"] = len(names) - len(named)
        left_out[books.UNTITLED] = int((~known).sum())
        interactions, names = interactions[known], named
    items, unnamed = books.name_books(names, catalogue)
    if catalogue.empty:
        unnamed.append(f"for titles put {books.BOOKS} or {books.CATALOGUE} into {folder}")
    repaired = f"{changed:,} of {len(isbns):,} ISBNs were damaged and are repaired"
    notes = [*located.notes, repaired, *notes, *unnamed]
    about = {"name": "published-book", "noun": "book", "notes": tuple(notes)}
    return _dataset(interactions, items, left_out, **about)


def _dataset(
    interactions: pd.DataFrame, items: pd.DataFrame, left_out: dict[str, int], **about: Any
) -> Dataset:
    """Make the dataset, without test rows whose pair is in train: a model may have seen them."""
    pairs = interactions["user_id"] + " " + interactions["item_id"]
    in_test = interactions["part"] == "test"
    seen = in_test & pairs.isin(pairs[~in_test])
    if seen.any():
        left_out[OVERLAP] = int(seen.sum())
    tables = Table(interactions[~seen], "train.txt and test.txt"), Table(items, "item_list.txt")
    return make_dataset(*tables, duplicates="merge", dropped=left_out, **about)


def file_order(data: Dataset) -> pd.DataFrame:
    """Return the released rows in the order of the files, which nothing but a look at it may use.

    Args:
        data: a released split, whose codes are used; books that were merged have no row of their
            own.

    Returns:
        user, item (codes), part ("train" or "test"), user by user as in the line, train first.
    """
    frame, _ = _read(locate(data.name).folder)
    users, items = data.users["user_id"], data.items["item_id"]
    codes = {"user": codes_in(frame["user_id"], users), "item": codes_in(frame["item_id"], items)}
    frame = pd.DataFrame(codes).assign(part=frame["part"].to_numpy())
    return frame[frame["item"] >= 0].sort_values("user", kind="stable", ignore_index=True)


def _read(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """The rows of both parts in the order of the files, and the original ids of the items."""
    ids = {name: read_id_list(folder / f"{name}_list.txt") for name in ("user", "item")}
    parts = [read_lines(folder / f"{part}.txt", ids).assign(part=part) for part in PARTS]
    return pd.concat(parts), ids["item"]


def read_id_list(path: Path) -> list[str]:
    """Return the original ids of ``org_id remap_id`` lines, by remapped number.

    Raises:
        UserError: naming the first line that breaks the form or the numbering 0, 1, 2 …
    """
    table = read_fields(path, " ")
    table.require("org_id", "remap_id")
    ids, numbers = table.frame["org_id"], table.frame["remap_id"]
    wrong = numbers != pd.RangeIndex(len(ids)).astype("str")
    table.refuse(wrong, "remap_id", "{value} breaks the numbering 0, 1, 2 …", _AGAIN)
    table.refuse_repeats(pd.DataFrame({"id": ids.to_numpy()}), "org_id", "id {value}", _AGAIN)
    return ids.tolist()


def read_lines(path: Path, ids: dict[str, list[str]]) -> pd.DataFrame:
    """Read ``user item item …`` lines as user_id, item_id; the index is the line number.

    Args:
        path: the file.
        ids: the original ids of users and items, which the file numbers.

    Raises:
        UserError: naming the first line with something that is not a number of the lists.
    """
    lines = read_text(path).splitlines()
    fields = pd.Series(lines, pd.RangeIndex(1, len(lines) + 1, name="line")).str.split()
    rows = pd.DataFrame({"user": fields.str[0], "item": fields.str[1:]}).explode("item").dropna()
    table, columns = Table(rows, str(path)), {}
    for name, known in ids.items():
        codes = codes_in(rows[name], map(str, range(len(known))))
        what = f"{{value}} is no number of {name}_list.txt, which has 0 to {len(known) - 1}"
        table.refuse(codes < 0, name, what, _AGAIN)
        columns[f"{name}_id"] = pd.array(np.array(known)[codes], dtype="str")
    return pd.DataFrame(columns, rows.index)


# ---------------------------------------------------------------- edges of a real language model


def load_released_edges() -> Dataset:
    """Load the data without the language model's edges; ``presplit`` holds its (train, test).

    Pairs that stand twice in train are one interaction. Items are called by their ids.

    Raises:
        UserError: files missing and no network, a malformed line.
    """
    located = locate("released-edges")
    table = joined([_rated(located.folder, part) for part in PARTS])
    ids = np.unique(table.frame["item_id"].to_numpy(str))
    items = pd.DataFrame({"item_id": ids, "title": [f"item {each}" for each in ids]})
    about: dict[str, Any] = {
        "name": "released-edges",
        "noun": "product",
        "notes": tuple(located.notes),
    }
    return make_dataset(table, Table(items, table.source), duplicates="merge", **about)


def written_edges(data: Dataset) -> pd.DataFrame:
    """Return the edges that the language model chose: what train_augmented.txt has beyond train.

    Args:
        data: from :func:`load_released_edges`, whose codes are used.

    Returns:
        user, item (int32), weight (float32, all 1), each pair once, sorted.

    Raises:
        UserError: files missing, a malformed line, a user or an item that the data do not have.
    """
    table, codes = _rated(locate("released-edges").folder, "train_augmented"), {}
    for name, known in (("user", data.users), ("item", data.items)):
        codes[name] = codes_in(table.frame[f"{name}_id"], known[f"{name}_id"])
        what = f"{name} {{value}} is in neither train.txt nor test.txt"
        table.refuse(codes[name] < 0, f"{name}_id", what, _AGAIN)
    pairs = pd.DataFrame(codes).drop_duplicates()
    train = data.interactions if data.presplit is None else data.presplit[0]
    new = pairs[~np.isin(pair_keys(pairs), pair_keys(train))]
    return new.sort_values(["user", "item"], ignore_index=True).assign(weight=np.float32(1))


def _rated(folder: Path, part: str) -> Table:
    table = read_fields(folder / f"{part}.txt", " ", ("user_id", "item_id", "rating"))
    return replace(table, frame=table.frame.assign(part=part))


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
