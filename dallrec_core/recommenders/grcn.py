"""GRCN: a graph that is refined by what users are found to prefer.

Wei, Wang, Nie, He and Chua, "Graph-refined convolutional network for multimedia recommendation with
implicit feedback", ACM Multimedia 2020. For each modality m, with features `F^m`, the rows of
`f = φ(F^m W_m + b_m)` and of the trainable preferences `p` scaled to length 1:

    p_u ← norm(p_u + Σ_{i ∈ N(u)} softmax_i(p_u · f_i) f_i),    R times    preference routing
    α_uv = softmax over the neighbours v of u of (x_u · x_v),   x = [p ; f]
    rep^m = x + Σ_v α_uv x_v                                    [U + N, d]

An edge weighs what the modality that explains it best gives it. With trainable confidences `c` of
`[U + N, M]`, which start between 0 and 1:

    w_(v → u) = ReLU(max_m α^m_uv c_(v, m))
    id_0 = rows of ID scaled to length 1,   id_k = Σ_v w_(v → u) id_(k-1),  k = 1 … K
    E    = [id_0 + … + id_K ; rep^1 ; … ; rep^M]                [U + N, (1 + M) d]
    s_ui = E[u] · E[U + i]

As α is positive, the ReLU prunes all edges from a node whose confidences are all negative, and then
no gradient reaches these. The published start, around zero, silences a quarter of the nodes so with
two modalities; from this one hardly a confidence falls below zero, and nothing is pruned.

Loss: `-mean(w · log σ(s_ui - s_uj)) + λ · ½ Σ over the batch's nodes of (‖ID‖² + c ‖E‖²) / B + the
same for the preferences of its users`, with c = `final_weight`, ours. The routing works towards the
users; in the published code it sums at the items and changes nothing. A softmax weighs each
neighbour by its edge.
"""

from __future__ import annotations

import torch
from pydantic import NonNegativeFloat, NonNegativeInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from dallrec_core.recommenders.base import Features, GraphConfig, GraphModel, register
from dallrec_core.recommenders.graph import Graph
from dallrec_core.recommenders.sparse import Bipartite


@dataclass(frozen=True)
class GRCNConfig(GraphConfig):
    """Options of GRCN."""

    routings: NonNegativeInt = 3
    "Number R of routing iterations."
    layers: NonNegativeInt = 2
    "Number K of propagations of the ID embeddings."
    prior: NonNegativeFloat = 0.05
    final_weight: NonNegativeFloat = 0.0
    "c, weight of the final vectors' norms: what is scaled to length 1 escapes the other penalty."


class Modality(nn.Module):
    """What one modality says about users and items."""

    def __init__(self, graph: Graph, features: Tensor, config: GRCNConfig) -> None:
        super().__init__()
        self.features = features.float()
        self.routings = config.routings
        self.preferences = nn.Parameter(torch.randn(graph.n_users, config.dim) * config.init_std)
        self.project = nn.Linear(features.shape[1], config.dim)

    def forward(self, edges: Bipartite) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return rep of users [U, d] and items [N, d], and α towards users and items, both [E]."""
        items = functional.normalize(functional.leaky_relu(self.project(self.features)))
        users = functional.normalize(self.preferences)
        for _ in range(self.routings):
            attention = edges.softmax_over_items(edges.dots(users, items))
            users = functional.normalize(users + edges.to_users(attention, items))
        alike = edges.dots(users, items)
        to_users, to_items = edges.softmax_over_items(alike), edges.softmax_over_users(alike)
        user_vectors = users + edges.to_users(to_users, items)
        return user_vectors, items + edges.to_items(to_items, users), to_users, to_items


@register("GRCN", GRCNConfig)
class GRCN(GraphModel):
    """Graph-refined convolution; see the module for the equations."""

    uses_features = True
    cost = 20.0

    def __init__(self, graph: Graph, config: GRCNConfig, features: Features) -> None:
        super().__init__(graph, config)
        self.config = config
        self.final_l2 = config.final_weight * self.l2
        self.confidence = nn.Parameter(torch.rand(len(self.ids), len(features)))
        self.modalities = nn.ModuleDict(
            {name: Modality(graph, matrix, config) for name, matrix in sorted(features.items())}
        )
        self.edges = graph.bipartite()

    def user_item_vectors(self) -> tuple[Tensor, Tensor]:
        """Return the vectors of users [U, (1 + M) d] and of items [N, (1 + M) d]."""
        modal = [network(self.edges) for network in self.modalities.values()]
        user_parts, item_parts, attention_to_users, attention_to_items = zip(*modal, strict=True)
        to_users, to_items = self.refined_edges(attention_to_users, attention_to_items)
        users, items = self.split(functional.normalize(self.ids))
        all_users, all_items = users, items
        for _ in range(self.config.layers):
            heard = self.edges.to_users(to_users, items), self.edges.to_items(to_items, users)
            users, items = heard
            all_users, all_items = all_users + users, all_items + items
        user_vectors = torch.cat([all_users, *user_parts], dim=1)
        return user_vectors, torch.cat([all_items, *item_parts], dim=1)

    def refined_edges(
        self, to_users: tuple[Tensor, ...], to_items: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor]:
        """Return the weights w of the edges towards users and towards items, both [E].

        Args:
            to_users: attention α^m towards users for each modality, each [E].
            to_items: attention α^m towards items for each modality, each [E].
        """
        of_users, of_items = self.split(self.confidence)
        from_items = torch.stack(to_users, dim=1) * of_items.index_select(0, self.edges.items)
        from_users = torch.stack(to_items, dim=1) * of_users.index_select(0, self.edges.users)
        return from_items.amax(dim=1).relu(), from_users.amax(dim=1).relu()
