"""Which user-item pairs are worth an example or a question: labelled ones, proposals, random draws.

All of them see training interactions only. `parts` draws pairs whose answer is known; the others
propose pairs that are not among the training interactions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from dallrec_core.augmentation.view import Parts, TrainingView
from dallrec_core.errors import UserError

Scorer = Callable[[np.ndarray], Any]
"""From user codes [B] to scores [B, N], higher is better."""


# ---------------------------------------------------------------- pairs whose answer is known


def parts(data: TrainingView, n: int = 64, held_out: int = 200, seed: int = 0) -> Parts:
    """Draw training pairs for fine-tuning and others for evaluation, half liked, half not.

    One pair per user as long as users last; held-out pairs come from users without an example where
    possible. Where disliked pairs run short (or no ratings exist), unseen items drawn uniformly
    stand in for them (``origin`` is "drawn" instead of "rated").

    Returns:
        two frames with user, item (int32), liked (bool), origin, and remarks.

    Raises:
        UserError: if no user has two liked training items.
    """
    users = np.random.default_rng([seed, 0]).permutation(np.flatnonzero(data.user_degree >= 2))
    taken: set[tuple[int, int]] = set()
    examples = _draw(data, n, users, taken, np.random.default_rng([seed, 1]))
    shown = np.isin(users, examples["user"])
    users = np.concatenate([users[~shown], users[shown]])
    others = _draw(data, held_out, users, taken, np.random.default_rng([seed, 2]))
    if examples["liked"].nunique() < 2:
        raise UserError("no training user has enough liked items to make yes and no examples")
    notes = _shortages("examples", examples, n) + _shortages("held-out pairs", others, held_out)
    if both := len(set(examples["user"]) & set(others["user"])):
        notes.append(f"{both} users have both an example and a held-out pair")
    return Parts(examples, others, notes)


def _draw(
    data: TrainingView,
    n: int,
    users: np.ndarray,
    taken: set[tuple[int, int]],
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Draw n pairs that are not taken yet, and take them."""
    want = {True: n - n // 2, False: n // 2}
    rows: list[tuple[int, int, bool, str]] = []
    for origin in ("rated", "rated", "rated", "drawn", "drawn", "drawn"):  # passes over all users
        for user in map(int, users):
            for liked in sorted((k for k in want if want[k]), key=lambda k: -want[k]):
                pool = _pool(data, user, liked, origin, rng)
                free = [item for item in map(int, pool) if (user, item) not in taken]
                if free:
                    item = free[int(rng.integers(len(free)))]
                    want[liked] -= 1
                    taken.add((user, item))
                    rows.append((user, item, liked, "rated" if liked else origin))
                    break
    frame = pd.DataFrame(rows, columns=["user", "item", "liked", "origin"])
    return frame.astype({"user": "int32", "item": "int32", "liked": bool})


def _pool(
    data: TrainingView, user: int, liked: bool, origin: str, rng: np.random.Generator
) -> np.ndarray:
    """Items to draw a pair of this user from; a like must remain to be shown beside it."""
    likes, dislikes = data.tastes(user)
    if len(likes) < 1 + liked:
        return likes[:0]
    if liked or origin == "rated":
        return likes if liked else dislikes
    drawn = rng.integers(0, data.n_items, size=20)
    return drawn[~data.seen(np.array(user), drawn)]


def _shortages(name: str, frame: pd.DataFrame, wanted: int) -> list[str]:
    drawn = int((frame["origin"] == "drawn").sum())
    short = [f"{name}: only {len(frame)} of {wanted} could be drawn"]
    blind = [f"{name}: {drawn} of the no answers are unseen items drawn at random"]
    return (short if len(frame) < wanted else []) + (blind if drawn else [])


# ---------------------------------------------------------------- proposals of a recommender


def candidates(
    data: TrainingView, base: Scorer | Any, *, budget: int, seed: int = 0
) -> pd.DataFrame:
    """Let a base recommender propose at most `budget` unseen pairs, low degrees first.

    Half of the budget belongs to users, who get their best unseen items; half to items, which get
    the users who rank them best (scores standardised per user). Each node's share falls with its
    degree (`shares`), and no node is proposed more than twice its share of the whole. Of an item
    without training interactions a recommender knows nothing, so its users are drawn at random.
    Users without training interactions are left out: there is no history to show.

    Args:
        data: the training view.
        base: a function from user codes [B] to scores [B, N], or an object with ``scores``.
        budget: pairs to propose at most.
        seed: of the users for items without interactions.

    Returns:
        user, item (int32), by (user, item).

    Raises:
        UserError: if the budget is not positive or nobody has training interactions.
    """
    users, rng, scorer = _askable(data, budget), np.random.default_rng([seed, 3]), scorer_of(base)
    user_share = shares(data.user_degree[users], budget - budget // 2)
    item_share = shares(data.item_degree, budget // 2)
    user_room, item_room = rooms(data.user_degree[users], budget), rooms(data.item_degree, budget)
    pairs: list[tuple[int, int]] = []

    def propose(row: Any, item: Any) -> None:
        pairs.append((int(users[row]), int(item)))
        user_room[row] -= 1
        item_room[item] -= 1

    cold, wanted = data.item_degree == 0, np.flatnonzero(item_share)
    wanted = wanted[np.argsort(data.item_degree[wanted], kind="stable")]
    top = np.full((len(wanted), min(len(users), 2 * int(item_share.max()) + 8)), _HIDDEN)
    who = np.zeros_like(top)  # the users with the highest scores of each wanted item
    for rows in _blocks(len(users), data.n_items):
        scores = standardised(scorer(users[rows]))
        scores[:, cold] = rng.random((len(rows), int(cold.sum())))
        ticks = np.rint(scores.clip(-1e5, 1e5) * 1e4).astype(np.int64)
        for row, values in zip(rows, ticks, strict=True):
            values[data.items_of(users[row])] = _HIDDEN
            free = np.where((item_room > 0) & ~cold, values, _HIDDEN)
            for item in _best(free[None], user_share[row])[0] if user_share[row] else ():
                if free[item] > _HIDDEN:
                    propose(row, item)
                    values[item] = _HIDDEN  # the item's own share must find somebody else
        scores = np.concatenate([top, ticks.T[wanted]], axis=1)
        rows = np.concatenate([who, np.tile(rows, (len(wanted), 1))], axis=1)
        best = _best(scores, top.shape[1])
        top, who = (np.take_along_axis(array, best, axis=1) for array in (scores, rows))
    for item, scores, rows in zip(wanted, top, who, strict=True):
        willing = rows[(scores > _HIDDEN) & (user_room[rows] > 0)]
        for row in willing[: max(min(item_share[item], item_room[item]), 0)]:
            propose(row, item)
    return _table(pairs)


_HIDDEN = -(2**31)  # below every real score


def _blocks(n_users: int, n_items: int) -> Iterator[np.ndarray]:
    """Rows 0 … n_users - 1 in blocks whose scores fit into memory."""
    size = max(1, 4_000_000 // max(n_items, 1))
    for start in range(0, n_users, size):
        yield np.arange(start, min(start + size, n_users))


def _best(ticks: np.ndarray, k: int) -> np.ndarray:
    """Positions of the k largest integers of each row [R, C], largest first, ties by position."""
    return np.argsort(-ticks, axis=1, kind="stable")[:, :k]


def shares(degree: np.ndarray, budget: int) -> np.ndarray:
    """Divide a budget over nodes in proportion to ``1 / sqrt(1 + degree)``; int64, same shape.

    Fractions go to the largest remainders, and among equal ones to the lower degree.
    """
    weight = 1.0 / np.sqrt(1.0 + degree)
    exact = budget * weight / weight.sum()
    whole = np.floor(exact).astype(np.int64)
    order = np.lexsort((np.arange(len(degree)), degree, -np.round(exact - whole, 9)))
    whole[order[: budget - int(whole.sum())]] += 1
    return whole


def rooms(degree: np.ndarray, budget: int) -> np.ndarray:
    """Return how often each node may be proposed at all: twice its share of at least one; int64."""
    return 2 * np.maximum(shares(degree, budget), 1)


def scorer_of(base: Scorer | Any) -> Callable[[np.ndarray], np.ndarray]:
    """A function from user codes [B] to float64 scores [B, N], of a callable or a recommender."""
    if not hasattr(base, "scores"):
        return lambda users: np.asarray(base(users), dtype=float)
    import torch

    with torch.no_grad():
        scores = base.scorer() if hasattr(base, "scorer") else base.scores
    return lambda users: scores(torch.as_tensor(users)).detach().cpu().numpy().astype(float)


def standardised(scores: np.ndarray) -> np.ndarray:
    """Scores [B, N] less the mean of their row, divided by its standard deviation."""
    spread = scores.std(axis=1, keepdims=True)
    return (scores - scores.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1)


def base_scores(pairs: pd.DataFrame, base: Scorer | Any, data: TrainingView) -> np.ndarray:
    """The base's score of each pair, standardised over all items of its user; float64 [n]."""
    scorer, scores = scorer_of(base), np.zeros(len(pairs))
    users, place = np.unique(pairs["user"].to_numpy(), return_inverse=True)
    for rows in _blocks(len(users), data.n_items):
        of_users = standardised(scorer(users[rows]))
        inside = np.flatnonzero(np.isin(place, rows))
        scores[inside] = of_users[place[inside] - rows[0], pairs["item"].to_numpy()[inside]]
    return scores


def _askable(data: TrainingView, budget: int) -> np.ndarray:
    """Return the users with a history to show, the shortest first; int64."""
    if budget < 1:
        raise UserError(f"budget must be at least 1 question, not {budget}")
    users = np.flatnonzero(data.user_degree > 0)
    if not len(users):
        raise UserError("no user has training interactions, so there is nobody to ask about")
    return users[np.argsort(data.user_degree[users], kind="stable")]


def _table(pairs: list[tuple[int, int]]) -> pd.DataFrame:
    frame = pd.DataFrame(pairs, columns=["user", "item"]).astype("int32")
    return frame.sort_values(["user", "item"], ignore_index=True)


# ---------------------------------------------------------------- other pairs to ask about


def cold_items(data: TrainingView, *, budget: int, seed: int = 0) -> pd.DataFrame:
    """Propose at most `budget` pairs of users with items that nobody has interacted with.

    No recommender of interactions can score such an item, so its users are those who like its
    attributes (`counting_scores`), ties in random order. Every cold item gets an equal part of the
    budget; a user's part falls with the degree, and twice that part is the limit.

    Returns:
        user, item (int32), by (user, item).

    Raises:
        UserError: if there is no such item, besides the reasons of `candidates`.
    """
    users, rng = _askable(data, budget), np.random.default_rng([seed, 5])
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
        pairs += [(int(user), int(items[place])) for user in users[chosen]]
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
