"""Training triples: a user, an item the user has, an item the user has not.

Two samplers. `edges` visits every interaction once an epoch (in proportion to activity);
`uniform_users` is that of the DALLRec code: each batch holds distinct users drawn uniformly, with
one of their items each. Negatives are uniform over the items that the user does not have; a chosen
share of them can be drawn from the user's hard negatives instead.

Everything is vectorised over a whole epoch; random numbers come from the generator handed in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dallrec_core.errors import UserError
from dallrec_core.recommenders.graph import Graph

SAMPLERS = ("edges", "uniform_users")
"""Names of the samplers."""

MAX_BITMAP_BITS = 2**31
"""Largest user-item bitmap, in bits (256 MiB); beyond it sorted keys are searched."""


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

    def to(self, device: str) -> Batch:
        """Return the batch on a torch device."""
        weights = None if self.weights is None else self.weights.to(device)
        return Batch(
            self.users.to(device), self.positives.to(device), self.negatives.to(device), weights
        )


class Sampler:
    """Draws the batches of an epoch.

    Args:
        graph: its edges with a positive loss weight are the positives; all its edges are excluded
            as negatives. A user who has every item teaches nothing and is left out.
        kind: one of `SAMPLERS`.
        batch_size: size of a batch, B. Batches of `edges` are made equally long, at most B.
        hard_share: share of negatives drawn from the graph's hard ones, for users who have any.
        bitmap_bits: see `MAX_BITMAP_BITS`.

    Raises:
        UserError: for an unknown kind, or when no user has both a positive and a negative.
    """

    def __init__(
        self,
        graph: Graph,
        kind: str,
        batch_size: int,
        *,
        hard_share: float = 0.0,
        bitmap_bits: int = MAX_BITMAP_BITS,
    ) -> None:
        if kind not in SAMPLERS:
            raise UserError(f"sampler '{kind}' is unknown; use {', '.join(SAMPLERS)}")
        self.kind, self.batch_size, self.n_items = kind, batch_size, graph.n_items
        users, items = graph.users.numpy(), graph.items.numpy()
        self._known = _Known(users, items, graph.n_users, graph.n_items, bitmap_bits)
        degrees = np.bincount(users, minlength=graph.n_users)
        kept = (graph.loss_weights.numpy() > 0) & (degrees[users] < graph.n_items)
        if not kept.any():
            raise UserError("no user has both an interaction and an item without one")
        self._users, self._items = users[kept], items[kept]
        weights = graph.loss_weights.numpy()[kept]
        self._weights = None if (weights == 1).all() else weights
        self._counts = np.bincount(self._users, minlength=graph.n_users)
        self._starts = np.cumsum(self._counts) - self._counts
        self.hard_share, self._hard_items = hard_share, graph.hard_items.numpy()
        self._hard_counts = np.bincount(graph.hard_users.numpy(), minlength=graph.n_users)
        self._hard_starts = np.cumsum(self._hard_counts) - self._hard_counts

    @property
    def steps(self) -> int:
        """Number of batches in an epoch."""
        if self.kind == "edges":
            return -(-len(self._users) // self.batch_size)
        return len(self._users) // self.batch_size + 1

    def epoch(self, random: np.random.Generator) -> Iterator[Batch]:
        """Yield the batches of one epoch."""
        if self.kind == "edges":
            edges = random.permutation(len(self._users))
        else:
            edges = self._edges_of_uniform_users(random, self.steps)
        users = self._users[edges]
        negatives = self.negatives(users, random)
        for part in np.array_split(np.arange(len(edges)), self.steps):
            chosen = slice(part[0], part[-1] + 1)
            weights = None if self._weights is None else self._weights[edges[chosen]]
            yield Batch(
                torch.from_numpy(users[chosen]),
                torch.from_numpy(self._items[edges[chosen]]),
                torch.from_numpy(negatives[chosen]),
                None if weights is None else torch.from_numpy(weights),
            )

    def _edges_of_uniform_users(self, random: np.random.Generator, count: int) -> np.ndarray:
        """Return one random edge of each of `count` times B users, distinct within a batch."""
        pool = np.flatnonzero(self._counts)
        repeat = len(pool) < self.batch_size  # as the published code does
        draws = [random.choice(pool, self.batch_size, replace=repeat) for _ in range(count)]
        users = np.concatenate(draws)
        return self._starts[users] + random.integers(0, self._counts[users])

    def negatives(self, users: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Draw for each of `users` (int64 [n]) an item that is none of the user's, int64 [n]."""
        items = random.integers(0, self.n_items, len(users))
        wrong = np.flatnonzero(self._known(users, items))
        while len(wrong):
            items[wrong] = random.integers(0, self.n_items, len(wrong))
            wrong = wrong[self._known(users[wrong], items[wrong])]
        if self.hard_share and len(self._hard_items):
            drawn = random.random(len(users)) < self.hard_share
            chosen = np.flatnonzero(drawn & (self._hard_counts[users] > 0))
            whose = users[chosen]
            place = self._hard_starts[whose] + random.integers(0, self._hard_counts[whose])
            items[chosen] = self._hard_items[place]
        return items


class _Known:
    """Tells which (user, item) pairs are edges: a bitmap where it fits, else sorted keys."""

    def __init__(
        self, users: np.ndarray, items: np.ndarray, n_users: int, n_items: int, max_bits: int
    ) -> None:
        self.n_items = n_items
        self.keys = users * n_items + items  # ascending: edges are sorted
        self.bits: np.ndarray | None = None
        if n_users * n_items <= max_bits:
            self.bits = np.zeros(n_users * n_items // 8 + 1, np.uint8)
            np.bitwise_or.at(self.bits, self.keys >> 3, _bit(self.keys))

    def __call__(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        wanted = users * self.n_items + items
        if self.bits is not None:
            return (self.bits[wanted >> 3] & _bit(wanted)) != 0
        place = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return self.keys[place] == wanted


def _bit(keys: np.ndarray) -> np.ndarray:
    return np.left_shift(np.uint8(1), (keys & 7).astype(np.uint8))
