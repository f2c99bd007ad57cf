"""NMF: neural matrix factorisation, a small network in place of the inner product.

After He, Liao, Zhang, Nie, Hu and Chua, "Neural collaborative filtering", WWW 2017, in the form
that DALLRec uses. With embeddings `e_u`, `e_i` of width d:

    z    = [e_u ; e_i ; e_u ⊙ e_i]             [3 d]
    s_ui = h · dropout(ReLU(W z + b))          with W of [width, 3 d]

Loss: that of MF-BPR, `-mean(w · log σ(s_ui - s_uj)) + λ · ½ Σ(‖e_u‖² + ‖e_i‖² + ‖e_j‖²) / B`.

The layer splits into three, `W z = W_u e_u + W_i e_i + W_p (e_u ⊙ e_i)`. In training the
first two are computed once per user and per item, not once per triple. In full ranking, for one
user they fold into a single matrix: with the items' embeddings as rows of `Q` of `[N, d]`,

    Q (W_i + W_p diag(e_u))ᵀ + (W_u e_u + b)   [N, width]

is one matrix product for a block of users, and no pair is sent through the network alone.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from dallrec_core.recommenders.base import EmbeddingConfig, Features, Recommender, register
from dallrec_core.recommenders.graph import Graph
from dallrec_core.recommenders.losses import batch_l2

BLOCK = 2**20
"""Hidden activations (floats) computed at a time in full ranking: 4 MiB stay in the cache."""


@dataclass(frozen=True)
class NMFConfig(EmbeddingConfig):
    """Options of NMF."""

    width: PositiveInt = 64
    "Width of the hidden layer."
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    "Share of hidden activations set to zero in training."
    prior: NonNegativeFloat = 1.0
    init_std: PositiveFloat = 0.1
    "Standard deviation of the embeddings' normal initial values."


def dropout(hidden: Tensor, share: float, training: bool) -> Tensor:
    """Set a share of `hidden` (any shape) to zero and scale the rest up, in training only.

    On a CPU `torch.nn.functional.dropout` spends most of its time on random numbers. One random
    byte per entry is a seventh of that; `share` is rounded to a multiple of 1/256.

    Args:
        hidden: float32.
        share: in [0, 1).
        training: without it `hidden` is returned as it is.
    """
    dropped = round(share * 256)
    if not training or not dropped:
        return hidden
    words = torch.empty(-(-hidden.numel() // 8), dtype=torch.int64)
    random = words.random_(-(2**63), None).view(torch.uint8)[: hidden.numel()].view(hidden.shape)
    return hidden * (random >= dropped) * (256 / (256 - dropped))


@register("NMF", NMFConfig)
class NMF(Recommender):
    """Neural matrix factorisation; see the module for the equations."""

    cost = 6.0

    def __init__(self, graph: Graph, config: NMFConfig, features: Features | None = None) -> None:
        super().__init__(graph)
        self.config = config
        self.l2 = config.l2_for(graph)
        self.users = nn.Parameter(torch.randn(graph.n_users, config.dim) * config.init_std)
        self.items = nn.Parameter(torch.randn(graph.n_items, config.dim) * config.init_std)
        self.of_user = nn.Linear(config.dim, config.width)
        self.of_item = nn.Linear(config.dim, config.width, bias=False)
        self.of_product = nn.Linear(config.dim, config.width, bias=False)
        self.output = nn.Parameter(torch.empty(config.width))
        nn.init.normal_(self.output, std=config.width**-0.5)

    def loss(
        self, users: Tensor, positives: Tensor, negatives: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Return the regularised BPR loss of a batch (all arguments [B]), a scalar."""
        user_part, item_part = self.of_user(self.users), self.of_item(self.items)
        user, shared = self.users.index_select(0, users), user_part.index_select(0, users)
        margin = torch.zeros(len(users))
        for items, sign in ((positives, 1), (negatives, -1)):
            product = user * self.items.index_select(0, items)
            hidden = self.of_product(product) + shared + item_part.index_select(0, items)
            margin = margin + sign * self.head(hidden)
        losses = functional.softplus(-margin)
        loss = (losses if weights is None else losses * weights).mean()
        if self.l2:
            penalty = batch_l2(self.users, users) + batch_l2(self.items, positives, negatives)
            loss = loss + self.l2 * penalty
        return loss

    def head(self, hidden: Tensor) -> Tensor:
        """Return the score from the layer's sums [..., width]."""
        return dropout(hidden.relu(), self.config.dropout, self.training) @ self.output

    def scores(self, users: Tensor) -> Tensor:
        """Return the scores of all items for `users` (int64 [B]), float32 [B, N]."""
        width = self.config.width
        result = self.items.new_empty(len(users), self.n_items)
        ones = self.items.new_ones(self.n_items, 1)
        items = torch.cat([self.items, ones], dim=1)  # the last column carries the user's part
        together = max(1, min(16, BLOCK // width // 64))
        rows = max(1, BLOCK // width // together)
        for start in range(0, len(users), together):
            folded = self.fold(self.users[users[start : start + together]])  # [d + 1, b * width]
            for first in range(0, self.n_items, rows):
                hidden = (items[first : first + rows] @ folded).view(-1, width)
                scores = self.head(hidden).view(-1, folded.shape[1] // width)
                result[start : start + together, first : first + rows] = scores.T
        return result

    def fold(self, user: Tensor) -> Tensor:
        """Return the layer for users `user` [b, d], as a matrix [d + 1, b * width]."""
        weight = self.of_item.weight + self.of_product.weight * user[:, None]  # [b, width, d]
        bias = self.of_user(user)[..., None]
        return torch.cat([weight, bias], dim=2).flatten(0, 1).T
