"""MMGCN: one graph network per modality, joined by a shared ID embedding.

Wei, Wang, Nie, He, Hong and Chua, "MMGCN: multi-modal graph convolution network for personalized
recommendation of micro-video", ACM Multimedia 2019. For each modality m with features `F^m` of
`[N, width]`, trainable user preferences `P^m` of `[U, d]` and ID embeddings `ID` of `[U + N, d]`
that all modalities share:

    X_0 = [P^m ; F^m W_m + b_m]                                 [U + N, d]
    H   = φ(mean over neighbours j of (X_(l-1) W_l)_j)          aggregation
    X̂   = φ(X_(l-1) U_l + a_l) + ID                             combination
    X_l = φ(H G_l + g_l + X̂),   l = 1 … L, φ = LeakyReLU
    E   = mean over m of X_L^m,   s_ui = E[u] · E[U + i]

Loss: `-mean(w · log σ(s_ui - s_uj)) + λ · ½ Σ over the batch's nodes of (‖ID‖² + c ‖E‖²) / B + the
same for P^m of its users`, with c = `final_weight`. `ID` and `P^m` are parameters here; in the
published code neither is ever trained, and the rows of X_0 are scaled to length 1, which would take
the penalty on `P^m` its effect. `H` and `X̂` are added, the paper's one way of two; the published
code joins them side by side. A mean over neighbours weighs each by its edge.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from dallrec_core.recommenders.base import Features, GraphConfig, GraphModel, register
from dallrec_core.recommenders.graph import Graph
from dallrec_core.recommenders.sparse import multiply


@dataclass(frozen=True)
class MMGCNConfig(GraphConfig):
    """Options of MMGCN."""

    layers: PositiveInt = 2
    "Number L of layers."
    slope: Annotated[float, Field(ge=0, le=1)] = 0.8
    "Slope of φ below zero; .01 in the published code, where less bending validates better here."
    final_weight: NonNegativeFloat = 5.0
    "c, weight of the final vectors' norms: without it the unpenalised layers overfit."


class Modality(nn.Module):
    """The network of one modality."""

    def __init__(self, graph: Graph, features: Tensor, config: MMGCNConfig) -> None:
        super().__init__()
        d, count = config.dim, config.layers
        self.features = features.float()
        self.preferences = nn.Parameter(torch.randn(graph.n_users, d) * config.init_std)
        self.project = nn.Linear(features.shape[1], d)
        self.neighbours = nn.ModuleList(nn.Linear(d, d, bias=False) for _ in range(count))
        self.itself = nn.ModuleList(nn.Linear(d, d) for _ in range(count))
        self.join = nn.ModuleList(nn.Linear(d, d) for _ in range(count))
        self.activation = nn.LeakyReLU(config.slope)

    def forward(self, ids: Tensor, adjacency: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """Return X_L [U + N, d]; `left ⊙ (adjacency (right ⊙ X))` is the mean over neighbours."""
        layer = torch.cat([self.preferences, self.project(self.features)])
        for neighbours, itself, join in zip(self.neighbours, self.itself, self.join, strict=True):
            mean = left * multiply(adjacency, right * neighbours(layer))
            heard = self.activation(mean)
            mixed = self.activation(itself(layer)) + ids
            layer = self.activation(join(heard) + mixed)
        return layer


@register("MMGCN", MMGCNConfig)
class MMGCN(GraphModel):
    """Multi-modal graph convolution; see the module for the equations."""

    uses_features = True
    cost = 14.0

    def __init__(self, graph: Graph, config: MMGCNConfig, features: Features) -> None:
        super().__init__(graph, config)
        self.config = config
        self.final_l2 = config.final_weight * self.l2
        self.modalities = nn.ModuleDict(
            {name: Modality(graph, matrix, config) for name, matrix in sorted(features.items())}
        )
        # D^-1 A = D^-½ Ã D^½ with LightGCN's symmetric Ã
        degrees = graph.degrees[:, None]
        self.adjacency = graph.normalised_adjacency()
        self.left = degrees.rsqrt().nan_to_num(posinf=0.0)
        self.right = degrees.sqrt()

    def user_item_vectors(self) -> tuple[Tensor, Tensor]:
        """Return the mean over modalities of the vectors of users [U, d] and of items [N, d]."""
        graph = self.adjacency, self.left, self.right
        vectors = [network(self.ids, *graph) for network in self.modalities.values()]
        return self.split(torch.stack(vectors).mean(dim=0))
