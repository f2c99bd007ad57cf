"""The interaction graph: users, items, and the weighted edges between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dallrec_core.errors import UserError
from dallrec_core.recommenders.sparse import Adjacency

INSERTIONS = ("both", "loss", "adjacency")
"""Where added edges may enter: as training positives, in message passing, or both."""


@dataclass(frozen=True, eq=False)
class Graph:
    """The users, the items and the weighted interactions between them.

    Edges are unique and sorted by (user, item), so the order of a file never reaches a model.
    Build one with `Graph.from_frame`.
    """

    n_users: int
    "Number of users, U; those without an interaction count too."
    n_items: int
    "Number of items, N; cold items count too."
    users: Tensor
    "User of each edge, int64 [E]."
    items: Tensor
    "Item of each edge, int64 [E]."
    weights: Tensor
    "Weight of each edge in the adjacency, float32 [E]; 0 keeps the edge out of message passing."
    loss_weights: Tensor
    "Weight of each edge as a training positive, float32 [E]; 0 keeps it out of the loss."
    observed: int
    "Number of edges that were observed and not added."
    hard_users: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    "User of each hard negative, int64 [H]; hard negatives are unique and sorted like the edges."
    hard_items: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    "Item of each hard negative, int64 [H]: somebody has reason to think the user dislikes it."

    @classmethod
    def from_frame(
        cls,
        train: pd.DataFrame,
        n_users: int,
        n_items: int,
        *,
        extra: pd.DataFrame | None = None,
        insertion: str = "both",
        negatives: pd.DataFrame | None = None,
    ) -> Graph:
        """Build the graph of `train` and, where given, of added edges and hard negatives.

        Args:
            train: columns user, item [, weight in (0, 1], default 1].
            n_users: number of users, U.
            n_items: number of items, N.
            extra: added edges in the same form. A pair that `train` has already stays as it is;
                a pair given twice keeps its largest weight.
            insertion: one of `INSERTIONS`; concerns the added edges only.
            negatives: columns user, item; pairs that a sampler may prefer as negatives. Pairs that
                are edges, observed or added, are left out: what happened outweighs what was said.

        Raises:
            UserError: when a code is out of range, a weight is outside (0, 1], nothing is left to
                train on, or `insertion` is unknown.
        """
        if insertion not in INSERTIONS:
            raise UserError(f"insertion '{insertion}' is unknown; use {', '.join(INSERTIONS)}")
        parts = [_edges(train, n_users, n_items, "training interactions")]
        if extra is not None and len(extra):
            parts.append(_edges(extra, n_users, n_items, "added interactions"))
        frame = pd.concat(parts, keys=range(len(parts)), names=["added", None]).reset_index("added")
        frame = frame.sort_values(
            ["user", "item", "added", "weight"], ascending=[True, True, True, False]
        ).drop_duplicates(["user", "item"])
        if frame.empty:
            raise UserError("there are no training interactions")
        weight = frame["weight"].to_numpy(np.float32)
        added = frame["added"].to_numpy() == 1
        users = frame["user"].to_numpy(np.int64, copy=True)
        items = frame["item"].to_numpy(np.int64, copy=True)
        hard = _hard(negatives, users * n_items + items, n_users, n_items)
        return cls(
            n_users,
            n_items,
            torch.from_numpy(users),
            torch.from_numpy(items),
            torch.from_numpy(np.where(added & (insertion == "loss"), np.float32(0), weight)),
            torch.from_numpy(np.where(added & (insertion == "adjacency"), np.float32(0), weight)),
            int((~added).sum()),
            torch.from_numpy(hard // n_items),
            torch.from_numpy(hard % n_items),
        )

    @cached_property
    def item_degrees(self) -> Tensor:
        """Summed adjacency weight of each item, float32 [N]."""
        return torch.zeros(self.n_items).index_add_(0, self.items, self.weights)

    @cached_property
    def user_degrees(self) -> Tensor:
        """Summed adjacency weight of each user, float32 [U]."""
        return torch.zeros(self.n_users).index_add_(0, self.users, self.weights)

    @property
    def mean_degree(self) -> float:
        """Mean number of observed interactions of a user; added edges do not change it."""
        return self.observed / self.n_users

    def penalty(self, l2: float | None, prior: float) -> float:
        """Return the weight λ of squared norms: `l2`, or `prior` over the mean degree of a user."""
        return prior / self.mean_degree if l2 is None else l2

    def normalised_adjacency(self) -> Adjacency:
        """Return `D^-1/2 A D^-1/2`, symmetric and sparse, float32 [U + N, U + N].

        `A` joins user u and item i (node U + i) by the edge's weight, and `D` is the diagonal of
        summed weights. A node without edges has an empty row.
        """
        kept = self.weights > 0
        users, items, weights = self.users[kept], self.items[kept], self.weights[kept]
        degrees = self.user_degrees[users] * self.item_degrees[items]
        values = weights * degrees.rsqrt()
        return Adjacency(users, items, values, self.n_users, self.n_items)


def _hard(
    negatives: pd.DataFrame | None, edges: np.ndarray, n_users: int, n_items: int
) -> np.ndarray:
    """Return the hard negatives that are no edges, as sorted keys user * N + item, int64 [H]."""
    if negatives is None or negatives.empty:
        return np.empty(0, np.int64)
    pairs = _edges(
        negatives.drop(columns="weight", errors="ignore"), n_users, n_items, "hard negatives"
    )
    keys = pairs["user"].to_numpy(np.int64) * n_items + pairs["item"].to_numpy(np.int64)
    return np.setdiff1d(keys, edges)


def _edges(frame: pd.DataFrame, n_users: int, n_items: int, what: str) -> pd.DataFrame:
    """Return columns user, item, weight of `frame`, checked."""
    for column, size in (("user", n_users), ("item", n_items)):
        if column not in frame:
            raise UserError(f"the {what} have no column '{column}' (they have {list(frame)})")
        codes = frame[column].to_numpy()
        wrong = np.flatnonzero((codes < 0) | (codes >= size))
        if len(wrong):
            raise UserError(
                f"{what}, row {wrong[0]}: {column} {codes[wrong[0]]} is outside 0..{size - 1}"
            )
    weight = frame["weight"].to_numpy(np.float32) if "weight" in frame else np.float32(1)
    weight = np.broadcast_to(weight, len(frame))
    wrong = np.flatnonzero(~((weight > 0) & (weight <= 1)))
    if len(wrong):
        raise UserError(f"{what}, row {wrong[0]}: weight {weight[wrong[0]]} is not in (0, 1]")
    return pd.DataFrame(
        {"user": frame["user"].to_numpy(), "item": frame["item"].to_numpy(), "weight": weight}
    )
