"""Sparse matrices and the hand-written gradients that make training fast on a CPU.

Automatic differentiation of an embedding look-up or a sparse product builds large intermediate
tensors. The functions here know their gradients in closed form; tests hold them equal to
automatic differentiation.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

TILE = 8192
"""Columns of a tile: the rows of 64 floats that it gathers take 2 MiB and stay in the cache."""

CHUNK = 2048
"""Triples whose rows are looked up at a time, for the same reason."""


def pointers(rows: Tensor, size: int) -> Tensor:
    """Return where each of `size` rows starts among entries sorted by row, int32 [size + 1]."""
    ends = torch.zeros(size + 1, dtype=torch.int64)
    torch.cumsum(torch.bincount(rows, minlength=size), 0, out=ends[1:])
    return ends.int()


def csr(starts: Tensor, columns: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a sparse CSR matrix; 32-bit indices halve the index traffic of each product.

    Args:
        starts: from `pointers`, [rows + 1].
        columns: int32 [n], sorted by row.
        values: float32 [n].
        size: (rows, columns) of the matrix.
    """
    with warnings.catch_warnings():  # "CSR support is in beta state", once per process
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_csr_tensor(starts, columns, values, size, check_invariants=False)


class Adjacency(nn.Module):
    """A symmetric sparse matrix `Â` [U + N, U + N] that joins users with items only.

    A product with `X` gathers a row of `X` for each entry of `Â`. With more rows than the cache
    holds nearly every one would come from memory, so the matrix is kept as tiles of few columns.

    Args:
        users: user of each entry above the diagonal, int64 [E], ascending.
        items: its item, int64 [E].
        values: float32 [E].
        n_users: U.
        n_items: N.
        tile: columns of a tile.
    """

    def __init__(
        self,
        users: Tensor,
        items: Tensor,
        values: Tensor,
        n_users: int,
        n_items: int,
        tile: int = TILE,
    ) -> None:
        super().__init__()
        self._places: list[tuple[slice, slice]] = []
        whose, which = slice(0, n_users), slice(n_users, n_users + n_items)
        self._cut(items, users, values, which, whose, tile)
        order = torch.argsort(items, stable=True)
        self._cut(users[order], items[order], values[order], whose, which, tile)

    def _cut(
        self, rows: Tensor, columns: Tensor, values: Tensor, down: slice, across: slice, tile: int
    ) -> None:
        """Add the tiles of a half, whose entries are sorted by column."""
        height, width = down.stop - down.start, across.stop - across.start
        for start in range(0, width, tile):
            stop = min(start + tile, width)
            first, last = torch.searchsorted(columns, torch.tensor([start, stop])).tolist()
            order = first + torch.argsort(rows[first:last], stable=True)
            matrix = csr(
                pointers(rows[first:last], height),
                (columns[order] - start).int(),
                values[order],
                (height, stop - start),
            )
            self.register_buffer(f"tile_{len(self._places)}", matrix, persistent=False)
            self._places.append((down, slice(across.start + start, across.start + stop)))

    def plus(self, start: Tensor, x: Tensor) -> Tensor:
        """Return `start + Â X`, float32 [U + N, d], without a gradient of its own."""
        result = start.clone()
        for (down, across), matrix in zip(self._places, self.buffers(), strict=True):
            result[down].addmm_(matrix, x[across])
        return result


class _Propagation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Adjacency, embeddings: Tensor, layers: int) -> Tensor:
        ctx.matrix, ctx.layers = matrix, layers
        return _mean_of_layers(matrix, embeddings, layers)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        # the operator is a polynomial of a symmetric matrix: its transpose is itself
        return None, _mean_of_layers(ctx.matrix, gradients[0].contiguous(), ctx.layers), None


def _mean_of_layers(matrix: Adjacency, embeddings: Tensor, layers: int) -> Tensor:
    # Horner's rule: E + Â(E + Â(E + …)), one fused product and sum per layer
    result = embeddings
    for _ in range(layers):
        result = matrix.plus(embeddings, result)
    return result / (layers + 1)


def propagate(matrix: Adjacency, embeddings: Tensor, layers: int) -> Tensor:
    """Return `mean(E, ÂE, Â²E, …, Â^layers E)`, float32 [n, d].

    Args:
        matrix: `Â` [n, n].
        embeddings: `E` [n, d]; its gradient is the same operator applied to the output's.
        layers: how often to multiply.
    """
    result: Tensor = _Propagation.apply(matrix, embeddings, layers)
    return result


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Adjacency, dense: Tensor) -> Tensor:
        ctx.matrix = matrix
        return matrix.plus(torch.zeros_like(dense), dense)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        gradient = gradients[0].contiguous()
        return None, ctx.matrix.plus(torch.zeros_like(gradient), gradient)


def multiply(matrix: Adjacency, dense: Tensor) -> Tensor:
    """Return `Â X`, float32 [n, d].

    Args:
        matrix: `Â` [n, n]; a constant, it gets no gradient.
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
        l2: float,
    ) -> Tensor:
        # gradients come with the loss, some triples at a time: what they look up is still cached
        for_users, for_items = torch.zeros_like(user_table), torch.zeros_like(item_table)
        rows = user_table.new_empty(3, min(CHUNK, len(users)), user_table.shape[1])
        total = user_table.new_zeros(())
        for start in range(0, len(users), CHUNK):
            part = slice(start, start + CHUNK)
            user, difference, other = rows[:, : len(users[part])]
            torch.index_select(user_table, 0, users[part], out=user)
            torch.index_select(item_table, 0, positives[part], out=difference)
            torch.index_select(item_table, 0, negatives[part], out=other)
            difference -= other
            margin = torch.mul(user, difference, out=other).sum(1)
            loss, slope = functional.softplus(-margin), -torch.sigmoid(-margin) / len(users)
            if weights is not None:
                loss, slope = loss * weights[part], slope * weights[part]
            total += loss.sum()
            for_users.index_add_(0, users[part], difference.mul_(slope[:, None]))
            for_items.index_add_(0, positives[part], user.mul_(slope[:, None]))
            for_items.index_add_(0, negatives[part], user.neg_())  # faster than alpha=-1
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
        for_users, for_items = (table.mul_(gradients[0]) for table in ctx.gradients)
        del ctx.gradients
        return for_users, for_items, None, None, None, None, None


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
