"""Which user-item pairs are worth a question: proposals of a base recommender, or random draws.

Both see training interactions only and never propose a pair that is already among them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from dallrec_core.augmentation.data import Data
from dallrec_core.errors import UserError

Scorer = Callable[[np.ndarray], Any]
"""From user codes [B] to scores [B, N], higher is better."""


def shares(degree: np.ndarray, budget: int) -> np.ndarray:
    """Divide a budget over nodes in proportion to ``1 / sqrt(1 + degree)``; int64, same shape.

    Fractions go to the largest remainders, and among equal ones to the lower degree.
    """
    weight = 1.0 / np.sqrt(1.0 + degree)
    exact = budget * weight / weight.sum()
    whole = np.floor(exact).astype(np.int64)
    order = np.lexsort((np.arange(len(degree)), degree, -np.round(exact - whole, 9)))
    whole[order[: budget - int(whole.sum())]] += 1
    return whole


def candidates(data: Data, base: Scorer | Any, *, budget: int, seed: int = 0) -> pd.DataFrame:
    """Let a base recommender propose at most `budget` unseen pairs, low degrees first.

    Half of the budget belongs to users, who get their best unseen items; half to items, which get
    the users who rank them best (scores standardised per user). Each node's share falls with its
    degree (`shares`), and no node is proposed more than twice its share of the whole. Of an item
    without training interactions a recommender knows nothing, so its users are drawn at random.
    Users without training interactions are left out: there is no history to show.

    :param base: a function from user codes [B] to scores [B, N], or an object with ``scores``.
    :returns: user, item (int32), by (user, item).
    :raises UserError: if the budget is not positive or nobody has training interactions.
    """
    users = askable(data, budget)
    rng = np.random.default_rng([seed, 3])
    return table(_Proposals(data, users, budget, rng).run(base))


def askable(data: Data, budget: int) -> np.ndarray:
    """Return the users with a history to show, the shortest first; int64.

    :raises UserError: if the budget is not positive or nobody has training interactions.
    """
    if budget < 1:
        raise UserError(f"budget must be at least 1 question, not {budget}")
    users = np.flatnonzero(data.user_degree > 0)
    if not len(users):
        raise UserError("no user has training interactions, so there is nobody to ask about")
    return users[np.argsort(data.user_degree[users], kind="stable")]


def table(pairs: list[tuple[int, int]]) -> pd.DataFrame:
    """Return pairs as a frame: user, item (int32), by (user, item)."""
    frame = pd.DataFrame(pairs, columns=["user", "item"]).astype("int32")
    return frame.sort_values(["user", "item"], ignore_index=True)


def scorer_of(base: Scorer | Any) -> Callable[[np.ndarray], np.ndarray]:
    """A function from user codes [B] to float64 scores [B, N], of a callable or a recommender."""
    if not hasattr(base, "scores"):
        return lambda users: np.asarray(base(users), dtype=float)
    import torch

    with torch.no_grad():
        scores = base.scorer() if hasattr(base, "scorer") else base.scores

    def rows(users: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return scores(torch.as_tensor(users)).cpu().numpy().astype(float)

    return rows


_HIDDEN = -(2**31)  # below every real score


def _top(ticks: np.ndarray, k: int) -> np.ndarray:
    """Positions of the k largest integers of each row [R, C], largest first, ties by position."""
    width = ticks.shape[1]
    keys = (-ticks << 24) + np.arange(width)  # unique, so any sorting algorithm gives one answer
    k = min(k, width)
    best = np.argpartition(keys, k - 1, axis=1)[:, :k] if k < width else np.argsort(keys, axis=1)
    order = np.argsort(np.take_along_axis(keys, best, axis=1), axis=1)
    return np.take_along_axis(best, order, axis=1)


def rooms(degree: np.ndarray, budget: int) -> np.ndarray:
    """Return how often each node may be proposed at all: twice its share of at least one; int64."""
    return 2 * np.maximum(shares(degree, budget), 1)


class _Proposals:
    """Book-keeping of one call of `candidates`: how often each node may still be proposed."""

    def __init__(
        self, data: Data, users: np.ndarray, budget: int, rng: np.random.Generator
    ) -> None:
        self.data, self.users, self.rng = data, users, rng
        degree = data.user_degree[users]
        self.cold = data.item_degree == 0
        self.user_share = shares(degree, budget - budget // 2)
        self.item_share = shares(data.item_degree, budget // 2)
        self.user_room = rooms(degree, budget)
        self.item_room = rooms(data.item_degree, budget)
        self.pairs: list[tuple[int, int]] = []
        wanted = np.flatnonzero(self.item_share)
        self.wanted = wanted[np.argsort(data.item_degree[wanted], kind="stable")]
        keep = min(len(users), 2 * int(self.item_share.max(initial=0)) + 8)
        self.best = np.full((len(wanted), keep), _HIDDEN, dtype=np.int64)
        self.who = np.full((len(wanted), keep), -1)

    def run(self, base: Scorer | Any) -> list[tuple[int, int]]:
        scorer = scorer_of(base)
        block = max(1, 4_000_000 // max(self.data.n_items, 1))
        for start in range(0, len(self.users), block):
            rows = np.arange(start, min(start + block, len(self.users)))
            ticks = self._ticks(scorer(self.users[rows]), rows)
            for row, values in zip(rows, ticks, strict=True):
                self._for_user(int(row), values)
            self._remember(rows, ticks)
        for place, item in enumerate(self.wanted):
            self._for_item(place, int(item))
        return self.pairs

    def _ticks(self, scores: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Scores standardised per user, in whole ten-thousandths; training pairs are hidden."""
        spread = scores.std(axis=1, keepdims=True)
        scores = (scores - scores.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1)
        scores[:, self.cold] = self.rng.random((len(rows), int(self.cold.sum())))
        ticks = np.rint(scores.clip(-1e5, 1e5) * 1e4).astype(np.int64)
        for row, user in enumerate(self.users[rows]):
            ticks[row, self.data.items_of(user)] = _HIDDEN
        return ticks

    def _for_user(self, row: int, values: np.ndarray) -> None:
        if not self.user_share[row]:
            return
        free = np.where((self.item_room > 0) & ~self.cold, values, _HIDDEN)
        order = _top(free[None], int(self.user_share[row]))[0]
        for item in order[free[order] > _HIDDEN]:
            values[item] = _HIDDEN  # the item's own share must find somebody else
            self._add(row, item)

    def _remember(self, rows: np.ndarray, ticks: np.ndarray) -> None:
        """Keep the best users over all blocks, for each item with a share of its own."""
        columns = ticks.T[self.wanted]
        values = np.concatenate([self.best, columns], axis=1)
        who = np.concatenate([self.who, np.broadcast_to(rows, columns.shape)], axis=1)
        order = _top(values, self.best.shape[1])
        self.best = np.take_along_axis(values, order, axis=1)
        self.who = np.take_along_axis(who, order, axis=1)

    def _for_item(self, place: int, item: int) -> None:
        known = self.who[place][self.best[place] > _HIDDEN]
        wanted = min(self.item_share[item], max(self.item_room[item], 0))
        for row in known[self.user_room[known] > 0][:wanted]:
            self._add(row, item)

    def _add(self, row: int, item: int) -> None:
        self.pairs.append((int(self.users[row]), int(item)))
        self.user_room[row] -= 1
        self.item_room[item] -= 1


def random_users(data: Data, rounds: int, seed: int = 0) -> np.ndarray:
    """Users to ask about each item, round by round; int64 [N, rounds], -1 where none is left.

    Uniform without replacement, as the authors draw them, but only among users who have a training
    history and not this item in it (their code checks neither).
    """
    users = np.flatnonzero(data.user_degree > 0)
    table = np.full((data.n_items, rounds), -1, dtype=np.int64)
    for item in range(data.n_items):
        rng = np.random.default_rng([seed, 4, item])
        # as many spares as the item has training users, so that skipping those cannot run short
        size = min(len(users), rounds + int(data.item_degree[item]))
        drawn = users[rng.choice(len(users), size=size, replace=False)]
        drawn = drawn[~data.seen(drawn, np.array(item))][:rounds]
        table[item, : len(drawn)] = drawn
    return table
