"""ItemKNN: recommend what resembles the user's items.

Sarwar, Karypis, Konstan and Riedl, "Item-based collaborative filtering recommendation algorithms",
WWW 2001, for implicit feedback. With the columns `x_i` of the interaction matrix `X` of `[U, N]`:

    S_ij = x_i · x_j / (‖x_i‖ ‖x_j‖ + shrink),  S_ii = 0,  kept for the k largest j of each item i
    s_ui = Σ over the user's items j of w_uj S_ij

A reference without training. Everything stays sparse, so large catalogues fit.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import NonNegativeFloat, PositiveInt
from pydantic.dataclasses import dataclass
from scipy import sparse
from torch import Tensor

from dallrec_core.recommenders.base import Features, Recommender, register
from dallrec_core.recommenders.graph import Graph


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
        entries = graph.loss_weights.numpy(), (graph.users.numpy(), graph.items.numpy())
        self.interactions = sparse.csr_matrix(entries, (graph.n_users, graph.n_items))
        self.similarity = similar_items(self.interactions, config.neighbours, config.shrink)
        self.neighbours: Tensor
        "Neighbours of each item, int64 [N]."
        counts = np.diff(self.similarity.tocsc().indptr).astype(np.int64)
        self.register_buffer("neighbours", torch.from_numpy(counts))

    def scores(self, users: Tensor) -> Tensor:
        """Return the summed similarities of all items for `users` (int64 [B]), float32 [B, N]."""
        rows = self.interactions[users.cpu().numpy()] @ self.similarity
        return torch.from_numpy(rows.toarray()).to(users.device)


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
