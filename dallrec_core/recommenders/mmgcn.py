"""MMGCN: one graph network per modality, joined by a shared ID embedding.

Wei, Wang, Nie, He, Hong and Chua, "MMGCN: multi-modal graph convolution network for personalized
recommendation of micro-video", ACM Multimedia 2019. For each modality m with features `F^m` of
`[N, width]`, trainable user preferences `P^m` of `[U, d]` and ID embeddings `ID` of `[U + N, d]`
that all modalities share:

    X_0 = [P^m ; F^m W_m + b_m]                                 [U + N, d]
    H   = φ(mean over neighbours j of (X_(l-1) W_l)_j)          aggregation
    X̂   = φ(X_(l-1) U_l + a_l) + ID                             combination
    X_l = φ(H G_l + g_l + X̂),   l = 1 … L, φ = LeakyReLU        `combine="add"`, element by element
    X_l = φ([H ; X̂] G_l + g_l)                                  `combine="concat"`
    E   = mean over m of X_L^m,   s_ui = E[u] · E[U + i]

Loss: `-mean(w · log σ(s_ui - s_uj)) + λ · ½ Σ over the batch's nodes of (‖ID‖² + c ‖E‖²) / B + the
same for P^m of its users`, with c = `final_weight`. `ID` and `P^m` are parameters here; in the
published code neither is ever trained, and the rows of X_0 are scaled to length 1, which would take
the penalty on `P^m` its effect. A mean over neighbours weighs each by its edge.
"""

from __future__ import annotations

from typing import Annotated, Literal, cast

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from dallrec_core.recommenders.base import DotProduct, Features, register
from dallrec_core.recommenders.graph import Graph
from dallrec_core.recommenders.losses import batch_l2, bpr_loss
from dallrec_core.recommenders.sparse import Adjacency, multiply


@dataclass(frozen=True)
class MMGCNConfig:
    """Options of MMGCN."""

    dim: PositiveInt = 64
    "Width d of embeddings, preferences and layers."
    layers: PositiveInt = 2
    "Number L of layers."
    combine: Literal["add", "concat"] = "add"
    "The two ways of the paper: how what is heard from neighbours joins a node's own."
    slope: Annotated[float, Field(ge=0, le=1)] = 0.8
    "Slope of φ below zero."
    l2: NonNegativeFloat | None = None
    "λ, weight of the squared norms; None derives it from `prior`."
    prior: NonNegativeFloat = 0.1
    "λ times the mean number of interactions of a user: one value suits sparse and dense data."
    final_weight: NonNegativeFloat = 5.0
    "c, weight of the final vectors' norms: without it the unpenalised layers overfit."
    init_std: PositiveFloat = 0.1
    "Standard deviation of the normal initial values of ID embeddings and preferences."


class _Modality(nn.Module):
    """The network of one modality."""

    def __init__(self, graph: Graph, features: Tensor, config: MMGCNConfig) -> None:
        super().__init__()
        d = config.dim
        self.features: Tensor
        self.register_buffer("features", features.float(), persistent=False)
        self.preferences = nn.Parameter(torch.randn(graph.n_users, d) * config.init_std)
        self.project = nn.Linear(features.shape[1], d)
        self.heard = nn.ModuleList(nn.Linear(d, d, bias=False) for _ in range(config.layers))
        self.own = nn.ModuleList(nn.Linear(d, d) for _ in range(config.layers))
        self.config = config
        width = d if config.combine == "add" else 2 * d
        self.join = nn.ModuleList(nn.Linear(width, d) for _ in range(config.layers))

    def forward(self, ids: Tensor, adjacency: Adjacency, left: Tensor, right: Tensor) -> Tensor:
        """Return X_L [U + N, d]; `left ⊙ (adjacency (right ⊙ X))` is the mean over neighbours."""
        layer = torch.cat([self.preferences, self.project(self.features)])
        for heard, own, join in zip(self.heard, self.own, self.join, strict=True):
            mean = self._bend(left * multiply(adjacency, right * heard(layer)))
            mixed = self._bend(own(layer)) + ids
            if self.config.combine == "add":
                layer = self._bend(join(mean) + mixed)
            else:
                layer = self._bend(join(torch.cat([mean, mixed], dim=1)))
        return layer

    def _bend(self, x: Tensor) -> Tensor:
        return functional.leaky_relu(x, self.config.slope)


@register("MMGCN", MMGCNConfig)
class MMGCN(DotProduct):
    """Multi-modal graph convolution; see the module for the equations."""

    uses_features = True
    cost = 14.0

    def __init__(self, graph: Graph, config: MMGCNConfig, features: Features) -> None:
        super().__init__(graph)
        self.config = config
        self.l2 = graph.penalty(config.l2, config.prior)
        size = graph.n_users + graph.n_items
        self.ids = nn.Parameter(torch.randn(size, config.dim) * config.init_std)
        self.modalities = nn.ModuleDict(
            {name: _Modality(graph, matrix, config) for name, matrix in sorted(features.items())}
        )
        # D^-1 A = D^-½ Ã D^½ with LightGCN's symmetric Ã
        degrees = torch.cat([graph.user_degrees, graph.item_degrees])[:, None]
        self.left: Tensor
        self.right: Tensor
        self.adjacency = graph.normalised_adjacency()
        self.register_buffer("left", degrees.rsqrt().nan_to_num(posinf=0.0), persistent=False)
        self.register_buffer("right", degrees.sqrt(), persistent=False)

    @property
    def parts(self) -> list[_Modality]:
        """Return the networks of the modalities, in alphabetical order."""
        return cast("list[_Modality]", list(self.modalities.values()))

    def loss(
        self, users: Tensor, positives: Tensor, negatives: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Return the regularised BPR loss of a batch (all arguments [B]), a scalar."""
        final = self.config.final_weight * self.l2
        loss = bpr_loss(*self.user_item_vectors(), users, positives, negatives, weights, final)
        if self.l2:
            nodes = users, positives + self.n_users, negatives + self.n_users
            penalty = batch_l2(self.ids, *nodes)
            for part in self.parts:
                penalty = penalty + batch_l2(part.preferences, users)
            loss = loss + self.l2 * penalty
        return loss

    def user_item_vectors(self) -> tuple[Tensor, Tensor]:
        """Return the mean over modalities of the vectors of users [U, d] and of items [N, d]."""
        graph = self.adjacency, self.left, self.right
        vectors = [part(self.ids, *graph) for part in self.parts]
        mean = torch.stack(vectors).mean(dim=0)
        return self.apart(mean)
