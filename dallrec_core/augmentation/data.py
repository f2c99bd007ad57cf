"""What the augmentations may see of a prepared dataset: its items and its *training* interactions.

Validation and test never enter this view, so no prompt, instruction or candidate can contain them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from dallrec_core.artifacts import read_json, read_table
from dallrec_core.errors import UserError
from dallrec_core.prompts import (
    FACT_FIELDS,
    HISTORY,
    Prompt,
    check_wording,
    interaction_prompt,
    item_text,
    split_values,
)


class Parts(NamedTuple):
    """Training material divided for fine-tuning, with remarks that a reader should see."""

    examples: pd.DataFrame
    """cases shown to the model while it is tuned"""
    held_out: pd.DataFrame
    """other training cases, for measuring it before and after"""
    notes: list[str]
    """what was short and what was done about it, in words"""


@dataclass(frozen=True)
class Data:
    """Items and training interactions of one dataset. Treat the frames as read-only."""

    name: str
    """the dataset's name"""
    noun: str
    """"movie" or "book" """
    attribute: str
    """what the items' ``attributes`` column holds, e.g. "genres" """
    like_threshold: float
    """a rating at or above is a like, below it a dislike"""
    n_users: int
    """number of users U"""
    n_items: int
    """number of items N"""
    train: pd.DataFrame
    """user, item, rating (NaN: none given)"""
    items: pd.DataFrame
    """the `items` table; row i is item i"""

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Items as dictionaries, by item code."""
        return self.items.to_dict("records")

    @cached_property
    def values(self) -> list[tuple[str, ...]]:
        """Known attribute values of each item, by item code."""
        column = self.items["attributes"] if "attributes" in self.items else [None] * self.n_items
        return [split_values(text) for text in column]

    @cached_property
    def attribute_matrix(self) -> csr_array:
        """Which item has which value of the vocabulary; [N, V] of zeros and ones."""
        column = {value: place for place, value in enumerate(self.vocabulary or ())}
        items = np.repeat(np.arange(self.n_items), [len(values) for values in self.values])
        columns = [column[value] for values in self.values for value in values]
        shape = (self.n_items, len(column))
        return csr_array((np.ones(len(items)), (items, columns)), shape=shape)

    @cached_property
    def vocabulary(self) -> tuple[str, ...] | None:
        """All attribute values in use, sorted; None where no item has any."""
        return tuple(sorted({v for values in self.values for v in values})) or None

    @cached_property
    def fact_fields(self) -> tuple[str, ...]:
        """Those of director, actor, country and language that at least one item has."""
        present = [f for f in FACT_FIELDS if f in self.items and self.items[f].notna().any()]
        return tuple(present)

    @cached_property
    def user_degree(self) -> np.ndarray:
        """Training interactions of each user, int64 [U]."""
        return np.bincount(self.train["user"], minlength=self.n_users)

    @cached_property
    def item_degree(self) -> np.ndarray:
        """Training interactions of each item, int64 [N]."""
        return np.bincount(self.train["item"], minlength=self.n_items)

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Start of each user's rows [U + 1], their items, and whether liked, by (user, item)."""
        frame = self.train.sort_values(["user", "item"], kind="stable")
        start = np.concatenate([[0], np.cumsum(self.user_degree)])
        rating = frame["rating"].to_numpy(float)
        liked = np.isnan(rating) | (rating >= self.like_threshold)
        return start, frame["item"].to_numpy(np.int64), liked

    @cached_property
    def _keys(self) -> np.ndarray:
        start, item, _ = self._sorted
        user = np.repeat(np.arange(self.n_users), np.diff(start))
        return user * self.n_items + item

    @cached_property
    def _texts(self) -> dict[tuple[str, bool], list[str]]:
        return {}

    def seen(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Tell which pairs are training interactions; bool, shape of the inputs broadcast."""
        keys = np.asarray(users, np.int64) * self.n_items + np.asarray(items, np.int64)
        if not len(self._keys):
            return np.zeros(keys.shape, bool)
        place = np.searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)
        return self._keys[place] == keys

    def items_of(self, user: int) -> np.ndarray:
        """Training items of a user, by item code."""
        start, item, _ = self._sorted
        return item[start[user] : start[user + 1]]

    def tastes(self, user: int) -> tuple[np.ndarray, np.ndarray]:
        """Items the user liked and disliked in training, each by item code."""
        start, item, liked = self._sorted
        rows = slice(start[user], start[user + 1])
        return item[rows][liked[rows]], item[rows][~liked[rows]]

    def texts(self, wording: str, *, target: bool = False) -> list[str]:
        """Every item as a prompt names it, by item code (see `prompts.item_text`)."""
        key = (check_wording(wording), target)
        if key not in self._texts:
            self._texts[key] = [
                item_text(row, self.noun, wording, target=target) for row in self.rows
            ]
        return self._texts[key]

    def history(
        self, user: int, wording: str, seed: int, without: int = -1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Liked and disliked training items to show for a user, never the one asked about.

        The default wording shows up to eight of each, in an order drawn once per user and seed; the
        paper's shows the first five of each by item code (theirs go by file order, which leaks).
        """
        shown = []
        for kind, items in enumerate(self.tastes(user)):
            if wording == "default":
                items = np.random.default_rng([seed, user, kind]).permutation(items)
            shown.append(items[items != without][: HISTORY[wording]])
        return shown[0], shown[1]

    def prompt(self, user: int, item: int, wording: str = "default", seed: int = 0) -> Prompt:
        """The question whether `user` would like `item`, with the user's training history."""
        return self.question(self.history(user, check_wording(wording), seed, item), item, wording)

    def question(
        self, history: tuple[np.ndarray, np.ndarray], item: int, wording: str = "default"
    ) -> Prompt:
        """The question whether somebody with this history (liked, disliked) would like `item`."""
        liked, target = self.texts(wording), self.texts(wording, target=True)
        likes, dislikes = history
        return interaction_prompt(
            self.noun,
            [liked[i] for i in likes],
            [target[i] for i in dislikes],
            target[item],
            wording,
        )


def load_data(folder: Path) -> Data:
    """Read the training view from the folder that notebook 01 wrote.

    Raises:
        UserError: when a file or key is missing, or codes do not fit the items table.
    """
    folder = Path(folder)
    about = read_json(folder / "dataset.json")
    keys = ("name", "noun", "attribute", "like_threshold", "n_users", "n_items")
    missing = [key for key in keys if key not in about]
    if missing:
        raise UserError(f"{folder / 'dataset.json'}: key '{missing[0]}' is missing")
    train = read_table(folder / "train.parquet", "split")
    items = read_table(folder / "items.parquet", "items")
    _check_codes(folder, train, items, int(about["n_users"]), int(about["n_items"]))
    return Data(**{key: about[key] for key in keys}, train=train, items=items)


def _check_codes(
    folder: Path, train: pd.DataFrame, items: pd.DataFrame, n_users: int, n_items: int
) -> None:
    if not np.array_equal(items["item"].to_numpy(), np.arange(n_items)):
        raise UserError(f"{folder / 'items.parquet'}: row i must be item i, for {n_items} items")
    for name, size in (("user", n_users), ("item", n_items)):
        bad = np.flatnonzero((train[name] < 0) | (train[name] >= size))
        if len(bad):
            raise UserError(
                f"{folder / 'train.parquet'}: row {bad[0]}, column '{name}' is "
                f"{train[name].iloc[bad[0]]}, but there are {size} {name}s"
            )


class Truth(NamedTuple):
    """What only a simulation knows; used to judge results, never to make a prompt."""

    items: pd.DataFrame
    """item, attributes and facts, complete"""
    taste: np.ndarray
    """float32 [U, N], standardised per user"""
    liked_from: float
    """the taste from which a user really likes an item"""


def load_truth(folder: Path) -> Truth | None:
    """Read the embedded dataset's truth; None for real data, which has none."""
    table, taste = Path(folder) / "truth.parquet", Path(folder) / "taste.npy"
    if not (table.is_file() and taste.is_file()):
        return None
    liked_from = float(read_json(Path(folder) / "dataset.json")["liked_from"])
    return Truth(read_table(table, "truth"), np.load(taste), liked_from)
