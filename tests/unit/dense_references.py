"""Every backbone again, written with dense matrices, for comparison.

Nothing here is fast or shares code with the library. Each reference takes a model for its weights
and the adjacency `R` [U, N] and returns the vectors or scores its paper defines.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from dallrec_core.recommenders import Graph


def dense(graph: Graph) -> Tensor:
    """The weights of the edges [U, N]."""
    matrix = torch.zeros(graph.n_users, graph.n_items)
    matrix[graph.users, graph.items] = graph.weights
    return matrix


def whole(R: Tensor) -> Tensor:
    """The adjacency of the bipartite graph [U + N, U + N]."""
    U = len(R)
    result = torch.zeros(sum(R.shape), sum(R.shape))
    result[:U, U:], result[U:, :U] = R, R.T
    return result


def symmetric(A: Tensor) -> Tensor:
    scale = A.sum(1).rsqrt().nan_to_num(posinf=0)
    return scale[:, None] * A * scale


def by_rows(A: Tensor) -> Tensor:
    return A / A.sum(1, keepdim=True).clamp(min=1e-12)


def leaky(x: Tensor, slope: float = 0.01) -> Tensor:
    return torch.where(x > 0, x, slope * x)


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=1, keepdim=True).clamp(min=1e-12)


def light(R: Tensor, ids: Tensor, layers: int) -> Tensor:
    adjacency = symmetric(whole(R))
    powers = [torch.linalg.matrix_power(adjacency, k) @ ids for k in range(layers + 1)]
    return sum(powers) / len(powers)


def products(R: Tensor, vectors: Tensor) -> Tensor:
    return vectors[: len(R)] @ vectors[len(R) :].T


def lightgcn(model, R: Tensor) -> Tensor:
    return products(R, light(R, model.ids, model.config.layers))


def mf_bpr(model, R: Tensor) -> Tensor:
    return model.users @ model.items.T


def nmf(model, R: Tensor) -> Tensor:
    weight = torch.cat([model.of_user.weight, model.of_item.weight, model.of_product.weight], dim=1)
    users, items = model.users[:, None], model.items[None]
    pairs = torch.cat(torch.broadcast_tensors(users, items) + (users * items,), dim=-1)
    return (pairs @ weight.T + model.of_user.bias).relu() @ model.output


def ngcf(model, R: Tensor) -> Tensor:
    adjacency = symmetric(whole(R) + torch.eye(sum(R.shape)))
    layer, parts = model.ids, [model.ids]
    for first, second in zip(model.of_sum, model.of_product, strict=True):
        S = adjacency @ layer
        one = leaky(S @ first.weight.T + first.bias, 0.2)
        layer = one + leaky((layer * S) @ second.weight.T + second.bias, 0.2)
        parts.append(unit(layer))
    return products(R, torch.cat(parts, dim=1))


def mmgcn(model, R: Tensor) -> Tensor:
    adjacency, results = by_rows(whole(R)), []
    for part in model.modalities.values():
        items = part.features @ part.project.weight.T + part.project.bias
        X, slope = torch.cat([part.preferences, items]), model.config.slope
        for heard, own, join in zip(part.neighbours, part.itself, part.join, strict=True):
            H = leaky(adjacency @ (X @ heard.weight.T), slope)
            mixed = leaky(X @ own.weight.T + own.bias, slope) + model.ids
            X = leaky(H @ join.weight.T + join.bias + mixed, slope)
        results.append(X)
    return products(R, sum(results) / len(results))


def attention(queries: Tensor, keys: Tensor, R: Tensor) -> Tensor:
    """Softmax over the neighbours of each row, weighted by the edges; [rows of R, columns]."""
    return by_rows(R * torch.exp(queries @ keys.T))


def grcn(model, R: Tensor) -> Tensor:
    U = len(R)
    to_users, to_items, reps = [], [], []
    for m, part in enumerate(model.modalities.values()):
        f = unit(leaky(part.features @ part.project.weight.T + part.project.bias))
        p = unit(part.preferences)
        for _ in range(model.config.routings):
            p = unit(p + attention(p, f, R) @ f)
        users, items = attention(p, f, R), attention(f, p, R.T)
        reps.append((p + users @ f, f + items @ p))
        to_users.append(users * model.confidence[U:, m])
        to_items.append(items * model.confidence[:U, m])
    pruned = torch.stack(to_users).amax(0).relu(), torch.stack(to_items).amax(0).relu()
    x = unit(model.ids)
    user, item = x[:U], x[U:]
    all_users, all_items = user, item
    for _ in range(model.config.layers):
        user, item = pruned[0] @ item, pruned[1] @ user
        all_users, all_items = all_users + user, all_items + item
    left = torch.cat([all_users, *(rep[0] for rep in reps)], dim=1)
    return left @ torch.cat([all_items, *(rep[1] for rep in reps)], dim=1).T


def mmssl(model, R: Tensor) -> Tensor:
    U, N = R.shape
    adjacency, config = symmetric(whole(R)), model.config
    to_users, modal, views = adjacency[:U, U:], [], []
    for m, name in enumerate(model.names):
        layer = model.project[name]
        f = model.features[name] @ layer.weight.T + layer.bias
        users = to_users @ f
        modal.append(torch.cat([users, to_users.T @ users]))
        chosen = torch.zeros(U, N).scatter(1, model.learned[m], 1.0)
        views.append(
            torch.cat([by_rows(chosen) @ model.ids[U:], by_rows(chosen.T) @ model.ids[:U]])
        )
    own = torch.stack(views)  # [views, nodes, d]; below h is a head, n a node, v and w are views
    weights = (model.attention.query.weight, model.attention.key.weight, torch.eye(config.dim))
    query, key, value = ((own @ W.T).unflatten(-1, (config.heads, -1)) for W in weights)
    scores = torch.einsum("vnhd,wnhd->nhvw", query, key) / (config.dim / config.heads) ** 0.5
    mixed = unit(torch.einsum("nhvw,wnhd->nhd", scores.softmax(-1), value).flatten(1) / len(own))
    vectors = light(R, model.ids + config.attention_weight * mixed, config.layers)
    for x in modal:
        vectors = vectors + config.feature_weight * functional.normalize(x)
    return products(R, vectors)


REFERENCES = {
    "MF-BPR": mf_bpr,
    "NMF": nmf,
    "NGCF": ngcf,
    "LightGCN": lightgcn,
    "MMGCN": mmgcn,
    "GRCN": grcn,
    "MMSSL": mmssl,
}
