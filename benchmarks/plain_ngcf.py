"""NGCF as one would write it down at first, to know what the library's way is worth.

The same equations as `dallrec_core.recommenders.ngcf`, with embedding layers, a sparse matrix in
coordinate form (COO) that contains the self-loops, automatic differentiation throughout, batches of
1,024 and Adam as it comes. Triples are drawn by the library's sampler, so only the model and the
batch differ; a sampler in plain Python would be slower still.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import data as arrays
from benchmarks.backbones import TARGETS, K, quality, reached, seconds_at
from benchmarks.process import peak_mib, say
from dallrec_core.recommenders import Graph, Recommender
from dallrec_core.recommenders.ngcf import NGCFConfig
from dallrec_core.recommenders.sampling import Sampler

BATCH = 1024
LEARNING_RATE = 0.001
"""Adam's usual one."""


class PlainNGCF(Recommender):
    """NGCF with symmetric normalisation; options as in the library's `NGCFConfig`."""

    def __init__(self, graph: Graph, config: NGCFConfig) -> None:
        super().__init__(graph)
        self.config = config
        self.l2 = config.l2 if config.l2 is not None else config.prior / graph.mean_degree
        self.users = nn.Embedding(graph.n_users, config.dim)
        self.items = nn.Embedding(graph.n_items, config.dim)
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=config.init_std)
        layers = range(config.layers)
        self.of_sum = nn.ModuleList(nn.Linear(config.dim, config.dim) for _ in layers)
        self.of_product = nn.ModuleList(nn.Linear(config.dim, config.dim) for _ in layers)
        self.adjacency: Tensor
        self.register_buffer("adjacency", coo_adjacency(graph))

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return the vectors of users and of items."""
        layer = torch.cat([self.users.weight, self.items.weight])
        vectors = [layer]
        for of_sum, of_product in zip(self.of_sum, self.of_product, strict=True):
            received = torch.sparse.mm(self.adjacency, layer)
            alike = functional.leaky_relu(of_product(layer * received), 0.2)
            layer = functional.leaky_relu(of_sum(received), 0.2) + alike
            layer = functional.dropout(layer, self.config.dropout, self.training)
            vectors.append(functional.normalize(layer))
        final = torch.cat(vectors, dim=1)
        return final[: self.n_users], final[self.n_users :]

    def scorer(self) -> Any:
        """Compute the vectors once; even a first version would."""
        users, items = self()
        return lambda block: users[block] @ items.T

    def scores(self, users: Tensor) -> Tensor:
        """Return the scores of all items for `users`."""
        return self.scorer()(users)

    def loss(
        self, users: Tensor, positives: Tensor, negatives: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Return the regularised BPR loss of a batch."""
        user_vectors, item_vectors = self()
        user, positive = user_vectors[users], item_vectors[positives]
        negative = item_vectors[negatives]
        margin = (user * positive).sum(1) - (user * negative).sum(1)
        squares = user.square().sum() + positive.square().sum() + negative.square().sum()
        return -functional.logsigmoid(margin).mean() + self.l2 * squares / (2 * len(users))


def coo_adjacency(graph: Graph) -> Tensor:
    """Return `D^-½ (A + I) D^-½` in coordinate form."""
    size = graph.n_users + graph.n_items
    users, items, itself = graph.users, graph.items + graph.n_users, torch.arange(size)
    rows, columns = torch.cat([users, items, itself]), torch.cat([items, users, itself])
    values = torch.cat([graph.weights, graph.weights, torch.ones(size)])
    degrees = torch.zeros(size).index_add_(0, rows, values)
    values = values * degrees[rows].rsqrt() * degrees[columns].rsqrt()
    places = torch.stack([rows, columns])
    matrix = torch.sparse_coo_tensor(places, values, (size, size), check_invariants=False)
    return matrix.coalesce()


def measure(
    file: str,
    *,
    cap_seconds: float = 900.0,
    look_seconds: float = 60.0,
    batch: int = BATCH,
    learning_rate: float = LEARNING_RATE,
    seed: int = 0,
) -> dict[str, Any]:
    """Train until the target of NGCF is reached or `cap_seconds` of training CPU time are spent.

    Time for looking at validation is not counted. `seconds_per_epoch` is that of the steps done,
    times the steps of an epoch.
    """
    data = arrays.load(file)
    graph = data.graph()
    torch.manual_seed(seed)
    model = PlainNGCF(graph, NGCFConfig())
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate)
    sampler, random = Sampler(graph, "edges", batch), np.random.default_rng(seed)
    looks = [{"epoch": 0.0, "cpu_seconds": 0.0} | quality(model, data)]
    target, spent, steps = TARGETS["NGCF"][0], 0.0, 0
    model.train()
    mark = time.process_time()
    for triples in itertools.chain.from_iterable(map(sampler.epoch, itertools.repeat(random))):
        optimiser.zero_grad()
        model.loss(*triples).backward()
        optimiser.step()
        steps, now = steps + 1, time.process_time()
        spent, mark = spent + now - mark, now
        if spent < cap_seconds and spent < looks[-1]["cpu_seconds"] + look_seconds:
            continue
        at = {"epoch": steps / sampler.steps, "cpu_seconds": spent}
        looks.append(at | quality(model, data))
        say(
            f"plain NGCF: epoch {at['epoch']:.2f}, {spent:.0f} of at most {cap_seconds:.0f} CPU s, "
            f"Recall@{K} {looks[-1][f'recall@{K}']:.4f}"
        )
        if spent >= cap_seconds or reached(looks, target) is not None:
            break
        model.train()
        mark = time.process_time()  # looking is not training
    return {
        "batch": batch,
        "learning_rate": learning_rate,
        "steps": steps,
        "epochs": steps / sampler.steps,
        "cpu_seconds": spent,
        "seconds_per_epoch": spent / steps * sampler.steps,
        "cpu_seconds_to_target": reached(looks, target),
        "capped": reached(looks, target) is None,
        "peak_mib": peak_mib(),
        "looks": looks,
    }


def compare(ours: dict[str, Any], plain: dict[str, Any]) -> dict[str, Any]:
    """Say how many times longer the plain version takes than the library's NGCF.

    `same_quality` compares CPU seconds to one and the same Recall@20: the target, where the plain
    version reached it, else the best that it reached before the cap. Between two looks of the
    library's run a straight line is assumed. It is null when the plain version never got above its
    initial weights. `epoch` compares the seconds per epoch, which favours neither batch size.

    Args:
        ours: from `backbones.measure`.
        plain: from `measure`.
    """
    best = max(plain["looks"], key=lambda look: look[f"recall@{K}"])
    recall = best[f"recall@{K}"] if plain["capped"] else TARGETS["NGCF"][0]
    here = seconds_at(ours["looks"], recall)
    there = best["cpu_seconds"] if plain["capped"] else plain["cpu_seconds_to_target"]
    return {
        "epoch": plain["seconds_per_epoch"] / ours["seconds_per_epoch"],
        "same_quality": there / here if here else None,
        "same_quality_recall@20": recall,
        "library_seconds": here,
        "plain_seconds": there,
        "capped": plain["capped"],
    }
