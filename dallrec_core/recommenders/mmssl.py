"""MMSSL: graph collaborative filtering with adversarial and contrastive help from the modalities.

Wei, Huang, Xia and Zhang, "Multi-modal self-supervised learning for recommendation", WWW 2023. With
LightGCN's symmetric `Ã`, ID embeddings `E` of `[U + N, d]`, and features `F^m` of modality m:

    f^m_i = F^m W_m,  x^m_u = Ã f^m,  x^m_i = Ã x^m_u              modality-aware vectors, d wide
    G^m   = for each user the T items with the largest x^m_u · x^m_i    learned modality graph
    id^m  = mean of E over the neighbours in G^m                   [U + N, d]
    h     = multi-head attention among id^1 … id^M, mean over m    [U + N, d]
    V     = mean(V_0, ÃV_0, …, Ã^K V_0),  V_0 = E + η h/‖h‖
    s_ui  = v_u · v_i,   v = V + ω Σ_m x^m/‖x^m‖

Loss: `-mean(w · log σ(s_ui - s_uj)) + λ ½ Σ‖e‖² / B + contrast · Σ_m InfoNCE(id^m_u, v_u)
+ adversary · L_G + L_D`. InfoNCE compares the modality's view of a user with the final one and
tells both from other users of the batch, at temperature τ; e are rows of E. A critic D tells the
rows "how well item i suits user u" that a modality predicts, `fake = cos(x^m_u, x^m_i)` [N], from
those that are observed, `real = softmax((A_u + gumbel) / τ_a) + ζ cos(v_u, v_i)`, each of length 1
(WGAN-GP: `L_D = D(fake) - D(real) + γ (‖∇D‖ - 1)²`, `L_G = -D(fake)`). Rows are made for a few
users per step and D starts with a narrow layer, so no dense U × N matrix exists and D has N times
`critic_width` weights: the published D would need 1.4 billion for Book-Crossing.

`G^m` has T edges per user on every catalogue; the published code takes int(N / 10,000) of them,
none on MovieLens-1M, and its contrast is then constant.
"""

from __future__ import annotations

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from dallrec_core.recommenders.base import DotProduct, Features, register
from dallrec_core.recommenders.graph import Graph
from dallrec_core.recommenders.losses import batch_l2, bpr_loss
from dallrec_core.recommenders.mmssl_parts import Critic, ModalityAttention, contrast, observed_rows
from dallrec_core.recommenders.sparse import multiply, propagate


@dataclass(frozen=True)
class MMSSLConfig:
    """Options of MMSSL."""

    dim: PositiveInt = 64
    "Width d of embeddings and of projected features."
    layers: NonNegativeInt = 2
    "Number K of propagations of the ID embeddings."
    heads: PositiveInt = 4
    "Heads of the attention among modalities; must divide `dim`."
    neighbours: PositiveInt = 10
    "T, edges per user of each learned modality graph."
    refresh: PositiveInt = 50
    "Training steps between two rebuilds of the learned graphs."
    attention_weight: NonNegativeFloat = 0.36
    "η, weight of the modalities' view of the IDs."
    feature_weight: NonNegativeFloat = 0.55
    "ω, weight of the modality-aware vectors in the final ones."
    contrast: NonNegativeFloat = 0.03
    "Weight of the contrastive loss."
    temperature: PositiveFloat = 0.5
    "τ of the contrastive loss."
    contrast_users: PositiveInt = 1024
    "Users compared with each other per step, at most."
    adversary: NonNegativeFloat = 1e-4
    "Weight of the generator's side of the adversarial loss."
    critic_users: PositiveInt = 64
    "Users whose rows the critic sees per step, at most."
    critic_width: PositiveInt = 64
    "Width of the critic's hidden layer."
    penalty: NonNegativeFloat = 0.3
    "γ, weight of the critic's gradient penalty."
    l2: NonNegativeFloat | None = None
    "λ, weight of the squared norms of the batch's ID embeddings; None derives it from `prior`."
    prior: NonNegativeFloat = 0.05
    "λ times the mean number of interactions of a user: one value suits sparse and dense data."
    init_std: PositiveFloat = 0.1
    "Standard deviation of the ID embeddings' normal initial values."

    def __post_init__(self) -> None:
        """Refuse heads of unequal width."""
        if self.dim % self.heads:
            raise ValueError(f"heads {self.heads} must divide dim {self.dim}")


