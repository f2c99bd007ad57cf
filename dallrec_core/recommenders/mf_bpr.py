"""MF-BPR: matrix factorisation trained to rank.

Rendle, Freudenthaler, Gantner and Schmidt-Thieme, "BPR: Bayesian personalized ranking from
implicit feedback", UAI 2009. The first backbone of the DALLRec paper.

Score of item i for user u, with embeddings `e_u` of `[U, d]` and `e_i` of `[N, d]`:

    s_ui = e_u · e_i

Loss over a batch of B triples (user u, item i the user has, item j the user has not):

    L = -mean(w · log σ(s_ui - s_uj)) + λ · ½ Σ(‖e_u‖² + ‖e_i‖² + ‖e_j‖²) / B
"""

from __future__ import annotations

import torch
from pydantic import NonNegativeFloat
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from dallrec_core.recommenders.base import DotProduct, EmbeddingConfig, Features, register
from dallrec_core.recommenders.graph import Graph
from dallrec_core.recommenders.losses import bpr_loss


@dataclass(frozen=True)
class MFConfig(EmbeddingConfig):
    """Options of MF-BPR."""

    prior: NonNegativeFloat = 1.0


@register("MF-BPR", MFConfig)
class MFBPR(DotProduct):
    """Matrix factorisation with the BPR loss; see the module for the equations."""

    def __init__(self, graph: Graph, config: MFConfig, features: Features | None = None) -> None:
        super().__init__(graph)
        self.l2 = config.l2_for(graph)
        self.users = nn.Parameter(torch.empty(graph.n_users, config.dim))
        self.items = nn.Parameter(torch.empty(graph.n_items, config.dim))
        nn.init.xavier_uniform_(self.users)
        nn.init.xavier_uniform_(self.items)

    def loss(
        self, users: Tensor, positives: Tensor, negatives: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Return the regularised BPR loss of a batch (all arguments [B]), a scalar."""
        return bpr_loss(self.users, self.items, users, positives, negatives, weights, self.l2)

    def user_item_vectors(self) -> tuple[Tensor, Tensor]:
        """Return the embeddings of users [U, d] and of items [N, d]."""
        return self.users, self.items
