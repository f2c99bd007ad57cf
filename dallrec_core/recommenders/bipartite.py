"""Message passing between users and items with values that differ from edge to edge.

The interaction matrix `R` of `[U, N]` is kept in both orientations with one order of its E edges
(by user, then item). Values on edges, the attention of GRCN for example, are float32 [E] in that
order. The two operations of graph attention and their gradients are sparse products:

    dots(x, y)_e        = x_u · y_i              (sampled dense-dense product)
    to_users(v, y)_u    = Σ_{e = (u, i)} v_e y_i (sparse-dense product)
    to_items(v, x)_i    = Σ_{e = (u, i)} v_e x_u

so no tensor of `[E, d]` is ever made: on MovieLens-1M that would be 200 MB per layer and direction,
and fifty times slower than the sparse product.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dallrec_core.recommenders.graph import Graph
from dallrec_core.recommenders.sparse import csr, pointers, product


class Bipartite(nn.Module):
    """Both orientations of the interaction matrix; moves between devices with its model.

    The two softmaxes subtract one maximum for all edges, which is enough for bounded values such as
    the products of unit vectors.

    Args:
        graph: edges with a positive adjacency weight are kept.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.n_users, self.n_items = graph.n_users, graph.n_items
        kept = graph.weights > 0
        users, items = graph.users[kept], graph.items[kept]
        by_item = torch.argsort(items, stable=True)
        for name, tensor in {
            "weights": graph.weights[kept],
            "users": users.int(),
            "items": items.int(),
            "by_item": by_item.int(),
            "user_ends": pointers(users, graph.n_users),
            "item_ends": pointers(items[by_item], graph.n_items),
            "users_by_item": users[by_item].int(),
        }.items():
            self.register_buffer(name, tensor, persistent=False)
        self.weights: Tensor
        "Adjacency weight of each edge, float32 [E]."
        self.users: Tensor
        "User of each edge, int32 [E], ascending."
        self.items: Tensor
        "Item of each edge, int32 [E]."
        self.by_item: Tensor
        self.user_ends: Tensor
        self.item_ends: Tensor
        self.users_by_item: Tensor

    def by_users(self, values: Tensor, y: Tensor) -> Tensor:
        """Return the sums [U, d] of rows of `y` [N, d], weighted by `values` [E]; no gradient."""
        return product(self.user_ends, self.items, values, y)

    def by_items(self, values: Tensor, x: Tensor) -> Tensor:
        """Return the sums [N, d] of rows of `x` [U, d], weighted by `values` [E]; no gradient."""
        sorted_values = values.index_select(0, self.by_item)
        return product(self.item_ends, self.users_by_item, sorted_values, x)

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
        exponents = self.weights * (values - values.detach().max()).exp()
        return exponents / self._totals(exponents, self.user_ends).index_select(0, self.users)

    def softmax_over_users(self, values: Tensor) -> Tensor:
        """Return `w_e exp(v_e) / Σ` over the edges of the same item [E]; w are the weights."""
        exponents = self.weights * (values - values.detach().max()).exp()
        totals = self._totals(exponents.index_select(0, self.by_item), self.item_ends)
        return exponents / totals.index_select(0, self.items)

    @staticmethod
    def _totals(values: Tensor, ends: Tensor) -> Tensor:
        # a node without edges has total 0, but then no edge asks for it
        return torch.segment_reduce(values, "sum", offsets=ends.long(), unsafe=True)


class _Dots(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, edges: Bipartite, x: Tensor, y: Tensor) -> Tensor:
        ctx.edges = edges
        ctx.save_for_backward(x, y)
        return _dots(edges, x, y)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        x, y = ctx.saved_tensors
        edges, slope = ctx.edges, gradients[0]
        return None, edges.by_users(slope, y), edges.by_items(slope, x)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, edges: Bipartite, values: Tensor, rows: Tensor, users: bool) -> Tensor:
        ctx.edges, ctx.users = edges, users
        ctx.save_for_backward(values, rows)
        return (edges.by_users if users else edges.by_items)(values, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        values, rows = ctx.saved_tensors
        edges, slope = ctx.edges, gradients[0].contiguous()
        for_values = for_rows = None
        if ctx.needs_input_grad[1]:
            pair = (slope, rows) if ctx.users else (rows, slope)
            for_values = _dots(edges, *pair)
        if ctx.needs_input_grad[2]:
            for_rows = (edges.by_items if ctx.users else edges.by_users)(values, slope)
        return None, for_values, for_rows, None


def _dots(edges: Bipartite, x: Tensor, y: Tensor) -> Tensor:
    size = edges.n_users, edges.n_items
    pattern = csr(edges.user_ends, edges.items, edges.weights, size)
    found = torch.sparse.sampled_addmm(pattern, x.contiguous(), y.contiguous().T, beta=0.0)
    return found.values()
