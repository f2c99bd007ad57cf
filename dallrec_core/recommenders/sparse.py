"""Sparse matrices, and products with them whose gradients are known in closed form.

A matrix is a torch CSR tensor with 32-bit indices, which halve the index traffic of each product.
Tests hold everything equal to automatic differentiation of the dense formulas.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def pointers(rows: Tensor, size: int) -> Tensor:
    """Return where each of `size` rows starts once entries are sorted by row, int32 [size + 1]."""
    ends = rows.new_zeros(size + 1, dtype=torch.int64)
    torch.cumsum(torch.bincount(rows, minlength=size), 0, out=ends[1:])
    return ends.int()


def csr(rows: Tensor, columns: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a sparse CSR matrix.

    Args:
        rows: of each entry, int64 [n], ascending.
        columns: of each entry, int64 [n].
        values: float32 [n].
        size: (rows, columns) of the matrix.
    """
    with warnings.catch_warnings():  # "CSR support is in beta state", once per process
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_csr_tensor(
            pointers(rows, size[0]), columns.int(), values, size, check_invariants=False
        )


def product(starts: Tensor, columns: Tensor, values: Tensor, x: Tensor) -> Tensor:
    """Return the product `M X`, float32 [rows, d], of a sparse and a dense matrix.

    It is a sum over bags of embeddings, which fetches rows before it needs them: two to three times
    as fast as the product of a CSR tensor while `X` fits into the cache. It has no gradient.

    Args:
        starts: where each row of `M` begins among the entries, and their number; int32 [rows + 1].
        columns: int32 [n], by row.
        values: float32 [n].
        x: `X`, float32 [columns of M, d].
    """
    weights, rows = values.detach(), x.detach()  # or it would prepare a gradient of its own
    return functional.embedding_bag(
        columns, rows, starts, mode="sum", per_sample_weights=weights, include_last_offset=True
    )


# ---------------------------------------------------------------- symmetric matrices


