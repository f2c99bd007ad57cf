"""Budgets of candidates by property, cold items, and how much a language model disagrees."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata
from tiny_data import books, fake_llm, movies  # noqa: F401  (fake_llm is a fixture)

from dallrec_core.augmentation import interactions
from dallrec_core.augmentation.candidates import candidates, caps, shares
from dallrec_core.augmentation.cold import cold_items, tastes
from dallrec_core.augmentation.data import Data
from dallrec_core.augmentation.quality import disagreement
from dallrec_core.errors import UserError


def thinned(seed: int) -> Data:
    """Users and items of very different activity, some of them cold."""
    data, rng = movies(n_users=50, n_items=45, seed=seed), np.random.default_rng(seed)
    active, famous = rng.random(50) ** 2, rng.random(45) ** 2
    pairs = data.train
    keep = rng.random(len(pairs)) < (active[pairs["user"]] + famous[pairs["item"]])
    return dataclasses.replace(data, train=pairs[keep & (pairs["item"] >= 4)])


@pytest.mark.parametrize("seed", range(8))
def test_shares_never_exceed_their_limits_and_spend_what_fits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    degree, most = rng.integers(0, 60, 40), rng.integers(0, 9, 40)
    for budget in (1, 30, int(most.sum()), 10_000):
        given = shares(degree, budget, most)
        assert (given <= most).all() and given.sum() == min(budget, most.sum())
        free = given < most  # among those with room left, fewer interactions never mean less
        order = np.argsort(degree[free], kind="stable")
        assert (np.diff(given[free][order]) <= 0).all()
    assert np.array_equal(shares(degree, 100, np.full(40, 100)), shares(degree, 100))


def test_caps_round_down_and_forgive_floating_point() -> None:
    assert caps(np.array([0, 1, 9, 10, 11]), 0.3).tolist() == [0, 0, 2, 3, 3]
    assert caps(np.array([5]), 0.0) is None
    with pytest.raises(UserError, match="max_share must be 0"):
        caps(np.array([5]), -0.1)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("budget", "max_share"), [(40, 0.2), (300, 0.5), (2000, 1.0), (150, 0)])
def test_budgets_hold_on_both_sides(seed: int, budget: int, max_share: float) -> None:
    data, rng = thinned(seed), np.random.default_rng(seed)
    scores = rng.random((data.n_users, data.n_items))
    frame = candidates(data, lambda u: scores[u], budget=budget, seed=seed, max_share=max_share)
    assert 0 < len(frame) <= budget and not frame.duplicated().any()
    assert not data.seen(frame["user"], frame["item"]).any()
    active = data.user_degree > 0
    for column, degree in (("user", data.user_degree), ("item", data.item_degree)):
        asked = np.bincount(frame[column], minlength=len(degree))
        if max_share:
            assert (asked <= max_share * degree + 1e-9).all()
        if column == "user":
            asked, degree = asked[active], degree[active]
        limit = 2 * np.maximum(shares(degree, budget, caps(degree, max_share)), 1)
        assert (asked <= limit).all()


def test_users_who_like_its_attributes_are_asked_about_a_cold_item() -> None:
    data = thinned(0)
    users = np.flatnonzero(data.user_degree > 0)
    pairs = pd.DataFrame([(u, i) for u in users for i in range(4)], columns=["user", "item"])
    counted = interactions.counting_scores(data, pairs).reshape(len(users), 4)
    np.testing.assert_allclose(
        (tastes(data, users) @ data.attribute_matrix.T).toarray()[:, :4], counted
    )
    frame = cold_items(data, budget=20, seed=1)
    assert set(frame["item"]) == set(np.flatnonzero(data.item_degree == 0)) > {0, 1, 2, 3}
    assert (frame["item"].value_counts() == 20 // frame["item"].nunique()).all()
    by_user = dict(zip(users, counted, strict=True))
    for item, group in frame[frame["item"] < 4].groupby("item"):
        chosen = np.mean([by_user[u][item] for u in group["user"]])
        assert chosen > np.quantile(counted[:, item], 0.75)


@pytest.mark.parametrize("max_share", [0.0, 0.4])
def test_cold_items_keep_to_the_budget_of_users(max_share: float) -> None:
    data = thinned(1)
    for budget in (3, 60, 5000):
        frame = cold_items(data, budget=budget, max_share=max_share)
        assert len(frame) <= budget and not frame.duplicated().any()
        assert (data.item_degree[frame["item"]] == 0).all()
        asked = np.bincount(frame["user"], minlength=data.n_users)
        assert not asked[data.user_degree == 0].any()
        if max_share:
            assert (asked <= max_share * data.user_degree + 1e-9).all()
    assert cold_items(data, budget=60).equals(cold_items(data, budget=60))


def test_cold_items_without_attributes_or_without_cold_items() -> None:
    data = books()
    data = dataclasses.replace(data, train=data.train[data.train["item"] != 3])
    frame = cold_items(data, budget=4)
    assert (frame["item"] == 3).all() and len(frame) == 4
    with pytest.raises(UserError, match="every item has training interactions"):
        cold_items(books(), budget=4)


def test_each_strategy_asks_what_it_proposes(fake_llm) -> None:  # noqa: F811
    data = thinned(2)
    frame = interactions.augment(fake_llm(), data, strategy="cold_items", budget=30, max_share=0.5)
    proposed = cold_items(data, budget=30, max_share=0.5)
    assert frame[["user", "item"]].equals(proposed) and (frame["strategy"] == "cold_items").all()

    def fame(users: np.ndarray) -> np.ndarray:
        return np.tile(data.item_degree.astype(float), (len(users), 1))

    frame = interactions.augment(fake_llm(), data, budget=90, base=fame, max_share=0.5)
    assert frame[["user", "item"]].equals(candidates(data, fame, budget=90, max_share=0.5))


def judged(data: Data, p: np.ndarray, pairs: pd.DataFrame) -> pd.DataFrame:
    frame = pairs.assign(p_yes=p, answer=np.where(p >= 0.5, "yes", "no"), strategy="candidates")
    return interactions.select(frame, 0.5, max_per_user=2)


def test_disagreement_with_the_base() -> None:
    data = movies()
    scores = np.random.default_rng(3).random((data.n_users, data.n_items))
    z = (scores - scores.mean(1, keepdims=True)) / scores.std(1, keepdims=True)
    pairs = candidates(data, lambda u: scores[u], budget=150)
    base = z[pairs["user"], pairs["item"]]
    like_base = judged(data, rankdata(base) / len(base), pairs)
    same = disagreement(like_base, lambda u: scores[u], data)
    assert same["rank_correlation"] == pytest.approx(1) and same["chosen_by_both"] == 1
    assert same["pairs"] == len(pairs) and same["refused"] == pytest.approx(0.5, abs=0.01)
    against = judged(data, 1 - rankdata(base) / len(base), pairs)
    other = disagreement(against, lambda u: scores[u], data)
    assert other["rank_correlation"] == pytest.approx(-1) and other["chosen_by_both"] < 0.6


def test_disagreement_leaves_cold_items_out_and_survives_emptiness() -> None:
    data = thinned(0)
    cold = cold_items(data, budget=20)
    frame = judged(data, np.full(len(cold), 0.9), cold)
    said = disagreement(frame, lambda u: np.zeros((len(u), data.n_items)), data)
    assert said.pop("pairs") == 0 and all(np.isnan(value) for value in said.values())
