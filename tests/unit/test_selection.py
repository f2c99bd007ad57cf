"""From p(yes) to edges: against scikit-learn, closed forms, rules written out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.isotonic import IsotonicRegression
from tiny_data import movies

from dallrec_core.augmentation import selection
from dallrec_core.augmentation.selection import METHODS, fit_calibration, precision_at_edge
from dallrec_core.errors import UserError


def answers(n: int = 400, temperature: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pairs whose true logit is what the model said, divided by a temperature."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 2, n)
    said, true = (1 / (1 + np.exp(-x)) for x in (logit, logit / temperature))
    return said, rng.random(n) < true


# ---------------------------------------------------------------- calibration


def test_isotonic_is_scikit_learns_map_and_pools_violators_by_hand() -> None:
    p, liked = answers()
    theirs = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(p, liked)
    grid = np.linspace(0, 1, 501)
    np.testing.assert_allclose(fit_calibration(p, liked)(grid), theirs.predict(grid), atol=1e-6)
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
    with pytest.raises(UserError, match="threshold"):
        selection.choose_threshold(pd.DataFrame({"p_yes": [], "liked": []}))
    with pytest.raises(UserError, match="unknown calibration 'platt'; use one of: isotonic"):
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


def test_select_takes_the_most_probable_per_user() -> None:
    frame = pd.DataFrame({"user": [0, 0, 0, 1, 1], "item": [1, 2, 3, 1, 2]})
    frame = frame.assign(p_yes=[0.6, 0.9, 0.7, 0.4, 0.55], strategy="candidates")
    chosen = selection.select(frame, 0.5, max_per_user=2)
    assert chosen["added"].tolist() == [False, True, True, False, True]
    assert selection.select(frame, 0.5, max_per_user=0)["added"].sum() == 4
    assert selection.select(frame, 0.56)["added"].sum() == 3
    assert chosen["weight"].to_numpy() == pytest.approx(frame["p_yes"])
    paper = frame.assign(strategy="paper", item=0)  # each item's first Yes, with full weight
    chosen = selection.select(paper, 0.5)
    assert chosen["added"].tolist() == [True, *[False] * 4] and (chosen["weight"] == 1).all()


def test_no_user_and_no_item_gets_more_pairs_than_its_limit() -> None:
    pairs = pd.MultiIndex.from_product([range(6), range(5)], names=["user", "item"])
    frame = pairs.to_frame(index=False).assign(strategy="candidates")
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


def test_calibrated_answers_keep_what_the_model_said() -> None:
    p, liked = answers(200, 3.0)
    frame = pd.DataFrame({"user": 0, "item": range(200), "p_yes": p.astype(np.float32)})
    frame = frame.assign(strategy="candidates", answer=np.where(p >= 0.5, "yes", "no"))
    made = fit_calibration(p, liked, "isotonic")
    mapped = selection.calibrated(frame, made)
    assert np.array_equal(mapped["p_yes"], made(frame["p_yes"]))
    assert mapped["p_model"].equals(frame["p_yes"]) and mapped["answer"].equals(frame["answer"])
    # the staircase has ties, which the model's own probability breaks
    chosen = selection.select(mapped, 0.0, max_per_user=5)
    assert set(chosen.index[chosen["added"]]) == set(frame["p_yes"].nlargest(5).index)


@pytest.mark.parametrize("method", METHODS)
def test_pairs_without_an_answer_change_nothing_and_are_never_added(method: str) -> None:
    p, liked = answers(200)
    judged = pd.DataFrame({"user": np.arange(200) % 7, "item": range(200), "p_yes": p})
    judged = judged.assign(liked=liked, strategy="candidates")
    mixed = pd.concat([judged, judged.assign(p_yes=np.nan)], ignore_index=True)
    made = fit_calibration(mixed["p_yes"], mixed["liked"], method)
    assert made == fit_calibration(p, liked, method)
    without, gaps = (selection.calibrated(each, made) for each in (judged, mixed))
    assert gaps.loc[200:, ["p_yes", "p_model"]].isna().all(axis=None)
    threshold = selection.choose_threshold(gaps)
    assert threshold == selection.choose_threshold(without)
    error = selection.expected_calibration_error
    assert error(gaps["p_yes"], mixed["liked"]) == error(without["p_yes"], liked)
    edges = [precision_at_edge(each["p_yes"], each["liked"], threshold) for each in (gaps, without)]
    assert edges[0] == edges[1]
    added = selection.select(gaps, threshold)["added"]
    assert added.any() and not added[200:].any()
    assert added[:200].equals(selection.select(without, threshold)["added"])
