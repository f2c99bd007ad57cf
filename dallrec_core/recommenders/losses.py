"""The losses that backbones share; those of looked-up rows have gradients written by hand.

Automatic differentiation of an embedding look-up builds large intermediate tensors: on MovieLens-1M
a step takes over ten times as long. The functions here know their gradients in closed form; tests
hold them equal to automatic differentiation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dallrec_core.recommenders.sparse import pointers, product

CHUNK = 4096
"""Triples whose rows are looked up at a time: three times 64 floats each, 3 MiB in a cache."""


class _Bpr(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        user_table: Tensor,
        item_table: Tensor,
        users: Tensor,
        positives: Tensor,
        negatives: Tensor,
        weights: Tensor | None,
        l2: float,
    ) -> Tensor:
        if (users[1:] < users[:-1]).any():  # batches of `Sampler` are in order already
            order = torch.argsort(users)
            users, positives, negatives = users[order], positives[order], negatives[order]
            weights = None if weights is None else weights[order]
        margins = _margins(user_table, item_table, users, positives, negatives)
        losses, slopes = functional.softplus(-margins), -torch.sigmoid(-margins) / len(users)
        if weights is not None:
            losses, slopes = losses * weights, slopes * weights
        total = losses.sum()
        # positive and negative of each triple, side by side
        pairs = torch.stack([positives, negatives], 1).view(-1).int()
        slopes = torch.stack([slopes, -slopes], 1).view(-1)
        counts = []
        if l2:
            for table, rows in ((user_table, users), (item_table, pairs)):
                counts.append(l2 * _counts(table, rows))
                total += torch.linalg.vector_norm(table, dim=1).square() @ counts[-1] / 2
        ctx.save_for_backward(user_table, item_table, users, pairs, slopes, *counts)
        return total / len(users)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        user_table, item_table, users, pairs, slopes, *counts = ctx.saved_tensors
        slopes = slopes * gradients[0]
        for_users = product(2 * pointers(users, len(user_table)), pairs, slopes, item_table)
        order = torch.argsort(pairs, stable=True)
        starts, triples = pointers(pairs, len(item_table)), order >> 1
        for_items = product(starts, users.int()[triples], slopes[order], user_table)
        penalised = zip((user_table, item_table), (for_users, for_items), counts, strict=False)
        for table, gradient, count in penalised:
            factors = (count * gradients[0])[:, None]
            gradient.addcmul_(table, factors, value=1 / len(users))
        return for_users, for_items, None, None, None, None, None


def _margins(
    user_table: Tensor, item_table: Tensor, users: Tensor, positives: Tensor, negatives: Tensor
) -> Tensor:
    """Return `s_ui - s_uj` of each triple, [B], some at a time: what is looked up stays cached."""
    margins = []
    for u, i, j in zip(*(x.split(CHUNK) for x in (users, positives, negatives)), strict=True):
        rows = item_table.index_select(0, i).sub_(item_table.index_select(0, j))
        margins.append(rows.mul_(user_table.index_select(0, u)).sum(1))
    return torch.cat(margins)


def bpr_loss(
    user_table: Tensor,
    item_table: Tensor,
    users: Tensor,
    positives: Tensor,
    negatives: Tensor,
    weights: Tensor | None = None,
    l2: float = 0.0,
) -> Tensor:
    """Return the Bayesian personalised ranking loss `mean(w · -log σ(s_ui - s_uj))`, a scalar.

    With `l2`, that times `batch_l2` of the looked-up rows is added; this costs less than a call.

    Rendle et al., "BPR: Bayesian personalized ranking from implicit feedback", UAI 2009;
    `s_ui` is the inner product of row u of `user_table` and row i of `item_table`.

    Args:
        user_table: [U, d].
        item_table: [N, d].
        users: u, int64 [B].
        positives: i, int64 [B].
        negatives: j, int64 [B].
        weights: w, float32 [B]; 1 when absent. The mean divides by B, not by the summed weights.
        l2: weight of the squared norms.
    """
    loss: Tensor = _Bpr.apply(user_table, item_table, users, positives, negatives, weights, l2)
    return loss


def _counts(table: Tensor, rows: Tensor) -> Tensor:
    """Return how often each row of `table` [n, d] is among `rows`, [n]."""
    return torch.bincount(rows, minlength=len(table)).to(table.dtype)


def batch_l2(table: Tensor, *rows: Tensor) -> Tensor:
    """Return `½ Σ ‖table[r]‖² / B` over all entries r of `rows`, a scalar.

    This is `reg(B)` of the DALLRec code: a row that appears twice in a batch counts twice.

    Args:
        table: embeddings [n, d].
        rows: one or more int64 [B].
    """
    counts = _counts(table, torch.cat(rows)) / len(rows[0])
    return table.square().sum(1) @ counts / 2


def contrast(view: Tensor, final: Tensor, temperature: float) -> Tensor:
    """Return the InfoNCE loss of two views of the same n users, both [n, d], a scalar.

    A user's two views are the positive pair; the other users in both views are the negatives.
    """
    view, final = functional.normalize(view), functional.normalize(final)
    across = view @ final.T / temperature
    within = view @ view.T / temperature
    itself = torch.eye(len(view), dtype=torch.bool)
    within = within.masked_fill(itself, -torch.inf)
    return (torch.cat([across, within], dim=1).logsumexp(dim=1) - across.diagonal()).mean()
