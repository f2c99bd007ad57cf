"""References that need no training loop: popularity, nearest neighbours, EASE.

**ItemKNN** recommends what resembles the user's items: Sarwar, Karypis, Konstan and Riedl,
"Item-based collaborative filtering recommendation algorithms", WWW 2001, for implicit feedback.
With the columns `x_i` of the interaction matrix `X` of `[U, N]`:

    S_ij = x_i · x_j / (‖x_i‖ ‖x_j‖ + shrink),  S_ii = 0,  kept for the k largest j of each item i
    s_ui = Σ over the user's items j of w_uj S_ij

What it keeps is sparse, so large catalogues fit.

**EASE**: Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019. The item-item
weights that best rebuild `X` under `diag(W) = 0` are

    P = (XᵀX + λI)⁻¹           [N, N]
    W_ij = -P_ij / P_jj,  W_jj = 0
    s_u = X_u W                [N]

It has one parameter, is hard to beat on dense data, and shows what a learned backbone is worth.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from scipy import sparse
from torch import Tensor

from dallrec_core.errors import UserError
from dallrec_core.recommenders.base import Features, Recommender, register
from dallrec_core.recommenders.graph import Graph

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
        self.popularity = torch.bincount(graph.items, graph.loss_weights, graph.n_items).float()

    def scores(self, users: Tensor) -> Tensor:
        """Return the popularity of all items for each of `users` (int64 [B]), float32 [B, N]."""
        return self.popularity.repeat(len(users), 1)


@dataclass(frozen=True)
class ItemKNNConfig:
    """Options of ItemKNN."""

    neighbours: PositiveInt = 100
    "k, similar items kept for each item."
    shrink: NonNegativeFloat = 10.0
    "Added to the denominator; it distrusts similarities that rest on few users."


@register("ItemKNN", ItemKNNConfig)
class ItemKNN(Recommender):
    """Item-based nearest neighbours; see the module for the equations."""

    closed_form = True
    cost = 0.3

    def __init__(
        self, graph: Graph, config: ItemKNNConfig, features: Features | None = None
    ) -> None:
        super().__init__(graph)
        self.interactions = graph.matrix(graph.loss_weights)
        self.similarity = similar_items(self.interactions, config.neighbours, config.shrink)

    def scores(self, users: Tensor) -> Tensor:
        """Return the summed similarities of all items for `users` (int64 [B]), float32 [B, N]."""
        rows = self.interactions[users.numpy()] @ self.similarity
        return torch.from_numpy(rows.toarray())


def similar_items(
    interactions: sparse.csr_matrix, neighbours: int, shrink: float, block: int = 512
) -> sparse.csr_matrix:
    """Return S transposed, sparse float32 [N, N]: column i holds the neighbours of item i.

    Args:
        interactions: X, sparse [U, N].
        neighbours: k; ties go to the lower item code.
        shrink: added to the denominator.
        block: items compared with all others at a time.
    """
    columns = interactions.tocsc()
    n_items = columns.shape[1]
    norms = np.sqrt(np.asarray(columns.multiply(columns).sum(axis=0)).ravel())
    data, rows, ends = [], [], [0]
    for start in range(0, n_items, block):
        products = (columns[:, start : start + block].T @ interactions).tocsr()
        for offset in range(products.shape[0]):
            part = slice(products.indptr[offset], products.indptr[offset + 1])
            others = products.indices[part]
            values = products.data[part] / (norms[start + offset] * norms[others] + shrink)
            values[others == start + offset] = 0
            best = np.lexsort((others, -values))[:neighbours]
            best = best[values[best] > 0]
            data.append(values[best])
            rows.append(others[best])
            ends.append(ends[-1] + len(best))
    matrix = (np.concatenate(data), np.concatenate(rows), np.array(ends))
    return sparse.csc_matrix(matrix, (n_items, n_items), dtype=np.float32).tocsr()


@dataclass(frozen=True)
class EASEConfig:
    """Options of EASE."""

    l2: PositiveFloat | None = None
    "λ on the diagonal; None stands for `relative_l2` times the observed interactions per item."
    relative_l2: PositiveFloat = 5.0
    "So that one default suits catalogues of different density."


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
        self.interactions = graph.matrix(graph.loss_weights)
        self.l2 = config.l2 or config.relative_l2 * graph.observed / graph.n_items
        gram = torch.from_numpy((self.interactions.T @ self.interactions).toarray())
        gram.diagonal().add_(self.l2)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
        self.weights = (inverse / -inverse.diagonal()).fill_diagonal_(0)

    def scores(self, users: Tensor) -> Tensor:
        """Return `X_u W` for `users` (int64 [B]), float32 [B, N]."""
        return torch.from_numpy(self.interactions[users.numpy()] @ self.weights.numpy())
