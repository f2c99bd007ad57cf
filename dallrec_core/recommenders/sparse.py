"""Sparse matrices, and products with the adjacency whose gradients are known in closed form.

Tests hold them equal to automatic differentiation of the dense formulas.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

TILE = 32768
"""Columns of a tile: the rows of 64 floats that it gathers take 8 MiB and stay in the cache."""

LARGE = 16384
"""Nodes from which a table is propagated `PIECE` dimensions at a time."""

PIECE = 32
"""Dimensions: rows of two cache lines, which are fetched in less than half the time of four."""

_PARTS = "starts", "columns", "values"


def pointers(rows: Tensor, size: int) -> Tensor:
    """Return where each of `size` rows starts once entries are sorted by row, int32 [size + 1]."""
    ends = rows.new_zeros(size + 1, dtype=torch.int64)
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


class Adjacency(nn.Module):
    """A symmetric sparse matrix `Â` [U + N, U + N] that joins users with items only.

    A product with `X` gathers a row of `X` for each entry of `Â`. With more rows than the cache
    holds nearly every one would come from memory, so the matrix is kept as tiles of few columns.

    Args:
        users: user of each entry above the diagonal, int64 [E], ascending.
        items: its item, int64 [E].
        values: float32 [E].
        n_users: number of users, U.
        n_items: number of items, N.
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
            tile_of = (
                pointers(rows[first:last], height),
                (columns[order] - start).int(),
                values[order],
            )
            for name, tensor in zip(_PARTS, tile_of, strict=True):
                self.register_buffer(f"{name}_{len(self._places)}", tensor, persistent=False)
            self._places.append((down, slice(across.start + start, across.start + stop)))

    def plus(self, start: Tensor, x: Tensor) -> Tensor:
        """Return `start + Â X`, float32 [U + N, d], without a gradient of its own."""
        result = start.clone()
        for number, (down, across) in enumerate(self._places):
            starts, columns, values = (self.get_buffer(f"{name}_{number}") for name in _PARTS)
            result[down] += product(starts, columns, values, x[across])
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
    mean = torch.empty_like(embeddings)
    dimensions = PIECE if len(embeddings) >= LARGE else embeddings.shape[1]
    for piece, into in zip(*(x.split(dimensions, 1) for x in (embeddings, mean)), strict=True):
        piece = result = piece.contiguous()
        for _ in range(layers):
            result = matrix.plus(piece, result)
        torch.div(result, layers + 1, out=into)
    return mean


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
