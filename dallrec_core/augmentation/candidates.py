"""Which user-item pairs are worth a question: proposals of a recommender, cold items, random draws.

All of them see training interactions only, and propose pairs that are not among them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dallrec_core.augmentation.view import TrainingView
from dallrec_core.errors import UserError

if TYPE_CHECKING:
    from dallrec_core.recommenders.base import Recommender

BLOCK = 4_000_000
"""Scores that are held in memory at a time."""

_HIDDEN = -(2**31)  # below every real score


# ---------------------------------------------------------------- proposals of a recommender


def candidates(
    data: TrainingView, base: Recommender, *, budget: int, seed: int = 0
) -> pd.DataFrame:
    """Let a fitted recommender propose at most `budget` unseen pairs, low degrees first.

    Half of the budget belongs to users, who get their best unseen items; half to items, which get
    the users who rank them best (scores standardised per user). Each node's share falls with its
    degree (`shares`), and no node is proposed more than twice its share of the whole. Of an item
    without training interactions a recommender knows nothing, so its users are drawn at random.
    Users without training interactions are left out: there is no history to show.

    Args:
        data: the training view.
        base: the recommender.
        budget: pairs to propose at most.
        seed: of the users for items without interactions.

    Returns:
        user, item (int32), by (user, item).
    """
    users, rng = _shortest_first(data), np.random.default_rng([seed, 3])
    user_share = shares(data.user_degree[users], budget - budget // 2)
    item_share = shares(data.item_degree, budget // 2)
    user_room, item_room = rooms(data.user_degree[users], budget), rooms(data.item_degree, budget)
    pairs: list[tuple[int, int]] = []

    def propose(row: int, item: int) -> None:
        pairs.append((users[row], item))
        user_room[row] -= 1
        item_room[item] -= 1

    cold, wanted = data.item_degree == 0, np.flatnonzero(item_share)
    wanted = wanted[np.argsort(data.item_degree[wanted], kind="stable")]
    top = np.full((len(wanted), min(len(users), 2 * int(item_share.max()) + 8)), _HIDDEN)
    who = np.zeros_like(top)  # the users with the highest scores of each wanted item
    for rows, scores in _scores(base, users, data.n_items):
        scores[:, cold] = rng.random((len(rows), int(cold.sum())))
        ticks = np.rint(scores.clip(-1e5, 1e5) * 1e4).astype(np.int64)
        for row, values in zip(rows, ticks, strict=True):
            values[np.concatenate(data.tastes(users[row]))] = _HIDDEN
            free = np.where((item_room > 0) & ~cold, values, _HIDDEN)
            for item in _best(free, user_share[row]).tolist():
                if free[item] > _HIDDEN:
                    propose(row, item)
                    values[item] = _HIDDEN  # the item's own share must find somebody else
        together = np.concatenate([top, ticks.T[wanted]], axis=1)
        theirs = np.concatenate([who, np.tile(rows, (len(wanted), 1))], axis=1)
        best = _best(together, top.shape[1])
        top, who = (np.take_along_axis(array, best, axis=1) for array in (together, theirs))
    for item, values, rows in zip(wanted.tolist(), top, who, strict=True):
        willing = rows[(values > _HIDDEN) & (user_room[rows] > 0)]
        for row in willing[: max(min(item_share[item], item_room[item]), 0)]:
            propose(row, item)
    return _table(pairs)


def _scores(
    base: Recommender, users: np.ndarray, n_items: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield places in `users` [B], and their scores [B, N] with mean 0 and deviation 1 per user."""
    import torch

    with torch.no_grad():
        scorer = base.scorer()
    size = max(1, BLOCK // n_items)
    for start in range(0, len(users), size):
        rows = np.arange(start, min(start + size, len(users)))
        scores = scorer(torch.as_tensor(users[rows])).numpy(force=True).astype(float)
        spread = scores.std(axis=1, keepdims=True)
        yield rows, (scores - scores.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1)


def _best(ticks: np.ndarray, k: int) -> np.ndarray:
    """Positions of the k largest integers along the last axis, largest first, ties by position."""
    return np.argsort(-ticks, kind="stable")[..., :k]


def shares(degree: np.ndarray, budget: int) -> np.ndarray:
    """Divide a budget over nodes in proportion to ``1 / sqrt(1 + degree)``; int64, same shape.

    Fractions go to the largest remainders, and among equal ones to the lower degree.
    """
    weight = 1.0 / np.sqrt(1.0 + degree)
    exact = budget * weight / weight.sum()
    whole = np.floor(exact).astype(np.int64)
    order = np.lexsort((degree, -np.round(exact - whole, 9)))
    whole[order[: budget - int(whole.sum())]] += 1
    return whole


def rooms(degree: np.ndarray, budget: int) -> np.ndarray:
    """Return how often each node may be proposed at all: twice its share of at least one; int64."""
    return 2 * np.maximum(shares(degree, budget), 1)


def _shortest_first(data: TrainingView) -> np.ndarray:
    """Return the users with a history to show, the shortest first; int64."""
    users = np.flatnonzero(data.user_degree > 0)
    return users[np.argsort(data.user_degree[users], kind="stable")]


def _table(pairs: list[tuple[int, int]]) -> pd.DataFrame:
    frame = pd.DataFrame(pairs, columns=["user", "item"]).astype("int32")
    return frame.sort_values(["user", "item"], ignore_index=True)


# ---------------------------------------------------------------- what the base thinks of answers


def disagreement(answers: pd.DataFrame, base: Recommender, data: TrainingView) -> dict[str, float]:
    """Compare the language model with the base recommender on the pairs that were asked about.

    Where they agree, the base could have added the pairs alone. Pairs with items without training
    interactions are left out: the base has no opinion on them.

    Args:
        answers: schema `added`.
        base: the fitted recommender that proposed them.
        data: the training view.

    Returns:
        pairs that both have an opinion on; rank_correlation, Spearman's, of p_yes and the base's
        score standardised per user; refused, the share that the language model answered with no;
        and chosen_by_both, of the added pairs the share that would also be there had the base
        chosen as many of each user's asked pairs by its own score.
    """
    known = (data.item_degree[answers["item"]] > 0) & answers["p_yes"].notna()
    frame = answers[known].reset_index(drop=True)
    users, place = np.unique(frame["user"], return_inverse=True)
    found, items = np.zeros(len(frame)), frame["item"].to_numpy()
    for rows, scores in _scores(base, users, data.n_items):
        inside = np.flatnonzero(np.isin(place, rows))
        found[inside] = scores[place[inside] - rows[0], items[inside]]
    frame = frame.assign(base=found)
    by_user = frame.groupby("user")
    rank = by_user["base"].rank(ascending=False, method="first")
    both = (rank <= by_user["added"].transform("sum"))[frame["added"]]
    return {
        "pairs": len(frame),
        "rank_correlation": float(frame["p_yes"].corr(frame["base"], method="spearman")),
        "refused": float((frame["answer"] == "no").mean()),
        "chosen_by_both": float(both.mean()),
    }


# ---------------------------------------------------------------- other pairs to ask about


def cold_items(data: TrainingView, *, budget: int, seed: int = 0) -> pd.DataFrame:
    """Propose at most `budget` pairs of users with items that nobody has interacted with.

    No recommender of interactions can score such an item, so its users are those who like its
    attributes (`counting_scores`), ties in random order. Every cold item gets an equal part of the
    budget; a user's part falls with the degree, and twice that part is the limit.

    Returns:
        user, item (int32), by (user, item).

    Raises:
        UserError: if there is no such item.
    """
    users, rng = _shortest_first(data), np.random.default_rng([seed, 5])
    items = np.flatnonzero(data.item_degree == 0)
    if not len(items):
        raise UserError("every item has training interactions; use strategy 'candidates'")
    room = rooms(data.user_degree[users], budget)
    share, pairs = shares(np.zeros(len(items)), budget), []
    for place in rng.permutation(len(items)):
        asked = pd.DataFrame({"user": users, "item": items[place]})
        score = np.round(counting_scores(data, asked), 9)
        order = np.lexsort((rng.random(len(users)), -score))
        chosen = order[room[order] > 0][: share[place]]
        room[chosen] -= 1
        pairs += [(user, items[place]) for user in users[chosen]]
    return _table(pairs)


def counting_scores(data: TrainingView, pairs: pd.DataFrame) -> np.ndarray:
    """A rule without a model: does the user like what has the item's attributes? float64 [n].

    Of the user's liked items the share that has an attribute, less the share of disliked ones,
    summed over the item's attributes. The item itself is left out of the history.
    """
    users, items = pairs["user"].to_numpy(), pairs["item"].to_numpy()
    own, out = data.attribute_matrix[items], np.zeros(len(pairs))
    for sign, (number, having) in zip((1, -1), data.histories, strict=True):
        inside = data.opinion(users, items) == sign
        hits = (having[users] * own).sum(axis=1) - inside * own.sum(axis=1)
        out += sign * hits / np.maximum(number[users] - inside, 1)
    return out


def mean_ratings(data: TrainingView, pairs: pd.DataFrame) -> np.ndarray:
    """The mean rating that others gave the item in training; float64 [n].

    The mean of all ratings where nobody else did; zeros where the data have no ratings.
    """
    rated, items = data.train.dropna(subset="rating"), pairs["item"]
    own = pairs[["user", "item"]].merge(rated, "left", ["user", "item"])["rating"].to_numpy()
    sums, counts = (
        np.bincount(rated["item"], weights, minlength=data.n_items)[items]
        for weights in (rated["rating"], None)
    )
    others = counts - ~np.isnan(own)
    means = (sums - np.nan_to_num(own)) / np.maximum(others, 1)
    return np.where(others > 0, means, np.nan_to_num(rated["rating"].mean()))


def random_users(data: TrainingView, rounds: int, seed: int = 0) -> np.ndarray:
    """Users to ask about each item, round by round; int64 [N, rounds], -1 where none is left.

    Uniform without replacement, as the authors draw them, but only among users who have a training
    history and not this item in it (their code checks neither).
    """
    users = np.flatnonzero(data.user_degree > 0)
    table = np.full((data.n_items, rounds), -1, dtype=np.int64)
    for item in range(data.n_items):
        rng = np.random.default_rng([seed, 4, item])
        # as many spares as the item has training users, so that skipping those cannot run short
        size = min(len(users), rounds + int(data.item_degree[item]))
        drawn = users[rng.choice(len(users), size=size, replace=False)]
        drawn = drawn[~data.seen(drawn, np.array(item))][:rounds]
        table[item, : len(drawn)] = drawn
    return table