@register("MMSSL", MMSSLConfig)
class MMSSL(DotProduct):
    """Multi-modal self-supervised learning; see the module for the equations."""

    uses_features = True
    cost = 12.0

    def __init__(self, graph: Graph, config: MMSSLConfig, features: Features) -> None:
        super().__init__(graph)
        self.config = config
        self.l2 = graph.penalty(config.l2, config.prior)
        size = graph.n_users + graph.n_items
        self.ids = nn.Parameter(torch.randn(size, config.dim) * config.init_std)
        self.names = sorted(features)
        self.project = nn.ModuleDict(
            {name: nn.Linear(features[name].shape[1], config.dim) for name in self.names}
        )
        self.attention = ModalityAttention(config.dim, config.heads)
        self.critic = Critic(graph.n_items, config.critic_width)
        self.adjacency = graph.normalised_adjacency()
        count = min(config.neighbours, graph.n_items)
        buffers = {f"features_{name}": features[name].float() for name in self.names}
        buffers |= {"ends": _ends(graph), "observed": graph.items, "weights": graph.weights}
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor, persistent=False)
        self.ends: Tensor
        self.observed: Tensor
        self.weights: Tensor
        # persistent: a resumed run continues with the same graphs
        self.learned: Tensor
        self.steps: Tensor
        empty = torch.zeros(len(self.names), graph.n_users, count, dtype=torch.int64)
        self.register_buffer("learned", empty)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def loss(
        self, users: Tensor, positives: Tensor, negatives: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Return the batch's BPR, contrastive and adversarial loss (arguments [B]), a scalar."""
        config = self.config
        if int(self.steps) % config.refresh == 0:
            self.rebuild_graphs()
        self.steps += 1
        modal, views, final = self._vectors()
        user_vectors, item_vectors = self._split(final)
        loss = bpr_loss(user_vectors, item_vectors, users, positives, negatives, weights)
        if self.l2:
            nodes = users, positives + self.n_users, negatives + self.n_users
            loss = loss + self.l2 * batch_l2(self.ids, *nodes)
        some = users.unique()
        some = some[torch.randperm(len(some), device=some.device)]
        if config.contrast:
            chosen = some[: config.contrast_users]
            for view in views:
                alike = contrast(view[chosen], user_vectors[chosen], config.temperature)
                loss = loss + config.contrast * alike
        if config.adversary:
            loss = loss + self._adversarial(some[: config.critic_users], modal, final)
        return loss

    def user_item_vectors(self) -> tuple[Tensor, Tensor]:
        """Return the final vectors of users [U, d] and of items [N, d]."""
        return self._split(self._vectors()[2])

    @torch.no_grad()
    def rebuild_graphs(self, block: int = 1024) -> None:
        """Choose each user's neighbours in every modality graph anew, `block` users at a time."""
        for m, vectors in enumerate(self._modal_vectors()):
            users, items = self._split(vectors)
            for start in range(0, self.n_users, block):
                scores = users[start : start + block] @ items.T
                best = scores.topk(self.learned.shape[2], dim=1).indices
                self.learned[m, start : start + block] = best

    def _split(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        return self.apart(nodes)

    def _modal_vectors(self) -> list[Tensor]:
        """Return x^m [U + N, d] of every modality."""
        result = []
        for name in self.names:
            projected = self.project[name](getattr(self, f"features_{name}"))
            nobody = projected.new_zeros(self.n_users, self.config.dim)
            users = multiply(self.adjacency, torch.cat([nobody, projected]))[: self.n_users]
            items = multiply(self.adjacency, torch.cat([users, torch.zeros_like(projected)]))[
                self.n_users :
            ]
            result.append(torch.cat([users, items]))
        return result

    def _vectors(self) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Return x^m, id^m (both by modality) and v, each [U + N, d]."""
        modal = self._modal_vectors()
        views = [self._view(chosen) for chosen in self.learned]
        mixed = functional.normalize(self.attention(torch.stack(views)))
        start = self.ids + self.config.attention_weight * mixed
        final = propagate(self.adjacency, start, self.config.layers)
        for vectors in modal:
            final = final + self.config.feature_weight * functional.normalize(vectors)
        return modal, views, final

    def _view(self, chosen: Tensor) -> Tensor:
        """Return id^m [U + N, d], from the items `chosen` by each user in G^m, int64 [U, T]."""
        users, items = self._split(self.ids)
        of_users = functional.embedding_bag(chosen, items, mode="mean")
        flat, count = chosen.flatten(), chosen.shape[1]
        who = torch.arange(self.n_users, device=flat.device).repeat_interleave(count)
        sums = torch.zeros_like(items).index_add(0, flat, users.index_select(0, who))
        degrees = torch.bincount(flat, minlength=self.n_items).clamp(min=1)[:, None]
        return torch.cat([of_users, sums / degrees])

    def _adversarial(self, users: Tensor, modal: list[Tensor], final: Tensor) -> Tensor:
        """Return `adversary · L_G + L_D` on the rows of `users` [n]."""
        with torch.no_grad():
            vectors, items = self._split(functional.normalize(final))
            real = observed_rows(
                users, vectors[users] @ items.T, (self.ends, self.observed, self.weights)
            )
        fakes = []
        for x in modal:
            vectors, items = self._split(functional.normalize(x))
            fakes.append(functional.normalize(vectors[users] @ items.T))
        fake = torch.cat(fakes)
        real = real.repeat(len(modal), 1)
        critic = self.critic.loss(fake.detach(), real, self.config.penalty)
        return critic + self.config.adversary * -self.critic.frozen(fake).mean()


def _ends(graph: Graph) -> Tensor:
    """Return where each user's edges start and end, int64 [U + 1]."""
    ends = torch.zeros(graph.n_users + 1, dtype=torch.int64)
    torch.cumsum(torch.bincount(graph.users, minlength=graph.n_users), 0, out=ends[1:])
    return ends
