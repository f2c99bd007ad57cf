"""Sparse matrices and the hand-written gradients that make training fast on a CPU.

Automatic differentiation of an embedding look-up or a sparse product builds large intermediate
tensors. The functions here know their gradients in closed form; tests hold them equal to
automatic differentiation.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def csr(rows: Tensor, columns: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a sparse CSR matrix from entries that are already sorted by row, then column.

    Args:
        rows: int64 [n], ascending.
        columns: int64 [n].
        values: float32 [n].
        size: (rows, columns) of the matrix.
    """
    pointers = torch.zeros(size[0] + 1, dtype=torch.int64)
    torch.cumsum(torch.bincount(rows, minlength=size[0]), 0, out=pointers[1:])
    # 32-bit indices halve the index traffic of each product
    index = torch.int32 if len(values) < 2**31 and max(size) < 2**31 else torch.int64
    with warnings.catch_warnings():  # "CSR support is in beta state", once per process
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_csr_tensor(
            pointers.to(index), columns.to(index), values, size, check_invariants=False
        )


class _Propagation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor, embeddings: Tensor, layers: int) -> Tensor:
        ctx.save_for_backward(matrix)
        ctx.layers = layers
        return _mean_of_layers(matrix, embeddings, layers)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        # the operator is a polynomial of a symmetric matrix: its transpose is itself
        (matrix,) = ctx.saved_tensors
        return None, _mean_of_layers(matrix, gradients[0].contiguous(), ctx.layers), None


def _mean_of_layers(matrix: Tensor, embeddings: Tensor, layers: int) -> Tensor:
    # Horner's rule: E + Â(E + Â(E + …)), one fused product and sum per layer
    result = embeddings
    for _ in range(layers):
        result = torch.addmm(embeddings, matrix, result)
    return result / (layers + 1)


def propagate(matrix: Tensor, embeddings: Tensor, layers: int) -> Tensor:
    """Return `mean(E, ÂE, Â²E, …, Â^layers E)`, float32 [n, d].

    Args:
        matrix: **symmetric** sparse CSR `Â` [n, n].
        embeddings: `E` [n, d]; its gradient is the same operator applied to the output's.
        layers: how often to multiply.
    """
    result: Tensor = _Propagation.apply(matrix, embeddings, layers)
    return result


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor, dense: Tensor) -> Tensor:
        ctx.save_for_backward(matrix)
        return matrix @ dense

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (matrix,) = ctx.saved_tensors
        return None, matrix @ gradients[0].contiguous()


def multiply(matrix: Tensor, dense: Tensor) -> Tensor:
    """Return `Â X`, float32 [n, d].

    Args:
        matrix: **symmetric** sparse CSR `Â` [n, n]; a constant, it gets no gradient.
        dense: `X` [n, d].
    """
    result: Tensor = _Product.apply(matrix, dense)
    return result


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
    ) -> Tensor:
        user = user_table.index_select(0, users)
        difference = item_table.index_select(0, positives) - item_table.index_select(0, negatives)
        margin = torch.linalg.vecdot(user, difference)
        loss, slope = functional.softplus(-margin), -torch.sigmoid(-margin)
        if weights is not None:
            loss, slope = loss * weights, slope * weights
        ctx.save_for_backward(users, positives, negatives, user, difference, slope / len(users))
        ctx.shapes = user_table.shape, item_table.shape
        return loss.mean()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        users, positives, negatives, user, difference, slope = ctx.saved_tensors
        slope = (slope * gradients[0])[:, None]
        for_users = slope.new_zeros(ctx.shapes[0]).index_add_(0, users, difference * slope)
        pull = user * slope
        for_items = slope.new_zeros(ctx.shapes[1]).index_add_(0, positives, pull)
        for_items.index_add_(0, negatives, pull, alpha=-1)
        return for_users, for_items, None, None, None, None


def bpr_loss(
    user_table: Tensor,
    item_table: Tensor,
    users: Tensor,
    positives: Tensor,
    negatives: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the Bayesian personalised ranking loss `mean(w · -log σ(s_ui - s_uj))`, a scalar.

    Rendle et al., "BPR: Bayesian personalized ranking from implicit feedback", UAI 2009;
    `s_ui` is the inner product of row u of `user_table` and row i of `item_table`.

    Args:
        user_table: [U, d].
        item_table: [N, d].
        users: u, int64 [B].
        positives: i, int64 [B].
        negatives: j, int64 [B].
        weights: w, float32 [B]; 1 when absent. The mean divides by B, not by the summed weights.
    """
    loss: Tensor = _Bpr.apply(user_table, item_table, users, positives, negatives, weights)
    return loss


class _BatchL2(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, counts: Tensor) -> Tensor:
        scaled = table * counts[:, None]
        ctx.save_for_backward(scaled)
        return torch.dot(table.flatten(), scaled.flatten()) / 2

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (scaled,) = ctx.saved_tensors
        return scaled * gradients[0], None


def batch_l2(table: Tensor, *rows: Tensor) -> Tensor:
    """Return `½ Σ ‖table[r]‖² / B` over all entries r of `rows`, a scalar.

    This is `reg(B)` of the DALLRec code: a row that appears twice in a batch counts twice.

    Args:
        table: embeddings [n, d].
        rows: one or more int64 [B].
    """
    counts = torch.bincount(torch.cat(rows), minlength=len(table)).to(table.dtype)
    result: Tensor = _BatchL2.apply(table, counts / len(rows[0]))
    return result
