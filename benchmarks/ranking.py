"""Full-ranking evaluation: time against the machine's limit, and whether the lists are right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmarks import data as arrays
from benchmarks.limits import best_seconds, copy_bandwidth
from benchmarks.process import peak_mib, say
from dallrec_core.recommenders import DotProduct, build
from dallrec_core.recommenders.evaluation import score
from dallrec_core.recommenders.ranking import Ranking, rank
from dallrec_core.recommenders.training import SETTINGS, fit

DEPTH = 50
ROUNDING = 1e-4
"""Two orders of one list are both right when their scores differ by no more than that."""


def measure(file: str, *, depth: int = DEPTH, sample: int = 200, copy_mib: int = 256) -> dict:
    """Time the ranking of all items for all users with validation items.

    The vectors are those of MF-BPR after one epoch, so that scores are spread as in real use.
    `limit_seconds` is the best time of one matrix product of the same shape, plus reading and
    writing all scores once at the speed of copying memory.

    Args:
        file: from `data.prepare`.
        depth: length of the lists.
        sample: users whose lists are compared with a naive ranking.
        copy_mib: memory to copy for the bandwidth.
    """
    data = arrays.load(file)
    graph = data.graph()
    users = np.unique(data.validation["user"].to_numpy())
    model = build("MF-BPR", graph, config=SETTINGS["MF-BPR"].model)
    fit(model, graph, None, replace(SETTINGS["MF-BPR"], epochs=1))
    model.eval()
    assert isinstance(model, DotProduct)
    seconds = best_seconds(lambda: rank(model, data.train, users, depth))
    ranking = rank(model, data.train, users, depth)
    metrics = best_seconds(lambda: score(ranking, data.validation, data.n_items, (depth,)))
    left, right = (matrix.detach() for matrix in model.user_item_vectors())
    product, copy = limit(left[torch.from_numpy(users)], right, copy_mib)
    say(f"evaluation: {seconds:.3f} s, limit {product + copy:.3f} s; now NMF, and the naive lists")
    neural = build("NMF", graph, config=SETTINGS["NMF"].model).eval()

    def evaluate_neural() -> None:
        lists = rank(neural, data.train, users, depth)
        score(lists, data.validation, data.n_items, (depth,))

    wrong = wrong_lists(ranking, left, right, data.train, sample, ROUNDING)
    wrong += wrong_exact(data, depth, sample)
    return {
        "seconds": seconds,
        "limit_seconds": product + copy,
        "gemm_seconds": product,
        "copy_seconds": copy,
        "metrics_seconds": metrics,
        "nmf_seconds": best_seconds(evaluate_neural, repeats=2),
        "users": len(users),
        "items": data.n_items,
        "depth": depth,
        "lists_checked": 2 * min(sample, len(users)),
        "lists_wrong": wrong,
        "peak_mib": peak_mib(),
    }


def limit(users: Tensor, items: Tensor, copy_mib: int) -> tuple[float, float]:
    """Return the seconds of the product of all vectors, and of one pass over all the scores.

    The product is tried in blocks of several sizes; the best one counts.
    """
    best = float("inf")
    for block in (256, 1024, 4096):
        result = torch.empty(min(block, len(users)), len(items))

        def product(block: int = block, result: Tensor = result) -> None:
            for part in users.split(block):
                torch.mm(part, items.T, out=result[: len(part)])

        best = min(best, best_seconds(product))
    return best, 2 * 4 * len(users) * len(items) / copy_bandwidth(copy_mib)


def wrong_exact(data: arrays.Data, depth: int, sample: int, seed: int = 0) -> int:
    """Return how many sampled lists are wrong where scores are small whole numbers.

    Their sums are exact in any order, and most are tied: the order of ties is checked to the last
    place.
    """
    random = torch.Generator().manual_seed(seed)
    users, items = (
        torch.randint(-2, 3, (size, 8), generator=random).float()
        for size in (data.n_users, data.n_items)
    )
    everyone = np.unique(data.validation["user"].to_numpy())
    ranking = rank((users, items), data.train, everyone, depth)
    return wrong_lists(ranking, users, items, data.train, sample)


def wrong_lists(
    ranking: Ranking,
    users: Tensor,
    items: Tensor,
    known: pd.DataFrame,
    sample: int,
    tolerance: float = 0.0,
    seed: int = 0,
) -> int:
    """Compare some users' lists with a naive ranking, one user at a time, in double precision.

    Args:
        ranking: the lists to check.
        users: vectors [U, d].
        items: vectors [N, d].
        known: columns user, item: pairs that must not be listed.
        sample: number of users to check.
        tolerance: a list in another order passes when its scores agree with the naive list's
            position by position to within this much.
        seed: of the choice of users.

    Returns:
        The number of lists that are wrong.
    """
    chosen = np.random.default_rng(seed).permutation(len(ranking.users))[:sample]
    of_user = known.groupby("user")["item"].agg(list).to_dict()
    wrong = 0
    for row in chosen:
        user, listed = int(ranking.users[row]), ranking.items[row]
        scores = (items.double() @ users[user].double()).numpy()
        scores[of_user.get(user, [])] = -np.inf
        order = np.lexsort((np.arange(len(scores)), -scores))
        right = order[np.isfinite(scores[order])][: len(listed)]
        filled = listed[listed >= 0]
        same = np.array_equal(filled, right)
        if not same and tolerance and len(set(filled)) == len(filled) == len(right):
            same = np.allclose(scores[filled], scores[right], rtol=0, atol=tolerance)
        wrong += not same
    return wrong


def summary(result: dict[str, Any]) -> str:
    """Return a result in one line."""
    state = "right" if not result["lists_wrong"] else f"{result['lists_wrong']} WRONG"
    return (
        f"{result['users']:,} users x {result['items']:,} items, top {result['depth']}: "
        f"{result['seconds']:.3f} s, limit {result['limit_seconds']:.3f} s "
        f"({result['seconds'] / result['limit_seconds']:.1f}x), metrics "
        f"{result['metrics_seconds']:.3f} s; NMF with metrics {result['nmf_seconds']:.2f} s; "
        f"{result['lists_checked']} lists checked: {state}"
    )
