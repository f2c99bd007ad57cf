"""NGCF: neural graph collaborative filtering.

Wang, He, Wang, Feng and Chua, "Neural graph collaborative filtering", SIGIR 2019. With ID
embeddings `E_0` of `[U + N, d]` (users first) and the adjacency `A` of the bipartite graph, every
node joined to itself:

    Â   = D^-½ (A + I) D^-½                                  [U + N, U + N], sparse
    S   = Â E_(k-1)
    E_k = dropout(φ(S W_k + b_k) + φ((E_(k-1) ⊙ S) V_k + c_k)),   k = 1 … K, φ = LeakyReLU(.2)
    E   = [E_0 ; E_1/‖E_1‖ ; … ; E_K/‖E_K‖]                  [U + N, (K + 1) d], rows normalised
    s_ui = E[u] · E[U + i]

The loss is that of MF-BPR on `E`, penalty included. `Â` is part of the model and never stored
beside the data, so it always belongs to the edges it was built from.

As in LightGCN each step passes messages over the whole graph, so large batches train it quickly.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from dallrec_core.recommenders.base import Features, GraphConfig, GraphModel, register
from dallrec_core.recommenders.graph import Graph
from dallrec_core.recommenders.sparse import multiply


@dataclass(frozen=True)
class NGCFConfig(GraphConfig):
    """Options of NGCF."""

    layers: PositiveInt = 2
    "Number K of layers."
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    "Share of each layer's activations set to zero in training."
    prior: NonNegativeFloat = 0.12


@register("NGCF", NGCFConfig)
class NGCF(GraphModel):
    """Neural graph collaborative filtering; see the module for the equations."""

    cost = 7.0

    def __init__(self, graph: Graph, config: NGCFConfig, features: Features | None = None) -> None:
        super().__init__(graph, config)
        self.final_l2, self.l2 = self.l2, 0.0  # the whole penalty is on the final vectors
        self.config = config
        self.activation = nn.LeakyReLU(0.2)
        shapes = [(config.dim, config.dim)] * config.layers
        self.of_sum = nn.ModuleList(nn.Linear(*shape) for shape in shapes)
        self.of_product = nn.ModuleList(nn.Linear(*shape) for shape in shapes)
        # Â X = share ⊙ Ã (share ⊙ X) + itself ⊙ X, with LightGCN's Ã = D^-½ A D^-½
        degrees = graph.degrees[:, None]
        self.adjacency = graph.normalised_adjacency()
        self.itself = 1 / (degrees + 1)
        self.share = (degrees / (degrees + 1)).sqrt()

    def user_item_vectors(self) -> tuple[Tensor, Tensor]:
        """Return the vectors of users [U, (K + 1) d] and of items [N, (K + 1) d]."""
        layer: Tensor = self.ids
        vectors = [layer]
        for of_sum, of_product in zip(self.of_sum, self.of_product, strict=True):
            neighbours = multiply(self.adjacency, self.share * layer)
            received = self.share * neighbours + self.itself * layer
            alike = self.activation(of_product(layer * received))
            layer = self.activation(of_sum(received)) + alike
            layer = functional.dropout(layer, self.config.dropout, self.training)
            vectors.append(functional.normalize(layer))
        return self.split(torch.cat(vectors, dim=1))
