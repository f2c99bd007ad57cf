"""What a dataset is: interactions, items and users in codes that do not depend on file order.

Loaders hand raw tables to :func:`make_dataset`, which checks every cell and then numbers users and
items by sorted id. The position of a row in a file can predict test membership (it does in the
released split of the paper), so nothing here remembers it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from dallrec_core.data.checks import Table, codes_in, order_ids

LIKE_THRESHOLD = 3.0
UNKNOWN = "interactions of items that are not in the items table"
REPEATED = "repeated interactions of a user with an item (the latest is kept)"
_ITEM_TEXTS = ("attributes", "author", "text")


@dataclass(frozen=True)
class Truth:
    """What the simulation knows and the recommender is not shown (embedded dataset only)."""

    items: pd.DataFrame
    """item int32, attributes ("Crime|Drama"), director, country, language; row i is item i"""
    taste: np.ndarray
    """float32 [U, N]: how much user u would like item i"""
    liked_from: float
    """the taste from which an item is really liked"""


@dataclass(frozen=True)
class Split:
    """Three disjoint parts with columns user, item (int32), rating (float32), timestamp (Int64)."""

    train: pd.DataFrame
    """what models are fitted on"""
    validation: pd.DataFrame
    """what every choice is made on"""
    test: pd.DataFrame
    """for scores; nothing is chosen by it"""
    held_back: pd.DataFrame | None = None
    """what thinning took out of train; for the arm `oracle` only"""


@dataclass(frozen=True)
class Dataset:
    """A checked, coded dataset. Frames are shared, not copied: treat them as read-only."""

    name: str
    """name it was loaded by"""
    interactions: pd.DataFrame
    """user, item int32; rating float32 (NaN: none given); timestamp Int64; by (user, item)"""
    items: pd.DataFrame
    """item, item_id, title, year (0 unknown), attributes, author, text, …; row i is item i"""
    users: pd.DataFrame
    """user int32, user_id; row u is user u"""
    noun: str = "movie"
    """what an item is, in one word or a few: "movie", "board game" """
    person: str = ""
    """what a user is called in prompts; empty: viewer of movies, reader of books, else user"""
    attribute: str = "genres"
    """what the ``attributes`` column holds"""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """what loading left out or merged, in words -> how many"""
    like_threshold: float | str = LIKE_THRESHOLD
    """a rating at or above is a like, below a dislike (paper: 3); or a word, see `likes`"""
    truth: Truth | None = None
    """known tastes, for the embedded dataset"""
    presplit: tuple[pd.DataFrame, pd.DataFrame] | None = None
    """(train, test) as released, columns as ``interactions``, by (user, item)"""
    notes: tuple[str, ...] = ()
    """remarks of the loader that a reader should see"""

    @property
    def n_users(self) -> int:
        """Number of users U."""
        return len(self.users)

    @property
    def n_items(self) -> int:
        """Number of items N, rated or not."""
        return len(self.items)

    @property
    def has_timestamps(self) -> bool:
        """Whether every interaction has a time."""
        return bool(self.interactions["timestamp"].notna().all())

    def summary(self) -> list[str]:
        """Lines to print after loading: sizes, everything dropped, notes of the loader."""
        lines = [
            f"{self.name}: {len(self.interactions):,} interactions, {self.n_users:,} users, "
            f"{self.n_items:,} {plural(self.noun)}"
        ]
        lines += [f"  left out: {count:,} {what}" for what, count in self.dropped.items() if count]
        return lines + [f"  note: {note}" for note in self.notes]


def plural(noun: str) -> str:
    """More than one of a noun: movies, dishes, stories."""
    if re.search(r"(s|x|z|ch|sh)$", noun):
        return f"{noun}es"
    return f"{noun[:-1]}ies" if re.search(r"[^aeiou]y$", noun) else f"{noun}s"


def likes(
    interactions: pd.DataFrame, threshold: float | str, scale: pd.DataFrame | None = None
) -> np.ndarray:
    """Tell likes from dislikes; bool [rows]. An interaction without a rating is a like.

    Args:
        interactions: user, rating.
        threshold: a rating at or above it is a like; "median": at or above the median of the
            user's ratings; "count": above it, for play counts and the like.
        scale: the interactions whose medians count, such as those of train; default: these.
    """
    rating, least = interactions["rating"], threshold
    if isinstance(threshold, str):
        known = interactions if scale is None else scale
        least = interactions["user"].map(known.groupby("user")["rating"].median())
    disliked = rating <= least if threshold == "count" else rating < least
    return ~disliked.to_numpy()


def pair_keys(frame: pd.DataFrame) -> np.ndarray:
    """One number for each (user, item) of a frame, int64 [rows]: equal where the pairs are."""
    return (frame["user"].to_numpy(np.int64) << 32) + frame["item"].to_numpy(np.int64)


def make_dataset(
    interactions: Table,
    items: Table,
    *,
    duplicates: str = "error",
    unknown_items: str = "error",
    dropped: Mapping[str, int] | None = None,
    **about: Any,
) -> Dataset:
    """Check two raw tables and number their users and items by sorted id.

    Args:
        interactions: user_id, item_id[, rating, timestamp, part]; ``part`` is "train" or "test"
            for data released with its split, and no pair may be in both.
        items: item_id, title[, year, attributes, author, text, any further columns].
        duplicates: "error", or "merge": keep the latest (then highest rated), count the rest.
        unknown_items: "error", or "drop": leave interactions of unlisted items out and count.
        dropped: what the loader itself left out, to be reported together.
        about: fields of `Dataset` that do not come from the tables: name (needed), noun,
            attribute, like_threshold, truth (in code order), notes.

    Raises:
        UserError: naming file, row, column and remedy for the first bad cell.
    """
    interactions.require("user_id", "item_id")
    items.require("item_id", "title")
    counts = dict(dropped or {})
    coded_items = _code_items(items)
    codes, rated = interactions.ids("item_id")
    item = codes_in(rated, coded_items["item_id"])[codes]
    if unknown_items != "drop":
        remedy = (
            "Add it there, or remove its interactions. If both files mean the same item, write its "
            "id alike: read as numbers, ids lose zeros in front or gain a '.0'."
        )
        what = f"item {{value}} is not in {items.source}"
        interactions.refuse(item < 0, "item_id", what, remedy)
    users, frame = _code_interactions(interactions, item)
    unknown = frame["item"] < 0
    if unknown.any():
        counts[UNKNOWN] = int(unknown.sum())
        frame = frame[~unknown]
    frame = _unique_pairs(frame, interactions, duplicates, counts)
    if "part" in frame:
        parts = [frame[frame["part"] == part] for part in ("train", "test")]
        about["presplit"] = tuple(p.drop(columns="part").reset_index(drop=True) for p in parts)
        frame = frame.drop(columns="part")
    about["notes"] = (*about.get("notes", ()), *interactions.notes, *items.notes)
    return Dataset(interactions=frame, items=coded_items, users=users, dropped=counts, **about)


def _code_items(table: Table) -> pd.DataFrame:
    """The items in code order: schema ``items`` and any further columns as text."""
    codes, names = table.ids("item_id")
    order = order_ids(names)
    code = codes_in(names, order)[codes]
    remedy = "Each item may appear once; remove or renumber the repeated row."
    table.refuse_repeats(pd.DataFrame({"item": code}), "item_id", "item {value}", remedy)
    titles = table.texts("title")
    remedy = "Prompts name items by their title; fill it, or remove the item."
    table.refuse(titles.isna(), "title", "the title is empty", remedy)
    items = pd.DataFrame({"item": code, "item_id": np.array(order)[code], "title": titles})
    items["year"] = table.years() if "year" in table.frame else np.int32(0)
    nothing = pd.Series(np.nan, items.index, dtype="str")
    for column in dict.fromkeys((*_ITEM_TEXTS, *table.frame)):
        if column not in items:
            items[column] = table.texts(column) if column in table.frame else nothing
    return items.sort_values("item", ignore_index=True)


def _code_interactions(table: Table, items: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The users, and user, item, rating, timestamp[, part] in file order by raw position."""
    codes, names = table.ids("user_id")
    order = order_ids(names)
    frame = pd.DataFrame({"user": codes_in(names, order)[codes], "item": items}, copy=False)
    frame["rating"] = table.ratings() if "rating" in table.frame else np.float32(np.nan)
    times = table.times() if "timestamp" in table.frame else [pd.NA] * len(frame)
    frame["timestamp"] = pd.array(times, dtype="Int64")
    if "part" in table.frame:
        frame["part"] = table.frame["part"].to_numpy()
    columns = {"user": np.arange(len(order), dtype=np.int32)}
    return pd.DataFrame(columns | {"user_id": pd.array(order, dtype="str")}), frame


def _unique_pairs(
    frame: pd.DataFrame, table: Table, duplicates: str, counts: dict[str, int]
) -> pd.DataFrame:
    """One row per (user, item), sorted; repeats raise or are merged and counted."""
    pairs = pair_keys(frame)
    if (pairs[1:] > pairs[:-1]).all():  # as most files come
        return frame.reset_index(drop=True)
    order = np.argsort(pairs, kind="stable")
    if (np.diff(pairs[order]) > 0).all():
        return frame.take(order).reset_index(drop=True)
    key = ["user", "item"]
    if duplicates != "merge":
        remedy = "Each pair may appear once; remove the repeated row, or give duplicates='merge'."
        table.refuse_repeats(frame[key], "item_id", "item {value} of this user", remedy)
    # Everything is a sort key, so that nothing of the file's order is left.
    time = frame["timestamp"].fillna(0).to_numpy(dtype=np.int64)
    order = np.lexsort((frame["rating"], time, frame["item"], frame["user"]))
    unique = frame.take(order).drop_duplicates(key, keep="last", ignore_index=True)
    counts[REPEATED] = len(frame) - len(unique)
    return unique
