"""From pairs worth a question to p(yes) to edges: against libraries, loops and rules by hand."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from statsmodels.stats.proportion import proportion_confint
from tiny_data import Fixed, books, movies

from dallrec_core.augmentation import TrainingView, selection
from dallrec_core.augmentation.candidates import (
    candidates,
    cold_items,
    counting_scores,
    mean_ratings,
    shares,
)
from dallrec_core.augmentation.selection import METHODS, fit_calibration, precision_at_edge
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


def test_low_degrees_get_more_questions_about_what_the_base_ranks_high():
    data = movies(n_users=60)
    few = data.train[(data.train["user"] >= 30) | (data.train["item"] < 8)]
    data = dataclasses.replace(data, train=few)
    scores = np.random.default_rng(1).random((60, 40))
    frame = candidates(data, Fixed(scores), budget=300)
    per_user = np.bincount(frame["user"], minlength=60)
    assert per_user[:30][data.user_degree[:30] > 0].mean() > 1.3 * per_user[30:].mean()
    assert scores[frame["user"], frame["item"]].mean() > 0.7


def test_many_users_are_scored_in_blocks(monkeypatch: pytest.MonkeyPatch):
    data, sizes = thinned(3), []
    base = Fixed(np.random.default_rng(2).random((data.n_users, data.n_items)))
    whole = candidates(data, base, budget=300)
    base.scorer = lambda: lambda users: sizes.append(len(users)) or base.table[users]
    monkeypatch.setattr("dallrec_core.augmentation.candidates.BLOCK", 13 * data.n_items)
    assert candidates(data, base, budget=300).equals(whole)
    assert len(sizes) == 4 and max(sizes) == 13


# ---------------------------------------------------------------- cold items


def test_both_rules_without_a_model_against_a_loop():
    data = thinned(1)
    pairs = pd.DataFrame(np.argwhere(np.ones((50, 45))), columns=["user", "item"])
    train = data.train.assign(rating=data.train["rating"].where(data.train.index % 5 > 0))
    counted, rated = np.zeros(len(pairs)), []
    for row, (user, item) in enumerate(pairs.to_numpy()):
        for sign, items in zip((1, -1), data.tastes(user), strict=True):
            shown = [data.values[i] for i in items if i != item]
            hits = sum(value in values for values in shown for value in data.values[item])
            counted[row] += sign * hits / max(len(shown), 1)
        others = train[(train["item"] == item) & (train["user"] != user)]["rating"].dropna()
        rated.append(others.mean() if len(others) else train["rating"].mean())
    np.testing.assert_allclose(counting_scores(data, pairs), counted)
    found = mean_ratings(dataclasses.replace(data, train=train), pairs)
    np.testing.assert_allclose(found, rated, rtol=1e-5)
    unrated = dataclasses.replace(data, train=train.assign(rating=np.float32("nan")))
    assert (mean_ratings(unrated, pairs) == 0).all()


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


def answers(n: int = 400, temperature: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pairs whose true logit is what the model said, divided by a temperature."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 2, n)
    said, true = (1 / (1 + np.exp(-x)) for x in (logit, logit / temperature))
    return said, rng.random(n) < true


# ---------------------------------------------------------------- calibration


def test_isotonic_pools_violators_by_hand() -> None:
    made = fit_calibration([0.1, 0.4, 0.6, 0.9], [False, True, False, True])
    assert made([0.0, 0.1, 0.4, 0.5, 0.6, 0.9, 1.0]).tolist() == [0, 0, 0.5, 0.5, 0.5, 1, 1]


def test_the_temperature_is_where_the_likelihood_is_highest() -> None:
    p, liked = answers(300, 2.0)
    tried = np.linspace(0.5, 5, 4501)
    q = 1 / (1 + np.exp(-np.log(p / (1 - p))[:, None] / tried))
    likelihood = np.log(np.where(liked[:, None], q, 1 - q)).sum(axis=0)
    made = fit_calibration(p, liked, "temperature")
    assert made.temperature == pytest.approx(tried[likelihood.argmax()], abs=0.002)
    assert made([0.8])[0] == pytest.approx(1 / (1 + 0.25 ** (1 / made.temperature)))
    opposite = fit_calibration(1 - p, liked, "temperature")
    assert opposite.temperature == np.inf and opposite([0.01, 0.99]).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("method", METHODS)
def test_maps_rise_and_keep_what_is_missing(method: str) -> None:
    p, liked = answers(50, 3.0)
    p[:3] = np.nan
    mapped = fit_calibration(p, liked, method)(np.append(np.linspace(0, 1, 101), np.nan))
    assert (np.diff(mapped[:-1]) >= 0).all() and np.isnan(mapped[-1])
    assert mapped.dtype == np.float32 and 0 <= mapped[0] <= mapped[-2] <= 1
    alone = fit_calibration([0.3, 0.6], [True, True], method)([0.3, 0.6])  # one class only
    assert np.isfinite(alone).all()


def test_calibration_error_and_bins() -> None:
    # bins: |.05 - 1| of one pair, |.15 - .5| of two, |1 - 1| of one
    error = selection.expected_calibration_error
    by_hand = (0.95 + 2 * 0.35 + 0) / 4
    assert error([0.05, 0.15, 0.15, 1.0], [True, False, True, True]) == pytest.approx(by_hand)
    assert error([0.25] * 4, [True, False, False, False]) == 0
    p, liked = answers(500, 2.0)
    table = selection.reliability(p, liked, bins=8)
    share, said = calibration_curve(liked, p, n_bins=8)
    np.testing.assert_allclose(table[["liked", "said"]], np.transpose([share, said]))
    assert table["n"].sum() == 500 and ((table["said"] - table["low"]) <= 0.125).all()


def test_wilson_intervals() -> None:
    said = precision_at_edge([0.9] * 10 + [0.1], [True] * 8 + [False] * 3, 0.5)
    theirs = binomtest(8, 10).proportion_ci(method="wilson")
    expected = {"pairs": 10, "precision": 0.8, "low": theirs.low, "high": theirs.high}
    assert said == pytest.approx(expected)
    table = selection.reliability([0.9] * 10, [True] * 8 + [False] * 2)
    assert table.loc[0, ["from", "to"]].tolist() == pytest.approx([said["low"], said["high"]])
    none = precision_at_edge([0.1], [True], 0.5)
    assert none["pairs"] == 0 and np.isnan([none["precision"], none["low"]]).all()


def test_halves_share_no_pair_and_are_balanced() -> None:
    judged = pd.DataFrame({"pair": range(101), "liked": [True] * 60 + [False] * 41})
    one, other = selection.halves(judged, seed=1)
    assert sorted([*one["pair"], *other["pair"]]) == list(range(101))
    assert abs(one["liked"].sum() - other["liked"].sum()) <= 1 and abs(len(one) - len(other)) == 1
    again = selection.halves(judged, seed=1)[0]
    assert one.equals(again) and not one.equals(selection.halves(judged, seed=2)[0])


def test_bad_input_is_named() -> None:
    with pytest.raises(UserError, match="no calibration 'platt'. Valid: isotonic, temperature"):
        fit_calibration([0.5], [True], "platt")
    with pytest.raises(UserError, match="no held-out pair was answered"):
        fit_calibration([float("nan")], [True])


# ---------------------------------------------------------------- threshold and choice


def test_threshold_reaches_the_wanted_precision() -> None:
    p = np.linspace(0, 1, 101)
    judged = pd.DataFrame({"p_yes": p, "liked": p > 0.4})
    choose = selection.choose_threshold
    assert choose(judged, precision=1.0) == pytest.approx(0.41)
    assert choose(judged, precision=0.6) < 0.41
    assert choose(judged.assign(liked=False), precision=0.9) == pytest.approx(0.91)


def test_a_rule_is_beaten_on_pairs_that_only_one_of_the_two_chose() -> None:
    liked = np.array([1, 1, 1, 1, 0, 0, 1, 0, 0, 0], bool)
    p = np.array([0.9, 0.9, 0.8, 0.8, 0.7, 0.1, 0.1, 0.1, 0.1, 0.1])
    rule = np.array([5, 0, 0, 0, 5, 5, 5, 5, 0, 0])  # both choose pairs 0 and 4
    found = selection.against_rule(p, rule, liked, 0.6)
    assert found["precision"] == 2 / 5 and found["difference"] == pytest.approx(4 / 5 - 2 / 5)
    # of the three that it alone chose, the model has 3 right and the rule 1 (Newcombe's method 10)
    ours, theirs = (proportion_confint(n, 3, method="wilson") for n in (3, 1))
    low = 2 / 3 - np.hypot(1 - ours[0], theirs[1] - 1 / 3)
    high = 2 / 3 + np.hypot(ours[1] - 1, 1 / 3 - theirs[0])
    assert (found["low"], found["high"]) == pytest.approx((3 / 5 * low, 3 / 5 * high))
    same = selection.against_rule(p, p, liked, 0.6)
    assert same == {"precision": 4 / 5, "difference": 0, "low": 0, "high": 0}
    assert np.isnan(selection.against_rule(p, rule, liked, np.inf)["precision"])


def test_select_takes_the_most_probable_per_user() -> None:
    frame = pd.DataFrame({"user": [0, 0, 0, 1, 1], "item": [1, 2, 3, 1, 2]})
    frame = frame.assign(p_yes=[0.6, 0.9, 0.7, 0.4, 0.55], strategy="candidates", answer="yes")
    chosen = selection.select(frame, 0.5, max_per_user=2)
    assert chosen["added"].tolist() == [False, True, True, False, True]
    assert selection.select(frame, 0.5, max_per_user=0)["added"].sum() == 4
    assert selection.select(frame, 0.56)["added"].sum() == 3
    assert chosen["weight"].to_numpy() == pytest.approx(frame["p_yes"])
    # each item's first Yes with full weight, whatever threshold and limits say
    paper = frame.assign(strategy="paper", item=[0, 0, 1, 1, 2])
    paper["answer"] = ["no", "yes", "yes", "yes", "unparsed"]
    for options in ({}, {"max_per_user": 1, "limits": (np.zeros(2), np.zeros(3))}):
        chosen = selection.select(paper, np.inf, **options)
        assert chosen["added"].tolist() == [False, True, True, False, False]
        assert (chosen["weight"] == 1).all()


def test_no_user_and_no_item_gets_more_pairs_than_its_limit() -> None:
    pairs = pd.MultiIndex.from_product([range(6), range(5)], names=["user", "item"])
    frame = pairs.to_frame(index=False).assign(strategy="candidates", answer="yes")
    frame["p_yes"] = np.random.default_rng(0).random(30)
    limits = np.array([1, 2, 3, 1, 2, 3]), np.array([1, 4, 2, 1, 4])
    chosen = selection.select(frame, 0.1, max_per_user=2, limits=limits)
    added = chosen[chosen["added"]]
    # the same by hand: each user's best, then each item's best of what is left
    usable = frame[frame["p_yes"] >= 0.1].groupby("user")
    kept = pd.concat(g.nlargest(min(2, limits[0][user]), "p_yes") for user, g in usable)
    kept = pd.concat(g.nlargest(limits[1][item], "p_yes") for item, g in kept.groupby("item"))
    assert set(added.index) == set(kept.index) and 3 < len(added) < 11


def test_limits_round_down_but_leave_everybody_one_pair() -> None:
    data = movies()
    limits = selection.share_limits(data, 0.3)
    for limit, degree in zip(limits, (data.user_degree, data.item_degree), strict=True):
        assert limit.tolist() == [max(1, 3 * int(d) // 10) for d in degree]
    assert selection.share_limits(data, 0) is None


def test_ties_of_the_staircase_are_broken_by_what_the_model_said() -> None:
    p, liked = answers(200, 3.0)
    frame = pd.DataFrame({"user": 0, "item": range(200), "p_yes": p.astype(np.float32)})
    frame = frame.assign(strategy="candidates", answer=np.where(p >= 0.5, "yes", "no"))
    mapped = selection.calibrated(frame, fit_calibration(p, liked, "isotonic"))
    assert mapped["p_model"].equals(frame["p_yes"]) and mapped["answer"].equals(frame["answer"])
    chosen = selection.select(mapped, 0.0, max_per_user=5)
    assert set(chosen.index[chosen["added"]]) == set(frame["p_yes"].nlargest(5).index)


@pytest.mark.parametrize("method", METHODS)
def test_pairs_without_an_answer_change_nothing_and_are_never_added(method: str) -> None:
    p, liked = answers(200)
    judged = pd.DataFrame({"user": np.arange(200) % 7, "item": range(200), "p_yes": p})
    judged = judged.assign(liked=liked, strategy="candidates", answer="yes")
    mixed = pd.concat([judged, judged.assign(p_yes=np.nan)], ignore_index=True)
    made = fit_calibration(mixed["p_yes"], mixed["liked"], method)
    assert made == fit_calibration(p, liked, method)
    without, gaps = (selection.calibrated(each, made) for each in (judged, mixed))
    threshold = selection.choose_threshold(gaps)
    assert threshold == selection.choose_threshold(without)
    for measure in (
        selection.expected_calibration_error,
        partial(precision_at_edge, threshold=0.5),
    ):
        assert measure(gaps["p_yes"], mixed["liked"]) == measure(without["p_yes"], liked)
    added = selection.select(gaps, threshold)["added"]
    assert added.any() and not added[200:].any()
    assert added[:200].equals(selection.select(without, threshold)["added"])
