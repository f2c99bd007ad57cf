"""LightGCN: matrix factorisation whose embeddings are smoothed over the interaction graph.

He, Deng, Wang, Li, Zhang and Wang, "LightGCN: simplifying and powering graph convolution network
for recommendation", SIGIR 2020. With ego embeddings `E_0` of `[U + N, d]` (users first) and the
adjacency `A` of the bipartite graph with degrees `D`:

    Â   = D^-½ A D^-½                       [U + N, U + N], sparse
    E_k = Â E_(k-1),   k = 1 … K
    E   = (E_0 + E_1 + … + E_K) / (K + 1)   [U + N, d]
    s_ui = E[u] · E[U + i]

The loss is that of MF-BPR on `E`, with the L2 penalty on the ego embeddings `E_0`.

Every step propagates over the whole graph, forwards and backwards, whatever the batch; so large
batches are the way to train it quickly.
"""

from __future__ import annotations

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from dallrec_core.recommenders.base import DotProduct, EmbeddingConfig, Features, register
from dallrec_core.recommenders.graph import Graph
from dallrec_core.recommenders.losses import batch_l2, bpr_loss
from dallrec_core.recommenders.sparse import propagate


@dataclass(frozen=True)
class LightGCNConfig(EmbeddingConfig):
    """Options of LightGCN."""

    layers: NonNegativeInt = 3
    "Number K of propagations; 0 is plain matrix factorisation."
    prior: NonNegativeFloat = 0.12
    init_std: PositiveFloat = 0.1
    "Standard deviation of the ego embeddings' normal initial values."


@register("LightGCN", LightGCNConfig)
class LightGCN(DotProduct):
    """Light graph convolution; see the module for the equations."""

    cost = 5.0

    def __init__(
        self, graph: Graph, config: LightGCNConfig, features: Features | None = None
    ) -> None:
        super().__init__(graph)
        self.config = config
        self.l2 = config.l2_for(graph)
        self.ego = nn.Parameter(torch.empty(graph.n_users + graph.n_items, config.dim))
        nn.init.normal_(self.ego, std=config.init_std)
        self.adjacency = graph.normalised_adjacency()

    def loss(
        self, users: Tensor, positives: Tensor, negatives: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Return the regularised BPR loss of a batch (all arguments [B]), a scalar."""
        vectors = self.user_item_vectors()
        loss = bpr_loss(*vectors, users, positives, negatives, weights)
        if self.l2:
            nodes = positives + self.n_users, negatives + self.n_users
            loss = loss + self.l2 * batch_l2(self.ego, users, *nodes)
        return loss

    def user_item_vectors(self) -> tuple[Tensor, Tensor]:
        """Return the propagated vectors of users [U, d] and of items [N, d]."""
        return self.split(propagate(self.adjacency, self.ego, self.config.layers))
