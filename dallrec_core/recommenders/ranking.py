"""Ranked lists: all items for a user, known ones left out, ties to the lower item code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dallrec_core.errors import UserError
from dallrec_core.recommenders.base import Recommender

Scored = Recommender | tuple[Tensor, Tensor] | Tensor
"""What can be ranked: a model, (user vectors [U, d], item vectors [N, d]), or scores [U, N]."""


CACHED_SCORES = 2**18
"""Scores in a block of users, which stay in the processor's cache: 1 MiB."""


class Pairs:
    """A set of (user, item) pairs that answers membership for arrays.

    Args:
        frame: columns user, item; duplicates count once.
        n_items: number of items, N.
    """

    def __init__(self, frame: pd.DataFrame, n_items: int) -> None:
        users, items = frame["user"].to_numpy(np.int64), frame["item"].to_numpy(np.int64)
        self.n_items = n_items
        keys = users * n_items + items
        if not (keys[1:] > keys[:-1]).all():  # mostly sorted already; np.unique would hash them
            keys = np.sort(keys)
            keys = keys[np.diff(keys, prepend=-1) > 0]
        self.keys = keys

    def contains(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Tell for broadcastable `users` and `items` which pairs are members; item -1 is none."""
        wanted = users.astype(np.int64) * self.n_items + items
        if not len(self.keys):
            return np.zeros(wanted.shape, bool)
        place = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return (self.keys[place] == wanted) & (np.broadcast_to(items, wanted.shape) >= 0)

    def of(self, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (position in `users`, item) of every pair whose user is in `users` [n]."""
        start = np.searchsorted(self.keys, users.astype(np.int64) * self.n_items)
        stop = np.searchsorted(self.keys, (users.astype(np.int64) + 1) * self.n_items)
        lengths = stop - start
        position = np.repeat(np.arange(len(users)), lengths)
        within = np.arange(len(position)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return position, self.keys[start[position] + within] - users[position] * self.n_items

    def counts(self, users: np.ndarray) -> np.ndarray:
        """Return the number of pairs of each of `users`, int64 [n]."""
        return np.bincount(self.of(users)[0], minlength=len(users))


@dataclass(frozen=True)
class Ranking:
    """The best items of some users."""

    users: np.ndarray
    "User codes, int64 [n]."
    items: np.ndarray
    "Item codes from best to worst, int32 [n, depth]; -1 where a list has run out."

    def without(self, pairs: Pairs) -> Ranking:
        """Return the ranking with some pairs taken out and the rest moved up."""
        out = pairs.contains(self.users[:, None], self.items)
        order = np.argsort(out, axis=1, kind="stable")
        items = np.take_along_axis(np.where(out, np.int32(-1), self.items), order, axis=1)
        return Ranking(self.users, items)


@torch.no_grad()
def rank(
    model: Scored,
    known: pd.DataFrame,
    users: np.ndarray,
    depth: int = 100,
    among: np.ndarray | None = None,
) -> Ranking:
    """Rank all items for `users`, leaving out those they are known to have.

    Args:
        model: what gives the scores; a NaN is an error, -inf means "never".
        known: columns user, item: pairs that are not ranked (train, and validation at test time).
        users: int64 [n].
        depth: length of the lists.
        among: mask [N] of the items that are ranked; None for all.

    Raises:
        UserError: when a score is NaN.
    """
    score, n_items = scoring(model)
    pairs = Pairs(known, n_items)
    users = np.asarray(users, dtype=np.int64)
    block = min(max(CACHED_SCORES // n_items, 64), 1024)
    items = np.full((len(users), depth), -1, np.int32)
    for start in range(0, len(users), block):
        part = users[start : start + block]
        scores = score(torch.tensor(part)).float().contiguous()
        rows, columns = pairs.of(part)
        own = torch.from_numpy(rows * n_items + columns)
        scores.view(-1).index_fill_(0, own, -torch.inf)
        if among is not None:
            scores[:, torch.from_numpy(~among)] = -torch.inf
        best = top_items(scores, min(depth, n_items))
        items[start : start + len(part), : best.shape[1]] = best
    return Ranking(users, items)


def scoring(model: Scored) -> tuple[Callable[[Tensor], Tensor], int]:
    """Return (users [B] -> scores [B, N], N)."""
    if isinstance(model, Recommender):
        return model.scorer(), model.n_items
    if isinstance(model, tuple):
        vectors, items = model
        return lambda users: vectors[users] @ items.T, len(items)
    return lambda users: model[users], model.shape[1]


def top_items(scores: Tensor, depth: int) -> np.ndarray:
    """Return the codes of the best items of each row, ties to the lower code.

    All scores that reach the `depth`-th best of their row are sorted: that many, and ties.

    Args:
        scores: float32 [B, N]; items with -inf are not listed.
        depth: at most N.

    Returns:
        int64 [B, depth], -1 where fewer than `depth` items have a score above -inf.

    Raises:
        UserError: when a score is NaN.
    """
    table = scores.numpy()
    if np.isnan(table.max()):
        raise UserError("the model's scores are not numbers (NaN); its training diverged")
    rows, n_items = table.shape
    last = n_items - depth
    bar = np.partition(table, last, axis=1)[:, last, None]
    row, item = np.divmod(np.flatnonzero(table >= bar), n_items)
    counts = np.bincount(row, minlength=rows)
    place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    values = np.full((rows, counts.max()), -np.inf, np.float32)
    items = np.full(values.shape, -1)
    values[row, place] = table[row, item]
    items[row, place] = np.where(np.isneginf(values[row, place]), -1, item)
    order = np.argsort(-values, axis=1, kind="stable")[:, :depth]
    return np.take_along_axis(items, order, axis=1)


def coverage(ranking: Ranking, k: int, n_items: int) -> float:
    """Return the share of the catalogue that stands in at least one user's first k places."""
    shown = np.unique(ranking.items[:, :k])
    return float((shown >= 0).sum() / n_items)
