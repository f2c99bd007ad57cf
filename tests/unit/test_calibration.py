"""Calibration: against scikit-learn, closed forms and a model whose temperature is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import calibration_curve
from sklearn.isotonic import IsotonicRegression

from dallrec_core.augmentation import interactions
from dallrec_core.augmentation.calibration import (
    METHODS,
    beats_guessing,
    expected_calibration_error,
    fit,
    halves,
    precision_at_edge,
    reliability,
)
from dallrec_core.errors import UserError


def answers(n: int = 400, temperature: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pairs whose true logit is what the model said, divided by a temperature."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 2, n)
    said, true = (1 / (1 + np.exp(-x)) for x in (logit, logit / temperature))
    return said, rng.random(n) < true


def test_isotonic_is_scikit_learns_map() -> None:
    p, liked = answers()
    theirs = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(p, liked)
    grid = np.linspace(0, 1, 501)
    np.testing.assert_allclose(fit(p, liked)(grid), theirs.predict(grid), atol=1e-6)


def test_isotonic_pools_adjacent_violators_by_hand() -> None:
    made = fit([0.1, 0.4, 0.6, 0.9], [False, True, False, True])
    assert made([0.0, 0.1, 0.4, 0.5, 0.6, 0.9, 1.0]).tolist() == [0, 0, 0.5, 0.5, 0.5, 1, 1]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_a_known_temperature_is_found(temperature: float) -> None:
    p, liked = answers(100_000, temperature)
    made = fit(p, liked, "temperature")
    assert made.temperature == pytest.approx(temperature, rel=0.03)
    logit = np.log(0.8 / 0.2)
    assert made([0.8])[0] == pytest.approx(1 / (1 + np.exp(-logit / made.temperature)))
    assert made([0.5])[0] == 0.5


def test_the_temperature_is_where_the_likelihood_is_highest() -> None:
    p, liked = answers(300, 2.0)
    logit = np.log(p / (1 - p))
    tried = np.linspace(0.5, 5, 4501)
    q = 1 / (1 + np.exp(-logit[:, None] / tried))
    likelihood = np.log(np.where(liked[:, None], q, 1 - q)).sum(axis=0)
    assert fit(p, liked, "temperature").temperature == pytest.approx(
        tried[likelihood.argmax()], abs=0.002
    )


def test_answers_that_say_the_opposite_are_worth_one_half() -> None:
    p, liked = answers()
    made = fit(1 - p, liked, "temperature")
    assert made.temperature == np.inf and made([0.01, 0.99]).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("method", METHODS)
def test_maps_rise_and_keep_what_is_missing(method: str) -> None:
    p, liked = answers(50, 3.0)
    p[:3] = np.nan
    made = fit(p, liked, method)
    mapped = made(np.append(np.linspace(0, 1, 101), np.nan))
    assert (np.diff(mapped[:-1]) >= 0).all() and np.isnan(mapped[-1])
    assert mapped.dtype == np.float32 and 0 <= mapped[0] <= mapped[-2] <= 1
    alone = fit([0.3, 0.6], [True, True], method)([0.3, 0.6])  # one class only
    assert np.isfinite(alone).all()


@pytest.mark.parametrize("method", ["isotonic", "temperature"])
def test_calibration_mends_an_overconfident_model(method: str) -> None:
    p, liked = answers(6000, 3.0)
    made = fit(p[:3000], liked[:3000], method)
    before, after = (expected_calibration_error(x[3000:], liked[3000:]) for x in (p, made(p)))
    assert before > 0.15 and after < 0.05


def test_expected_calibration_error_by_hand() -> None:
    p = [0.05, 0.15, 0.15, 1.0]
    liked = [True, False, True, True]
    # bins: |.05 - 1| of one pair, |.15 - .5| of two, |1 - 1| of one
    assert expected_calibration_error(p, liked) == pytest.approx((0.95 + 2 * 0.35 + 0) / 4)
    assert expected_calibration_error([0.25] * 4, [True, False, False, False]) == 0


def test_bins_are_scikit_learns() -> None:
    p, liked = answers(500, 2.0)
    table = reliability(p, liked, bins=8)
    share, said = calibration_curve(liked, p, n_bins=8)
    np.testing.assert_allclose(table["liked"], share)
    np.testing.assert_allclose(table["said"], said)
    assert table["n"].sum() == 500 and ((table["said"] - table["low"]) <= 0.125).all()


def test_wilson_intervals_by_hand() -> None:
    said = precision_at_edge([0.9] * 10 + [0.1], [True] * 8 + [False] * 3, 0.5)
    z, n, share = 1.959964, 10, 0.8
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert said == pytest.approx(
        {"pairs": 10, "precision": 0.8, "low": middle - reach, "high": middle + reach}, rel=1e-5
    )
    table = reliability([0.9] * 10, [True] * 8 + [False] * 2)
    assert table.loc[0, ["from", "to"]].tolist() == pytest.approx([said["low"], said["high"]])
    none = precision_at_edge([0.1], [True], 0.5)
    assert none["pairs"] == 0 and np.isnan([none["precision"], none["low"]]).all()


@pytest.mark.parametrize(("right", "of", "beats"), [(8, 10, False), (16, 20, True), (0, 0, False)])
def test_only_an_interval_above_one_half_beats_guessing(right: int, of: int, beats: bool) -> None:
    edge = precision_at_edge([0.9] * of + [0.1], [True] * right + [False] * (of - right + 1), 0.5)
    assert beats_guessing(edge) is beats


def test_halves_share_no_pair_and_are_balanced() -> None:
    judged = pd.DataFrame({"pair": range(101), "liked": [True] * 60 + [False] * 41})
    one, other = halves(judged, seed=1)
    assert sorted([*one["pair"], *other["pair"]]) == list(range(101))
    assert abs(one["liked"].sum() - other["liked"].sum()) <= 1 and abs(len(one) - len(other)) == 1
    assert one.equals(halves(judged, seed=1)[0]) and not one.equals(halves(judged, seed=2)[0])


def test_calibrated_answers_keep_what_the_model_said() -> None:
    p, liked = answers(200, 3.0)
    frame = pd.DataFrame({"user": 0, "item": range(200), "p_yes": p.astype(np.float32)})
    frame = frame.assign(strategy="candidates", answer=np.where(p >= 0.5, "yes", "no"))
    made = fit(p, liked, "isotonic")
    mapped = interactions.calibrated(frame, made)
    assert np.array_equal(mapped["p_yes"], made(frame["p_yes"]))
    assert mapped["p_model"].equals(frame["p_yes"]) and mapped["answer"].equals(frame["answer"])
    # the staircase has ties, which the model's own probability breaks
    chosen = interactions.select(mapped, 0.0, max_per_user=5)
    assert set(chosen.index[chosen["added"]]) == set(frame["p_yes"].nlargest(5).index)


@pytest.mark.parametrize("method", METHODS)
def test_pairs_without_an_answer_change_nothing_and_are_never_added(method: str) -> None:
    p, liked = answers(200)
    judged = pd.DataFrame({"user": np.arange(200) % 7, "item": range(200), "p_yes": p})
    judged = judged.assign(liked=liked, strategy="candidates")
    gaps = judged.assign(p_yes=np.nan)
    mixed = pd.concat([judged, gaps], ignore_index=True)
    made = fit(mixed["p_yes"], mixed["liked"], method)
    assert made == fit(p, liked, method)
    without, with_gaps = (interactions.calibrated(each, made) for each in (judged, mixed))
    assert with_gaps.loc[200:, ["p_yes", "p_model"]].isna().all(axis=None)
    threshold = interactions.choose_threshold(with_gaps)
    assert threshold == interactions.choose_threshold(without)
    for measure in (expected_calibration_error, lambda q, y: precision_at_edge(q, y, threshold)):
        assert measure(with_gaps["p_yes"], mixed["liked"]) == measure(without["p_yes"], liked)
    added = interactions.select(with_gaps, threshold)["added"]
    assert added.any() and not added[200:].any()
    assert added[:200].equals(interactions.select(without, threshold)["added"])


def test_bad_input_is_named() -> None:
    with pytest.raises(UserError, match="unknown calibration 'platt'; use one of: isotonic"):
        fit([0.5], [True], "platt")
    with pytest.raises(UserError, match="no held-out pair was answered"):
        fit([float("nan")], [True])
