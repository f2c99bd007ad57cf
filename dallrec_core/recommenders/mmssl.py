"""MMSSL: graph collaborative filtering with adversarial and contrastive help from the modalities.

Wei, Huang, Xia and Zhang, "Multi-modal self-supervised learning for recommendation", WWW 2023. With
LightGCN's symmetric `Ã`, ID embeddings `E` of `[U + N, d]`, and features `F^m` of modality m:

    f^m_i = F^m W_m + b_m,  x^m_u = Ã f^m,  x^m_i = Ã x^m_u     modality-aware vectors, d wide
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
from torch.func import functional_call
from torch.nn import functional

from dallrec_core.recommenders.base import Features, GraphConfig, GraphModel, register
from dallrec_core.recommenders.graph import Graph
from dallrec_core.recommenders.losses import bpr_loss, contrast
from dallrec_core.recommenders.sparse import multiply, propagate

NOISE_TEMPERATURE = 0.5
"""τ_a of the softened observed rows."""
SIMILARITY_WEIGHT = 1.0
"""ζ, weight of the recommender's own similarity in the observed rows."""


@dataclass(frozen=True)
class MMSSLConfig(GraphConfig):
    """Options of MMSSL."""

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
    prior: NonNegativeFloat = 0.05

    def __post_init__(self) -> None:
        """Refuse heads of unequal width."""
        if self.dim % self.heads:
            raise ValueError(f"heads {self.heads} must divide dim {self.dim}")


class ModalityAttention(nn.Module):
    """Multi-head attention of each node among its M modality views.

    Args:
        dim: width of a view, d.
        heads: number of heads, a divisor of d.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)

    def forward(self, views: Tensor) -> Tensor:
        """Return the attended views' mean over modalities [n, d], from `views` [M, n, d]."""
        shape = self.heads, views.shape[2] // self.heads
        heads = (x.unflatten(2, shape) for x in (self.query(views), self.key(views), views))
        query, key, value = heads
        scores = (query[:, None] * key).sum(dim=-1) / shape[1] ** 0.5  # [M, M, n, heads]
        weights = scores.softmax(dim=1).mean(dim=0)
        return (weights[..., None] * value).sum(dim=0).flatten(1)


class Critic(nn.Module):
    """A Wasserstein critic of rows [n, N] with gradient penalty.

    Gulrajani et al., "Improved training of Wasserstein GANs", NIPS 2017. It has no batch
    normalisation, because the penalty is on the gradient of each row by itself.

    Args:
        n_items: number of items, N.
        width: of the hidden layers.
    """

    def __init__(self, n_items: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_items, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, max(1, width // 2)),
            nn.LeakyReLU(0.2),
            nn.Linear(max(1, width // 2), 1, bias=False),  # a constant would cancel
        )

    def forward(self, rows: Tensor) -> Tensor:
        """Return the critic's value of each row [n]."""
        values: Tensor = self.layers(rows)
        return values[:, 0]

    def frozen(self, rows: Tensor) -> Tensor:
        """Return the values [n] with gradients for the rows only, not for the critic's weights."""
        weights = {name: weight.detach() for name, weight in self.named_parameters()}
        values: Tensor = functional_call(self, weights, (rows,))
        return values

    def loss(self, fake: Tensor, real: Tensor, penalty: float) -> Tensor:
        """Return `D(fake) - D(real) + penalty · (‖∇D(mix)‖ - 1)²`, averaged over rows [n, N]."""
        share = torch.rand(len(fake), 1)
        mix = (share * real + (1 - share) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(self(mix).sum(), mix, create_graph=True)
        smooth = (torch.linalg.vector_norm(slope, dim=1) - 1).square().mean()
        return self(fake).mean() - self(real).mean() + penalty * smooth


@register("MMSSL", MMSSLConfig)
class MMSSL(GraphModel):
    """Multi-modal self-supervised learning; see the module for the equations."""

    uses_features = True
    cost = 12.0

    def __init__(self, graph: Graph, config: MMSSLConfig, features: Features) -> None:
        super().__init__(graph, config)
        self.config = config
        self.names = sorted(features)
        self.project = nn.ModuleDict(
            {name: nn.Linear(features[name].shape[1], config.dim) for name in self.names}
        )
        self.attention = ModalityAttention(config.dim, config.heads)
        self.critic = Critic(graph.n_items, config.critic_width)
        self.observed = graph.matrix(graph.weights)
        self.adjacency = graph.normalised_adjacency()
        self.features = {name: features[name].float() for name in self.names}
        # persistent: the best weights are kept with the graphs that they were trained on
        self.learned: Tensor
        self.steps: Tensor
        shape = len(self.names), graph.n_users, min(config.neighbours, graph.n_items)
        self.register_buffer("learned", torch.zeros(shape, dtype=torch.int64))
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
        user_vectors, item_vectors = self.split(final)
        batch = users, positives, negatives
        loss = bpr_loss(user_vectors, item_vectors, *batch, weights) + self.penalty(*batch)
        some = users.unique()
        some = some[torch.randperm(len(some))]
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
        return self.split(self._vectors()[2])

    @torch.no_grad()
    def rebuild_graphs(self, block: int = 1024) -> None:
        """Choose each user's neighbours in every modality graph anew, `block` users at a time."""
        for m, vectors in enumerate(self._modal_vectors()):
            users, items = self.split(vectors)
            for start in range(0, self.n_users, block):
                scores = users[start : start + block] @ items.T
                best = scores.topk(self.learned.shape[2], dim=1).indices
                self.learned[m, start : start + block] = best

    def _modal_vectors(self) -> list[Tensor]:
        """Return x^m [U + N, d] of every modality."""
        result, nobody = [], torch.zeros(self.n_users, self.config.dim)
        for name in self.names:
            items = torch.cat([nobody, self.project[name](self.features[name])])
            users = multiply(self.adjacency, items)  # its other rows are zero
            result.append(users + multiply(self.adjacency, users))
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
        users, items = self.split(self.ids)
        of_users = functional.embedding_bag(chosen, items, mode="mean")
        flat, count = chosen.flatten(), chosen.shape[1]
        who = torch.arange(self.n_users).repeat_interleave(count)
        sums = torch.zeros_like(items).index_add(0, flat, users.index_select(0, who))
        degrees = torch.bincount(flat, minlength=self.n_items).clamp(min=1)[:, None]
        return torch.cat([of_users, sums / degrees])

    def _adversarial(self, users: Tensor, modal: list[Tensor], final: Tensor) -> Tensor:
        """Return `adversary · L_G + L_D` on the rows of `users` [n]."""
        with torch.no_grad():
            rows = torch.from_numpy(self.observed[users.numpy()].toarray())
            noise = -torch.empty_like(rows).exponential_().log()
            soft = ((rows + noise) / NOISE_TEMPERATURE).softmax(dim=1)
            similarity = SIMILARITY_WEIGHT * self._cosines(users, final)
            real = functional.normalize(soft + similarity).repeat(len(modal), 1)
        fake = torch.cat([functional.normalize(self._cosines(users, x)) for x in modal])
        critic = self.critic.loss(fake.detach(), real, self.config.penalty)
        return critic + self.config.adversary * -self.critic.frozen(fake).mean()

    def _cosines(self, users: Tensor, nodes: Tensor) -> Tensor:
        """Return the cosine of each of `users` [n] with every item [n, N], from `nodes`."""
        vectors, items = self.split(functional.normalize(nodes))
        return vectors[users] @ items.T
