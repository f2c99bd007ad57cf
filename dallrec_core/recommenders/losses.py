"""The two losses that all backbones share, with gradients written by hand.

Automatic differentiation of an embedding look-up builds large intermediate tensors. The functions
here know their gradients in closed form; tests hold them equal to automatic differentiation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dallrec_core.recommenders.sparse import pointers, product

CHUNK = 4096
"""Triples whose rows are looked up at a time: twice 64 floats each, 2 MiB in a cache."""


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
        # positive and negative of each triple, side by side
        pairs = torch.stack([positives, negatives], 1).view(-1).int()
        margins = _margins(user_table, item_table, users, pairs)
        losses, slopes = functional.softplus(-margins), -torch.sigmoid(-margins) / len(users)
        if weights is not None:
            losses, slopes = losses * weights, slopes * weights
        total = losses.sum()
        slopes = torch.stack([slopes, -slopes], 1).view(-1)
        by_user = 2 * pointers(users, len(user_table))
        for_users = product(by_user, pairs, slopes, item_table)
        order = torch.argsort(pairs, stable=True)
        by_item = pointers(pairs, len(item_table))
        for_items = product(by_item, users.int()[order >> 1], slopes[order], user_table)
        if l2:
            for table, gradient, *looked_up in (
                (user_table, for_users, users),
                (item_table, for_items, positives, negatives),
            ):
                counts = _counts(table, looked_up).mul_(l2)
                total += _squares(table, counts)
                gradient.addcmul_(table, counts[:, None], value=1 / len(users))
        ctx.gradients = for_users, for_items
        return total / len(users)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        # given away, as large tables are not copied for nothing: a second call would find none
        for_users, for_items = ctx.gradients
        del ctx.gradients
        if gradients[0] != 1:  # the loss itself is seldom multiplied
            for_users.mul_(gradients[0])
            for_items.mul_(gradients[0])
        return for_users, for_items, None, None, None, None, None


def _margins(user_table: Tensor, item_table: Tensor, users: Tensor, pairs: Tensor) -> Tensor:
    """Return `s_ui - s_uj` of each triple, [B], some at a time: what is looked up stays cached."""
    size = min(CHUNK, len(users))
    starts = torch.arange(0, 2 * size + 1, 2, dtype=torch.int32, device=users.device)
    signs = user_table.new_tensor([1.0, -1.0]).repeat(size)
    margins = user_table.new_empty(len(users))
    for start in range(0, len(users), size):
        rows = user_table.index_select(0, users[start : start + size])
        both = pairs[2 * start : 2 * (start + size)]
        difference = product(starts[: len(rows) + 1], both, signs[: len(both)], item_table)
        margins[start : start + size] = rows.mul_(difference).sum(1)
    return margins


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


def _counts(table: Tensor, rows: Sequence[Tensor]) -> Tensor:
    """Return how often each row of `table` [n, d] is among `rows`, [n]."""
    return torch.bincount(torch.cat(list(rows)), minlength=len(table)).to(table.dtype)


def _squares(table: Tensor, counts: Tensor) -> Tensor:
    """Return `½ Σ counts_r ‖table[r]‖²`, a scalar; nothing as large as the table is made."""
    return torch.dot(torch.linalg.vector_norm(table, dim=1).square_(), counts) / 2


class _BatchL2(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, counts: Tensor) -> Tensor:
        ctx.save_for_backward(table, counts)
        return _squares(table, counts)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        table, counts = ctx.saved_tensors
        return table * (counts * gradients[0])[:, None], None


def batch_l2(table: Tensor, *rows: Tensor) -> Tensor:
    """Return `½ Σ ‖table[r]‖² / B` over all entries r of `rows`, a scalar.

    This is `reg(B)` of the DALLRec code: a row that appears twice in a batch counts twice.

    Args:
        table: embeddings [n, d].
        rows: one or more int64 [B].
    """
    result: Tensor = _BatchL2.apply(table, _counts(table, rows) / len(rows[0]))
    return result