class _Symmetric(torch.autograd.Function):
    """A linear operator that is its own transpose: so the gradient is the operator again."""

    @staticmethod
    def forward(ctx: Any, operator: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        ctx.operator = operator
        return operator(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return None, ctx.operator(gradients[0].contiguous())


def _times(matrix: Tensor, x: Tensor) -> Tensor:
    return product(matrix.crow_indices(), matrix.col_indices(), matrix.values(), x)


def multiply(matrix: Tensor, dense: Tensor) -> Tensor:
    """Return `Â X`, float32 [n, d].

    Args:
        matrix: `Â` [n, n], symmetric, from `csr`; a constant, it gets no gradient.
        dense: `X` [n, d].
    """
    result: Tensor = _Symmetric.apply(lambda x: _times(matrix, x), dense)
    return result


def propagate(matrix: Tensor, embeddings: Tensor, layers: int) -> Tensor:
    """Return `mean(E, ÂE, Â²E, …, Â^layers E)`, float32 [n, d].

    Args:
        matrix: `Â` [n, n], symmetric, from `csr`.
        embeddings: `E` [n, d]; its gradient is the same operator applied to the output's.
        layers: how often to multiply.
    """

    def mean(start: Tensor) -> Tensor:
        result = start
        for _ in range(layers):  # Horner's rule: E + Â(E + Â(E + …))
            result = start + _times(matrix, result)
        return result / (layers + 1)

    result: Tensor = _Symmetric.apply(mean, embeddings)
    return result


# ---------------------------------------------------------------- values that differ by edge


class Bipartite:
    """Message passing between users and items with values that differ from edge to edge.

    The interaction matrix `R` of `[U, N]` is kept in both orientations with one order of its E
    edges (by user, then item). Values on edges, the attention of GRCN for example, are float32 [E]
    in that order. The operations of graph attention and their gradients are sparse products:

        dots(x, y)_e        = x_u · y_i              (sampled dense-dense product)
        to_users(v, y)_u    = Σ_{e = (u, i)} v_e y_i (sparse-dense product)
        to_items(v, x)_i    = Σ_{e = (u, i)} v_e x_u

    so no tensor of `[E, d]` is ever made: on MovieLens-1M that would be 200 MB per layer and
    direction, and fifty times slower than the sparse product.

    The two softmaxes subtract one maximum for all edges, which is enough for bounded values such as
    the products of unit vectors.

    Args:
        users: user of each edge, int64 [E], ascending.
        items: item of each edge, int64 [E].
        weights: of the edges, float32 [E].
        size: (U, N).
    """

    def __init__(
        self, users: Tensor, items: Tensor, weights: Tensor, size: tuple[int, int]
    ) -> None:
        self.users, self.items = users, items
        self.order = order = torch.argsort(items, stable=True)
        self.by_user = csr(users, items, weights, size)
        self.by_item = csr(items[order], users[order], weights[order], size[::-1])

    def dots(self, x: Tensor, y: Tensor) -> Tensor:
        """Return `x_u · y_i` of every edge [E], for `x` [U, d] and `y` [N, d]."""
        result: Tensor = _Dots.apply(self, x, y)
        return result

    def to_users(self, values: Tensor, y: Tensor) -> Tensor:
        """Return the sums [U, d] of the item rows `y` [N, d], weighted by `values` [E]."""
        result: Tensor = _Sum.apply(self, values, y, True)
        return result

    def to_items(self, values: Tensor, x: Tensor) -> Tensor:
        """Return the sums [N, d] of the user rows `x` [U, d], weighted by `values` [E]."""
        result: Tensor = _Sum.apply(self, values, x, False)
        return result

    def softmax_over_items(self, values: Tensor) -> Tensor:
        """Return `w_e exp(v_e) / Σ` over the edges of the same user [E]; w are the weights."""
        exponents = self._exponents(values)
        return exponents / _row_sums(self.by_user, exponents).index_select(0, self.users)

    def softmax_over_users(self, values: Tensor) -> Tensor:
        """Return `w_e exp(v_e) / Σ` over the edges of the same item [E]; w are the weights."""
        exponents = self._exponents(values)
        totals = _row_sums(self.by_item, exponents.index_select(0, self.order))
        return exponents / totals.index_select(0, self.items)

    def _exponents(self, values: Tensor) -> Tensor:
        return self.by_user.values() * (values - values.detach().max()).exp()


def _row_sums(matrix: Tensor, values: Tensor) -> Tensor:
    # a row without entries has total 0, but then no entry asks for it
    starts = matrix.crow_indices().long()
    return torch.segment_reduce(values, "sum", offsets=starts, unsafe=True)


def _by_users(edges: Bipartite, values: Tensor, y: Tensor) -> Tensor:
    return product(edges.by_user.crow_indices(), edges.by_user.col_indices(), values, y)


def _by_items(edges: Bipartite, values: Tensor, x: Tensor) -> Tensor:
    values = values.index_select(0, edges.order)
    return product(edges.by_item.crow_indices(), edges.by_item.col_indices(), values, x)


def _dots(edges: Bipartite, x: Tensor, y: Tensor) -> Tensor:
    x, y = x.contiguous(), y.contiguous()
    return torch.sparse.sampled_addmm(edges.by_user, x, y.T, beta=0.0).values()


class _Dots(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, edges: Bipartite, x: Tensor, y: Tensor) -> Tensor:
        ctx.edges = edges
        ctx.save_for_backward(x, y)
        return _dots(edges, x, y)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        x, y = ctx.saved_tensors
        return None, _by_users(ctx.edges, gradients[0], y), _by_items(ctx.edges, gradients[0], x)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, edges: Bipartite, values: Tensor, rows: Tensor, users: bool) -> Tensor:
        ctx.edges, ctx.users = edges, users
        ctx.save_for_backward(values, rows)
        return (_by_users if users else _by_items)(edges, values, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        values, rows = ctx.saved_tensors
        slope = gradients[0].contiguous()
        of_users, of_items = (slope, rows) if ctx.users else (rows, slope)
        back = _by_items if ctx.users else _by_users
        return None, _dots(ctx.edges, of_users, of_items), back(ctx.edges, values, slope), None
