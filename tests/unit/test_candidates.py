"""Budgets of candidates by property, cold items, and how much a language model disagrees."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata
from tiny_data import books, fake_llm, movies  # noqa: F401  (fake_llm is a fixture)

from dallrec_core.augmentation import interactions
from dallrec_core.augmentation.candidates import candidates, shares
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


def test_limits_round_down_but_leave_everybody_one_pair() -> None:
    data = thinned(0)
    of_user, of_item = interactions.share_limits(data, 0.3)
    assert of_user.tolist() == [max(1, 3 * int(d) // 10) for d in data.user_degree]
    assert of_item.tolist() == [max(1, 3 * int(d) // 10) for d in data.item_degree]
    assert interactions.share_limits(data, 0) is None


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("budget", [40, 150, 300, 2000])
def test_budgets_hold_on_both_sides(seed: int, budget: int) -> None:
    data, rng = thinned(seed), np.random.default_rng(seed)
    scores = rng.random((data.n_users, data.n_items))
    frame = candidates(data, lambda u: scores[u], budget=budget, seed=seed)
    assert 0 < len(frame) <= budget and not frame.duplicated().any()
    assert not data.seen(frame["user"], frame["item"]).any()
    active = data.user_degree > 0
    for column, degree in (("user", data.user_degree), ("item", data.item_degree)):
        asked = np.bincount(frame[column], minlength=len(degree))
        if column == "user":
            asked, degree = asked[active], degree[active]
        limit = 2 * np.maximum(shares(degree, budget), 1)
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


def test_cold_items_keep_to_the_budget_of_users() -> None:
    data = thinned(1)
    for budget in (3, 60, 5000):
        frame = cold_items(data, budget=budget)
        assert len(frame) <= budget and not frame.duplicated().any()
        assert (data.item_degree[frame["item"]] == 0).all()
        asked = np.bincount(frame["user"], minlength=data.n_users)
        assert not asked[data.user_degree == 0].any()
        part = shares(data.user_degree[data.user_degree > 0], budget)
        assert (asked[data.user_degree > 0] <= 2 * np.maximum(part, 1)).all()
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
    frame = interactions.augment(fake_llm(), data, strategy="cold_items", budget=30)
    proposed = cold_items(data, budget=30)
    assert frame[["user", "item"]].equals(proposed) and (frame["strategy"] == "cold_items").all()

    def fame(users: np.ndarray) -> np.ndarray:
        return np.tile(data.item_degree.astype(float), (len(users), 1))

    frame = interactions.augment(fake_llm(), data, budget=90, base=fame)
    assert frame[["user", "item"]].equals(candidates(data, fame, budget=90))


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
