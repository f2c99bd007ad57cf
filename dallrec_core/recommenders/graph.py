"""The interaction graph: users, items, and the weighted edges between them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from dallrec_core.errors import UserError
from dallrec_core.recommenders.sparse import Bipartite, csr

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
    hard_users: Tensor
    "User of each hard negative, int64 [H]; hard negatives are unique and sorted like the edges."
    hard_items: Tensor
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
        frame = _edges(train, n_users, n_items, "training interactions").assign(added=False)
        if extra is not None:
            more = _edges(extra, n_users, n_items, "added interactions").assign(added=True)
            frame = pd.concat([frame, more])
        if frame.empty:
            raise UserError("there are no training interactions")
        order, rising = ["user", "item", "added", "weight"], [True, True, True, False]
        frame = frame.sort_values(order, ascending=rising).drop_duplicates(["user", "item"])
        added, weight = frame["added"], frame["weight"]
        in_messages = weight.mask(added & (insertion == "loss"), 0)
        in_loss = weight.mask(added & (insertion == "adjacency"), 0)
        hard = np.empty(0, np.int64)
        if negatives is not None:
            said = _edges(negatives.filter(["user", "item"]), n_users, n_items, "hard negatives")
            hard = np.setdiff1d(*(part["user"] * n_items + part["item"] for part in (said, frame)))
        return cls(
            n_users,
            n_items,
            users=torch.tensor(frame["user"].to_numpy()),
            items=torch.tensor(frame["item"].to_numpy()),
            weights=torch.tensor(in_messages.to_numpy()),
            loss_weights=torch.tensor(in_loss.to_numpy()),
            observed=int((~added).sum()),
            hard_users=torch.from_numpy(hard // n_items),
            hard_items=torch.from_numpy(hard % n_items),
        )

    @cached_property
    def degrees(self) -> Tensor:
        """Summed adjacency weight of each node, users first, float32 [U + N]."""
        nodes = torch.cat([self.users, self.items + self.n_users])
        return torch.zeros(self.n_users + self.n_items).index_add_(0, nodes, self.weights.repeat(2))

    @property
    def mean_degree(self) -> float:
        """Mean number of observed interactions of a user; added edges do not change it."""
        return self.observed / self.n_users

    def matrix(self, weights: Tensor) -> csr_matrix:
        """Return the interaction matrix with these weights of the edges [E], sparse [U, N]."""
        entries = weights.numpy(), (self.users.numpy(), self.items.numpy())
        return csr_matrix(entries, (self.n_users, self.n_items))

    def bipartite(self) -> Bipartite:
        """Return the edges that messages pass along: those with a positive adjacency weight."""
        kept = self.weights > 0
        size = self.n_users, self.n_items
        return Bipartite(self.users[kept], self.items[kept], self.weights[kept], size)

    def normalised_adjacency(self) -> Tensor:
        """Return `D^-1/2 A D^-1/2`, symmetric, sparse float32 [U + N, U + N].

        `A` joins user u and item i (node U + i) by the edge's weight, and `D` is the diagonal of
        summed weights. A node without edges has an empty row.
        """
        kept = self.weights > 0
        users, items = self.users[kept], self.items[kept] + self.n_users
        values = self.weights[kept] * (self.degrees[users] * self.degrees[items]).rsqrt()
        rows, columns = torch.cat([users, items]), torch.cat([items, users])
        order, size = torch.argsort(rows, stable=True), self.n_users + self.n_items
        return csr(rows[order], columns[order], values.repeat(2)[order], (size, size))


def _edges(frame: pd.DataFrame, n_users: int, n_items: int, what: str) -> pd.DataFrame:
    """Return columns user, item (int64) and weight (float32) of `frame`, checked."""
    for column, size in (("user", n_users), ("item", n_items)):
        if column not in frame:
            raise UserError(f"the {what} have no column '{column}' (they have {list(frame)})")
        _check(frame[column], frame[column].between(0, size - 1), f"outside 0..{size - 1}", what)
    edges = frame[["user", "item"]].assign(weight=frame.get("weight", 1.0))
    edges = edges.astype({"user": np.int64, "item": np.int64, "weight": np.float32})
    _check(edges["weight"], edges["weight"].between(0, 1, "right"), "not in (0, 1]", what)
    return edges


def _check(column: pd.Series, valid: pd.Series, fault: str, what: str) -> None:
    if not valid.all():
        row = int(np.flatnonzero(~valid)[0])
        value = column.iloc[row]
        raise UserError(f"{what}, row {row}: {column.name} {value} is {fault}")
