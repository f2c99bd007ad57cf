"""Training triples: a user, an item the user has, an item the user has not.

Two samplers. `edges` visits every interaction once an epoch (in proportion to activity);
`uniform_users` is that of the DALLRec code: each batch holds distinct users drawn uniformly, with
one of their items each. Negatives are uniform over the items that the user does not have; a chosen
share of them can be drawn from the user's hard negatives instead.

Everything is vectorised over a whole epoch; random numbers come from the generator handed in. The
triples of a batch are in the order of their users: what a step looks up then lies close together.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dallrec_core.errors import UserError
from dallrec_core.recommenders.graph import Graph

BLOCK = 2**20
"""Edges dealt to batches at a time; what is shuffled and gathered then stays in the cache."""

TABLE_BYTES = 2**22
"""Bytes of a table of (user, item) pairs, a few users of all, that stays in the cache."""


class Batch(NamedTuple):
    """Triples with weights; the arguments of `Recommender.loss`."""

    users: Tensor
    "int64 [B]."
    positives: Tensor
    "int64 [B]."
    negatives: Tensor
    "int64 [B]."
    weights: Tensor | None
    "float32 [B], or None when all are 1."


class Sampler:
    """Draws the batches of an epoch.

    Args:
        graph: its edges with a positive loss weight are the positives; all its edges are excluded
            as negatives. A user who has every item teaches nothing and is left out.
        kind: "edges" or "uniform_users".
        batch_size: number of triples, B. Batches of `edges` are made equally long, at most B.
        hard_share: share of negatives drawn from the graph's hard ones, for users who have any.

    Raises:
        UserError: when no user has both a positive and a negative.
    """

    def __init__(
        self, graph: Graph, kind: str, batch_size: int, *, hard_share: float = 0.0
    ) -> None:
        self.kind, self.batch_size, self.n_items = kind, batch_size, graph.n_items
        users, items = graph.users.numpy(), graph.items.numpy()
        self._keys = users * graph.n_items + items  # ascending: edges are sorted
        degrees = np.bincount(users, minlength=graph.n_users)
        kept = (graph.loss_weights.numpy() > 0) & (degrees[users] < graph.n_items)
        if not kept.any():
            raise UserError("no user has both an interaction and an item without one")
        self._users, self._items = users[kept], items[kept]
        weights = graph.loss_weights.numpy()[kept]
        self._weights = None if (weights == 1).all() else weights
        self._counts, self._starts = _counts_and_starts(self._users, graph.n_users)
        self.hard_share, self._hard_items = hard_share, graph.hard_items.numpy()
        hard_users = graph.hard_users.numpy()
        self._hard_counts, self._hard_starts = _counts_and_starts(hard_users, graph.n_users)

    @property
    def steps(self) -> int:
        """Number of batches in an epoch."""
        if self.kind == "edges":
            return -(-len(self._users) // self.batch_size)
        return len(self._users) // self.batch_size + 1

    def epoch(self, random: np.random.Generator) -> Iterator[Batch]:
        """Yield the batches of one epoch."""
        for columns in (self._dealt if self.kind == "edges" else self._of_users)(random):
            users, items, others, *weights = map(torch.from_numpy, columns)
            weight = weights[0] if weights else None
            yield Batch(users.long(), items.long(), others.long(), weight)

    def _dealt(self, random: np.random.Generator) -> Iterator[list[np.ndarray]]:
        """Yield the columns of each batch of an epoch that visits every edge."""
        size = max(BLOCK // self.steps, 1) * self.steps
        starts = range(0, len(self._users), size)
        blocks = [self._deal(slice(start, start + size), random) for start in starts]
        for parts in zip(*blocks, strict=True):
            yield [np.concatenate(columns) for columns in zip(*parts, strict=True)]

    def _deal(self, block: slice, random: np.random.Generator) -> list[tuple[np.ndarray, ...]]:
        """Deal the edges of a block to all batches; each gets as many, up to one."""
        users = self._users[block]
        # small integers are sorted in linear time, and a batch's edges keep their order
        steps = np.arange(self.steps, dtype=np.min_scalar_type(self.steps))
        batch_of = np.resize(steps, len(users))
        random.shuffle(batch_of)
        order = np.argsort(batch_of, kind="stable")
        codes = users, self._items[block], self.negatives(users, random)
        columns = [column.astype(np.int32)[order] for column in codes]
        if self._weights is not None:
            columns.append(self._weights[block][order])
        return list(zip(*(np.array_split(c, self.steps) for c in columns), strict=True))

    def _of_users(self, random: np.random.Generator) -> Iterator[list[np.ndarray]]:
        """Yield the columns of batches with an edge for each of B distinct users."""
        pool = np.flatnonzero(self._counts)
        repeat = len(pool) < self.batch_size  # as the published code does
        draws = [random.choice(pool, self.batch_size, replace=repeat) for _ in range(self.steps)]
        users = np.concatenate(draws)
        edges = self._starts[users] + random.integers(0, self._counts[users])
        edges = np.sort(edges.reshape(self.steps, -1)).ravel()
        order = np.argsort(edges, kind="stable")
        negatives = np.empty_like(edges)
        negatives[order] = self.negatives(self._users[edges[order]], random)
        columns = [self._users[edges], self._items[edges], negatives]
        if self._weights is not None:
            columns.append(self._weights[edges])
        for batch in zip(*(np.array_split(c, self.steps) for c in columns), strict=True):
            yield list(batch)

    def negatives(self, users: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Draw for each of `users`, which ascend, an item that is none of the user's, int64 [n]."""
        items = random.integers(0, self.n_items, len(users))
        together = max(1, TABLE_BYTES // self.n_items)
        taken = np.zeros(together * self.n_items, bool)
        for first in range(int(users[0]), int(users[-1]) + 1, together):
            bounds = first, first + together
            low, high = np.searchsorted(self._keys, np.multiply(bounds, self.n_items))
            known = self._keys[low:high] - first * self.n_items
            taken[known] = True
            start, stop = np.searchsorted(users, bounds)
            rows, these = (users[start:stop] - first) * self.n_items, items[start:stop]
            wrong = np.flatnonzero(taken[rows + these])
            while len(wrong):
                these[wrong] = random.integers(0, self.n_items, len(wrong))
                wrong = wrong[taken[rows[wrong] + these[wrong]]]
            taken[known] = False
        if self.hard_share and len(self._hard_items):
            drawn = random.random(len(users)) < self.hard_share
            chosen = np.flatnonzero(drawn & (self._hard_counts[users] > 0))
            whose = users[chosen]
            place = self._hard_starts[whose] + random.integers(0, self._hard_counts[whose])
            items[chosen] = self._hard_items[place]
        return items


def _counts_and_starts(users: np.ndarray, n_users: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how many of the sorted `users` are each user, and where hers begin; both [U]."""
    counts = np.bincount(users, minlength=n_users)
    return counts, np.cumsum(counts) - counts
