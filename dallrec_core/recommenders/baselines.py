"""References that need no training loop: popularity, and EASE in closed form.

EASE: Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019. With the interaction
matrix `X` of `[U, N]`, the item-item weights that best rebuild `X` under `diag(W) = 0` are

    P = (XᵀX + λI)⁻¹           [N, N]
    W_ij = -P_ij / P_jj,  W_jj = 0
    s_u = X_u W                [N]

It has one parameter, is hard to beat on dense data, and shows what a learned backbone is worth.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dallrec_core.errors import UserError
from dallrec_core.recommenders.base import Features, Recommender, register
from dallrec_core.recommenders.graph import Graph
from dallrec_core.recommenders.sparse import csr, pointers

MAX_EASE_ITEMS = 12_000
"""Largest catalogue for which EASE's dense item-item matrices are still reasonable."""


@dataclass(frozen=True)
class PopularityConfig:
    """Popularity has no options."""


@register("Popularity", PopularityConfig)
class Popularity(Recommender):
    """Score every item by its number of training interactions, the same for all users."""

    closed_form = True
    cost = 0.1

    def __init__(
        self, graph: Graph, config: PopularityConfig, features: Features | None = None
    ) -> None:
        super().__init__(graph)
        self.popularity: Tensor
        weight = torch.zeros(graph.n_items).index_add_(0, graph.items, graph.loss_weights)
        self.register_buffer("popularity", weight)

    def scores(self, users: Tensor) -> Tensor:
        """Return the popularity of all items for each of `users` (int64 [B]), float32 [B, N]."""
        return self.popularity.repeat(len(users), 1)


@dataclass(frozen=True)
class EASEConfig:
    """Options of EASE."""

    l2: float = 0.0
    "λ on the diagonal; 0 stands for `relative_l2` times the observed interactions per item."
    relative_l2: float = 5.0
    "Used when `l2` is 0, so that one default suits catalogues of different density."

    def __post_init__(self) -> None:
        """Refuse a matrix that could not be inverted."""
        if self.l2 < 0 or (self.l2 == 0 and self.relative_l2 <= 0):
            raise UserError(
                f"EASE: l2 {self.l2} or relative_l2 {self.relative_l2} must be positive"
            )


@register("EASE", EASEConfig)
class EASE(Recommender):
    """The shallow autoencoder in closed form; see the module for the equations.

    Raises:
        UserError: when the catalogue is too large for dense [N, N] matrices.
    """

    closed_form = True
    cost = 0.5

    def __init__(self, graph: Graph, config: EASEConfig, features: Features | None = None) -> None:
        super().__init__(graph)
        if graph.n_items > MAX_EASE_ITEMS:
            need = 3 * graph.n_items**2 * 4 / 2**30
            raise UserError(
                f"EASE needs dense item-item matrices: {graph.n_items} items would take "
                f"{need:.0f} GiB of memory. It is limited to {MAX_EASE_ITEMS} items; "
                "leave it out for this dataset."
            )
        size = (graph.n_users, graph.n_items)
        self.interactions: Tensor
        self.weights: Tensor
        starts = pointers(graph.users, graph.n_users)
        matrix = csr(starts, graph.items.int(), graph.loss_weights, size)
        self.register_buffer("interactions", matrix, persistent=False)
        self.l2 = config.l2 or config.relative_l2 * graph.observed / graph.n_items
        self.register_buffer("weights", _item_weights(_gram(matrix), self.l2))

    def scores(self, users: Tensor) -> Tensor:
        """Return `X_u W` for `users` (int64 [B]), float32 [B, N]."""
        return _rows(self.interactions, users) @ self.weights


def _rows(matrix: Tensor, rows: Tensor) -> Tensor:
    """Return `rows` of a CSR matrix, dense [B, N]."""
    start, stop = matrix.crow_indices()[:-1].long()[rows], matrix.crow_indices()[1:].long()[rows]
    lengths = stop - start
    dense = matrix.values().new_zeros(len(rows), matrix.shape[1])
    which = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), lengths)
    offset = torch.cumsum(lengths, 0) - lengths
    entries = start[which] + torch.arange(len(which), device=rows.device) - offset[which]
    dense[which, matrix.col_indices()[entries].long()] = matrix.values()[entries]
    return dense


def _gram(matrix: Tensor, block: int = 2048) -> Tensor:
    """Return `XᵀX`, dense [N, N], from blocks of dense rows."""
    n_users, n_items = matrix.shape
    total = torch.zeros(n_items, n_items)
    for users in torch.arange(n_users).split(block):
        rows = _rows(matrix, users)
        total.addmm_(rows.T, rows)
    return total


def _item_weights(gram: Tensor, l2: float) -> Tensor:
    gram.diagonal().add_(l2)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
    weights = inverse / -inverse.diagonal()
    weights.fill_diagonal_(0)
    return weights
