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

from dallrec_core.augmentation import prompts
from dallrec_core.augmentation.prompts import Prompt
from dallrec_core.chain.artefacts import read_json, read_table
from dallrec_core.data.base import Truth, likes, plural
from dallrec_core.errors import UserError


class Parts(NamedTuple):
    """Training material divided for fine-tuning, with remarks that a reader should see."""

    examples: pd.DataFrame
    """cases shown to the model while it is tuned"""
    held_out: pd.DataFrame
    """other training cases, for measuring it before and after"""
    notes: list[str]
    """what was short and what was done about it, in words"""


def n_examples(available: int, n: int, held_out: int) -> int:
    """How many of the available cases to show: n, but a quarter is held out if they are too few."""
    return min(n, available - min(held_out, available // 4))


@dataclass(frozen=True)
class TrainingView:
    """Items and training interactions of one dataset. Treat the frames as read-only."""

    name: str
    """the dataset's name"""
    noun: str
    """what an item is, e.g. "movie" or "board game" """
    attribute: str
    """what the items' ``attributes`` column holds, e.g. "genres" """
    like_threshold: float | str
    """a rating at or above is a like, below it a dislike; or as `data.base.likes` says"""
    n_users: int
    """number of users U"""
    n_items: int
    """number of items N"""
    train: pd.DataFrame
    """user, item, rating (NaN: none given)"""
    items: pd.DataFrame
    """the `items` table; row i is item i"""
    person: str = ""
    """what a user is called; empty: as `prompts.PERSON` says"""

    @property
    def nouns(self) -> str:
        """The noun in the plural."""
        return plural(self.noun)

    # ------------------------------------------------------------ items

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Items as dictionaries, by item code."""
        return self.items.to_dict("records")

    @cached_property
    def values(self) -> list[tuple[str, ...]]:
        """Known attribute values of each item, by item code."""
        return [prompts.split_values(row.get("attributes")) for row in self.rows]

    @cached_property
    def vocabulary(self) -> tuple[str, ...] | None:
        """All attribute values in use, sorted; None where no item has any."""
        return tuple(sorted({value for values in self.values for value in values})) or None

    @cached_property
    def attribute_matrix(self) -> csr_array:
        """Which item has which value of the vocabulary; [N, V] of zeros and ones."""
        from sklearn.preprocessing import MultiLabelBinarizer

        columns = MultiLabelBinarizer(classes=self.vocabulary or (), sparse_output=True)
        return csr_array(columns.fit_transform(self.values), dtype=float)

    @cached_property
    def fact_fields(self) -> tuple[str, ...]:
        """Those of director, actor, country and language that at least one item has."""
        filled = self.items.columns[self.items.notna().any()]
        return tuple(field for field in prompts.FACT_FIELDS if field in filled)

    def given(self, item: int) -> dict[str, tuple[str, ...]]:
        """The given values of an item, by field: the attribute, then `fact_fields`; () unknown."""
        facts = {field: prompts.split_values(self.rows[item][field]) for field in self.fact_fields}
        return {self.attribute: self.values[item], **facts}

    def most_seen(self, items: list[int], limit: int) -> list[int]:
        """Those `limit` of the items with most training interactions, by item code; 0: all."""
        ranked = sorted(items, key=lambda item: (-self.item_degree[item], item))
        return sorted(ranked[: limit or None])

    # ------------------------------------------------------------ training interactions

    @cached_property
    def user_degree(self) -> np.ndarray:
        """Training interactions of each user, int64 [U]."""
        return np.bincount(self.train["user"], minlength=self.n_users)

    @cached_property
    def item_degree(self) -> np.ndarray:
        """Training interactions of each item, int64 [N]."""
        return np.bincount(self.train["item"], minlength=self.n_items)

    @cached_property
    def opinions(self) -> csr_array:
        """What users think of their training items: 1 liked, -1 disliked; int8 [U, N], sorted."""
        pairs = (self.train["user"], self.train["item"])
        signs = np.where(likes(self.train, self.like_threshold), 1, -1).astype(np.int8)
        return csr_array((signs, pairs), shape=(self.n_users, self.n_items))

    @cached_property
    def disliked(self) -> pd.DataFrame:
        """Training interactions that the user disliked: columns user, item."""
        return self.train.loc[~likes(self.train, self.like_threshold), ["user", "item"]]

    def opinion(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Entries of `opinions` for pairs [n]: 1, -1, or 0 for what is no training interaction."""
        pairs = map(np.array, np.broadcast_arrays(users, items))
        return np.asarray(self.opinions[*pairs])

    def seen(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Tell which pairs are training interactions; bool [n]."""
        return self.opinion(users, items) != 0

    def tastes(self, user: int) -> tuple[np.ndarray, np.ndarray]:
        """Items the user liked and disliked in training, each by item code."""
        row = slice(*self.opinions.indptr[user : user + 2])
        items, liked = self.opinions.indices[row].astype(np.int64), self.opinions.data[row] > 0
        return items[liked], items[~liked]

    @cached_property
    def histories(self) -> list[tuple[np.ndarray, csr_array]]:
        """Of liked, then of disliked items: each user's number [U], and by attribute [U, V]."""
        parts = [(self.opinions == sign).astype(float) for sign in (1, -1)]
        return [(part.sum(axis=1), part @ self.attribute_matrix) for part in parts]

    # ------------------------------------------------------------ prompts

    @cached_property
    def _texts(self) -> dict[tuple[str, bool], list[str]]:
        return {
            (wording, target): [
                prompts.item_text(r, self.noun, wording, target=target) for r in self.rows
            ]
            for wording in prompts.WORDINGS
            for target in (False, True)
        }

    def texts(self, wording: str, *, target: bool = False) -> list[str]:
        """Every item as a prompt names it, by item code (see `prompts.item_text`)."""
        return self._texts[wording, target]

    def history(
        self, user: int, wording: str, seed: int, without: int | np.ndarray = -1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Liked and disliked training items to show for a user, never those asked about.

        The default wording shows up to eight of each, in an order drawn once per user and seed; the
        paper's shows the first five of each by item code (theirs go by file order, which leaks).
        """
        likes, dislikes = self.tastes(user)
        if not prompts.is_paper(wording):
            likes = np.random.default_rng([seed, user, 0]).permutation(likes)
            dislikes = np.random.default_rng([seed, user, 1]).permutation(dislikes)
        most = prompts.HISTORY[wording]
        shown = (items[~np.isin(items, without)][:most] for items in (likes, dislikes))
        return next(shown), next(shown)

    def prompt(self, user: int, item: int, wording: str = "default", seed: int = 0) -> Prompt:
        """The question whether `user` would like `item`, with the user's training history."""
        return self.question(self.history(user, wording, seed, item), item, wording)

    def prompts(self, pairs: pd.DataFrame, wording: str = "default", seed: int = 0) -> list[Prompt]:
        """The questions about pairs (user, item), a user's all behind one history without them.

        So a model reads the history once, and no answer stands in another question about the user.
        """
        asked = pairs.groupby("user")["item"].agg(np.array)
        shown = {user: self.history(user, wording, seed, items) for user, items in asked.items()}
        both = zip(pairs["user"].tolist(), pairs["item"].tolist(), strict=True)
        return [self.question(shown[user], item, wording) for user, item in both]

    def question(
        self, history: tuple[np.ndarray, np.ndarray], item: int, wording: str = "default"
    ) -> Prompt:
        """The question whether somebody with this history (liked, disliked) would like `item`."""
        liked, others = self.texts(wording), self.texts(wording, target=True)
        shown = [liked[i] for i in history[0]], [others[i] for i in history[1]]
        target = others[item]
        return prompts.interaction_prompt(self.noun, *shown, target, wording, self.person)


def load_data(folder: Path) -> TrainingView:
    """Read the training view from the folder that notebook 01 wrote.

    Raises:
        UserError: when a file is missing, or a code is not one of the dataset's.
    """
    about, file = read_json(folder / "dataset.json"), folder / "train.parquet"
    keys = ("name", "noun", "attribute", "like_threshold", "n_users", "n_items", "person")
    train, items = read_table(file, "split"), read_table(folder / "items.parquet", "items")
    view = TrainingView(**{key: about[key] for key in keys}, train=train, items=items)
    check_codes(train, str(file), user=view.n_users, item=view.n_items)
    return view


def check_codes(frame: pd.DataFrame, where: str, **sizes: int) -> None:
    """Refuse a table with a code that the data do not have.

    Args:
        frame: the table.
        where: its name in the message.
        sizes: by column (user, item), how many there are.

    Raises:
        UserError: naming the first such row, and the column.
    """
    for column, size in sizes.items():
        for row in np.flatnonzero(~frame[column].between(0, size - 1))[:1]:
            problem = f"is {frame[column].iloc[row]}, but there are {size} {column}s"
            raise UserError(f"{where}: row {row}, column '{column}' {problem}")


def load_truth(folder: Path) -> Truth | None:
    """Read the embedded dataset's truth; None for real data, which has none."""
    table, taste = folder / "truth.parquet", folder / "taste.npy"
    if not (table.is_file() and taste.is_file()):
        return None
    liked_from = float(read_json(folder / "dataset.json")["liked_from"])
    return Truth(read_table(table, "truth"), np.load(taste), liked_from)
