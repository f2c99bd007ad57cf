"""LightGCN: matrix factorisation whose embeddings are smoothed over the interaction graph.

He, Deng, Wang, Li, Zhang and Wang, "LightGCN: simplifying and powering graph convolution network
for recommendation", SIGIR 2020. With ID embeddings `E_0` of `[U + N, d]` (users first) and the
adjacency `A` of the bipartite graph with degrees `D`:

    Â   = D^-½ A D^-½                       [U + N, U + N], sparse
    E_k = Â E_(k-1),   k = 1 … K
    E   = (E_0 + E_1 + … + E_K) / (K + 1)   [U + N, d]
    s_ui = E[u] · E[U + i]

The loss is that of MF-BPR on `E`, with the L2 penalty on the ID embeddings `E_0`.

Every step propagates over the whole graph, forwards and backwards, whatever the batch; so large
batches are the way to train it quickly.
"""

from __future__ import annotations

from pydantic import NonNegativeFloat, NonNegativeInt
from pydantic.dataclasses import dataclass
from torch import Tensor

from dallrec_core.recommenders.base import Features, GraphConfig, GraphModel, register
from dallrec_core.recommenders.graph import Graph
from dallrec_core.recommenders.sparse import propagate


@dataclass(frozen=True)
class LightGCNConfig(GraphConfig):
    """Options of LightGCN."""

    layers: NonNegativeInt = 3
    "Number K of propagations; 0 is plain matrix factorisation."
    prior: NonNegativeFloat = 0.12


@register("LightGCN", LightGCNConfig)
class LightGCN(GraphModel):
    """Light graph convolution; see the module for the equations."""

    cost = 5.0

    def __init__(
        self, graph: Graph, config: LightGCNConfig, features: Features | None = None
    ) -> None:
        super().__init__(graph, config)
        self.config = config
        self.adjacency = graph.normalised_adjacency()

    def user_item_vectors(self) -> tuple[Tensor, Tensor]:
        """Return the propagated vectors of users [U, d] and of items [N, d]."""
        return self.split(propagate(self.adjacency, self.ids, self.config.layers))
