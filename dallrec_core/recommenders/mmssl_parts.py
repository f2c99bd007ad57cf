"""The parts of MMSSL that are models of their own: attention, contrast, and the critic."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

NOISE_TEMPERATURE = 0.5
"""τ_a of the softened observed rows."""
SIMILARITY_WEIGHT = 1.0
"""ζ, weight of the recommender's own similarity in the observed rows."""


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
        parts, size, dim = views.shape
        shape = parts, size, self.heads, dim // self.heads
        query, key, value = (x.view(shape) for x in (self.query(views), self.key(views), views))
        total = torch.zeros_like(value[0])
        for one in query:  # M is small: a sum per pair of modalities is cheaper than a batched GEMM
            scores = torch.stack([(one * other).sum(-1) for other in key])
            weights = (scores / (dim // self.heads) ** 0.5).softmax(dim=0)
            for weight, other in zip(weights, value, strict=True):
                total = total + weight[..., None] * other
        return total.flatten(1) / parts


def contrast(view: Tensor, final: Tensor, temperature: float) -> Tensor:
    """Return the InfoNCE loss of two views of the same n users, both [n, d], a scalar.

    A user's two views are the positive pair; the other users in both views are the negatives.
    """
    view, final = functional.normalize(view), functional.normalize(final)
    across = view @ final.T / temperature
    within = view @ view.T / temperature
    itself = torch.eye(len(view), dtype=torch.bool, device=view.device)
    within = within.masked_fill(itself, -torch.inf)
    return (torch.cat([across, within], dim=1).logsumexp(dim=1) - across.diagonal()).mean()


def observed_rows(
    users: Tensor, similarity: Tensor, edges: tuple[Tensor, Tensor, Tensor]
) -> Tensor:
    """Return `real` of the module `mmssl`, rows of length 1 [n, N].

    Args:
        users: int64 [n].
        similarity: cosine of each user with every item [n, N].
        edges: where each user's edges start and end, int64 [U + 1], their items and weights, [E].
    """
    ends, items, weights = edges
    rows = torch.zeros_like(similarity)
    for row, user in enumerate(users.tolist()):
        own = slice(int(ends[user]), int(ends[user + 1]))
        rows[row, items[own]] = weights[own]
    noise = -torch.empty_like(rows).exponential_().log()
    soft = ((rows + noise) / NOISE_TEMPERATURE).softmax(dim=1)
    return functional.normalize(soft + SIMILARITY_WEIGHT * similarity)


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
        share = torch.rand(len(fake), 1, device=fake.device)
        mix = (share * real + (1 - share) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(self(mix).sum(), mix, create_graph=True)
        smooth = (torch.linalg.vector_norm(slope, dim=1) - 1).square().mean()
        return self(fake).mean() - self(real).mean() + penalty * smooth
