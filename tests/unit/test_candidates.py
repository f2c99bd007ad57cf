"""Which pairs are asked about: budgets on both sides, cold items, and none from training."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pandas as pd
import pytest
from tiny_data import Fixed, books, movies, popularity

from dallrec_core.augmentation import TrainingView
from dallrec_core.augmentation.candidates import (
    candidates,
    cold_items,
    counting_scores,
    shares,
)
from dallrec_core.errors import UserError


def thinned(seed: int) -> TrainingView:
    """Users and items of very different activity, some of them cold."""
    data, rng = movies(n_users=50, n_items=45, seed=seed), np.random.default_rng(seed)
    active, famous = rng.random(50) ** 2, rng.random(45) ** 2
    pairs = data.train
    keep = rng.random(len(pairs)) < (active[pairs["user"]] + famous[pairs["item"]])
    return dataclasses.replace(data, train=pairs[keep & (pairs["item"] >= 4)])


# ---------------------------------------------------------------- proposals of a recommender


def test_shares_fall_with_degree_and_sum_to_the_budget():
    for budget in (1, 7, 100):
        share = shares(np.array([0, 3, 8, 8, 99]), budget)
        assert share.sum() == budget and (np.diff(share) <= 0).all()
    assert shares(np.array([99, 0, 24]), 130).tolist() == [10, 100, 20]  # 1/10, 1, 1/5


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("budget", [3, 40, 150, 300, 2000])
@pytest.mark.parametrize("strategy", ["candidates", "cold_items"])
def test_proposals_are_unseen_and_budgets_hold_on_both_sides(
    strategy: str, budget: int, seed: int
) -> None:
    data = thinned(seed)
    base = Fixed(np.random.default_rng(seed).random((data.n_users, data.n_items)))
    propose = partial(candidates, base=base) if strategy == "candidates" else cold_items
    frame = propose(data, budget=budget, seed=seed)
    assert 0 < len(frame) <= budget and not frame.duplicated().any()
    assert frame.equals(propose(data, budget=budget, seed=seed))
    assert not data.seen(frame["user"], frame["item"]).any()
    active, cold = data.user_degree > 0, data.item_degree == 0
    asked = np.bincount(frame["user"], minlength=data.n_users)
    assert not asked[~active].any()  # users without a history are not asked about
    assert (asked[active] <= 2 * np.maximum(shares(data.user_degree[active], budget), 1)).all()
    asked = np.bincount(frame["item"], minlength=data.n_items)
    if strategy == "cold_items":
        assert not asked[~cold].any()
    else:
        assert (asked <= 2 * np.maximum(shares(data.item_degree, budget), 1)).all()
        assert budget < 300 or asked[cold].any(), "cold items are asked about"


def test_low_degrees_get_more_questions():
    data = movies(n_users=60)
    few = data.train[(data.train["user"] >= 30) | (data.train["item"] < 8)]
    data = dataclasses.replace(data, train=few)
    frame = candidates(data, popularity(data), budget=300)
    per_user = np.bincount(frame["user"], minlength=60)
    active = data.user_degree > 0
    assert per_user[:30][active[:30]].mean() > 1.3 * per_user[30:].mean()


def test_users_get_what_the_base_ranks_high():
    data = movies(n_users=40)
    scores = np.random.default_rng(1).random((40, 40))
    frame = candidates(data, Fixed(scores), budget=120)
    assert scores[frame["user"], frame["item"]].mean() > 0.75


def test_many_users_are_scored_in_blocks(monkeypatch: pytest.MonkeyPatch):
    data, sizes = thinned(3), []
    base = Fixed(np.random.default_rng(2).random((data.n_users, data.n_items)))
    whole = candidates(data, base, budget=300)
    base.scorer = lambda: lambda users: sizes.append(len(users)) or base.table[users]
    monkeypatch.setattr("dallrec_core.augmentation.candidates.BLOCK", 13 * data.n_items)
    assert candidates(data, base, budget=300).equals(whole)
    assert len(sizes) == 4 and max(sizes) == 13


# ---------------------------------------------------------------- cold items and random users


def test_counting_rule_against_a_loop():
    data = thinned(1)
    pairs = pd.DataFrame(np.argwhere(np.ones((50, 45))), columns=["user", "item"])
    expected = np.zeros(len(pairs))
    for row, (user, item) in enumerate(pairs.to_numpy()):
        for sign, items in zip((1, -1), data.tastes(user), strict=True):
            shown = [data.values[i] for i in items if i != item]
            hits = sum(value in values for values in shown for value in data.values[item])
            expected[row] += sign * hits / max(len(shown), 1)
    np.testing.assert_allclose(counting_scores(data, pairs), expected)


def test_users_who_like_its_attributes_are_asked_about_a_cold_item() -> None:
    data = thinned(0)
    users = np.flatnonzero(data.user_degree > 0)
    frame = cold_items(data, budget=20, seed=1)
    assert set(frame["item"]) == set(np.flatnonzero(data.item_degree == 0)) > {0, 1, 2, 3}
    assert (frame["item"].value_counts() == 20 // frame["item"].nunique()).all()
    for item, group in frame[frame["item"] < 4].groupby("item"):
        everybody = pd.DataFrame({"user": users, "item": item})
        scores = pd.Series(counting_scores(data, everybody), index=users)
        assert scores[group["user"]].mean() > scores.quantile(0.75)


def test_cold_items_without_attributes_or_without_cold_items() -> None:
    data = books()
    data = dataclasses.replace(data, train=data.train[data.train["item"] != 3])
    frame = cold_items(data, budget=4)
    assert (frame["item"] == 3).all() and len(frame) == 4
    with pytest.raises(UserError, match="every item has training interactions"):
        cold_items(books(), budget=4)
