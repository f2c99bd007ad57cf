"""What a dataset is: interactions, items and users in codes that do not depend on file order.

Loaders hand raw tables to :func:`make_dataset`, which checks every cell and then numbers users and
items by sorted id. The position of a row in a file can predict test membership (it does in the
released split of the paper), so nothing here remembers it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from dallrec_core.datasets import coding
from dallrec_core.datasets.checks import Source

LIKE_THRESHOLD = 3.0


@dataclass(frozen=True)
class Truth:
    """What the simulation knows and the recommender is not shown (embedded dataset only)."""

    items: pd.DataFrame
    """item int32, attributes ("Crime|Drama"), director, country, language; row i is item i"""
    taste: np.ndarray
    """float32 [U, N]: how much user u would like item i"""
    liked_from: float
    """taste from which an item is really liked"""


@dataclass(frozen=True)
class Split:
    """Three disjoint parts with columns user, item (int32), rating (float32), timestamp (Int64)."""

    train: pd.DataFrame
    """what models are fitted on"""
    validation: pd.DataFrame
    """what every choice is made on"""
    test: pd.DataFrame
    """read once, at the end"""
    held_back: pd.DataFrame | None = None
    """what thinning took out of train; for the arm `oracle` only"""


@dataclass(frozen=True)
class Dataset:
    """A checked, coded dataset. Frames are shared, not copied: treat them as read-only."""

    name: str
    """name it was loaded by"""
    noun: str
    """"movie" or "book": the word used in prompts"""
    attribute: str
    """what the ``attributes`` column holds, e.g. "genres" """
    interactions: pd.DataFrame
    """user, item int32; rating float32 (NaN: none given); timestamp Int64; by (user, item)"""
    items: pd.DataFrame
    """item, item_id, title, year (0 unknown), attributes, author, text, …; row i is item i"""
    users: pd.DataFrame
    """user int32, user_id; row u is user u"""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """what loading left out or merged, in words -> how many"""
    like_threshold: float = LIKE_THRESHOLD
    """a rating at or above is a like, below a dislike (paper: 3)"""
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

    @property
    def has_ratings(self) -> bool:
        """Whether every interaction has a rating."""
        return bool(self.interactions["rating"].notna().all())

    def summary(self) -> list[str]:
        """Lines to print after loading: sizes, everything dropped, notes of the loader."""
        lines = [
            f"{self.name}: {len(self.interactions):,} interactions, {self.n_users:,} users, "
            f"{self.n_items:,} {self.noun}s"
        ]
        lines += [f"  left out: {count:,} {what}" for what, count in self.dropped.items() if count]
        return lines + [f"  note: {note}" for note in self.notes]


def make_dataset(
    interactions: pd.DataFrame,
    items: pd.DataFrame,
    *,
    name: str,
    noun: str = "movie",
    attribute: str = "genres",
    source: Source | None = None,
    users: Iterable[object] | None = None,
    like_threshold: float = LIKE_THRESHOLD,
    duplicates: str = "error",
    unknown_items: str = "error",
    dropped: Mapping[str, int] | None = None,
    truth: Truth | None = None,
    notes: Iterable[str] = (),
) -> Dataset:
    """Check two raw tables and number their users and items by sorted id.

    Args:
        interactions: user_id, item_id[, rating, timestamp, part]; ``part`` is "train" or "test"
            for data released with its split. The index holds the row numbers of messages.
        items: item_id, title[, year, attributes, author, text, any further columns].
        name: what the dataset is called.
        noun: "movie" or "book".
        attribute: what ``attributes`` holds.
        source: the words for files and columns in messages.
        users: ids of all users, where some have no interaction.
        like_threshold: ratings at or above it are likes.
        duplicates: "error", or "merge": keep the latest (then highest rated), count the rest.
        unknown_items: "error", or "drop": leave interactions of unlisted items out and count.
        dropped: what the loader itself left out, to be reported together.
        truth: passed through; must already be in code order.
        notes: remarks of the loader, passed through.

    Raises:
        UserError: naming file, row, column and remedy for the first bad cell.
    """
    source = source or Source()
    table, item_table = source.tables(interactions, items)
    counts = dict(dropped or {})
    coded_items = coding.code_items(item_table)
    coded = coding.code_users(table, users or ())
    frame = coding.code_interactions(table, coded_items, coded, source.items, unknown_items, counts)
    frame = coding.unique_pairs(frame, table, duplicates, counts)
    presplit = None
    if "part" in frame:
        presplit = coding.released_parts(frame)
        frame = frame.drop(columns="part").drop_duplicates(["user", "item"], ignore_index=True)
    return Dataset(
        name=name,
        noun=noun,
        attribute=attribute,
        interactions=frame,
        items=coded_items,
        users=coded.frame,
        dropped=counts,
        like_threshold=like_threshold,
        truth=truth,
        presplit=presplit,
        notes=tuple(notes),
    )
