"""Intervals against closed forms and SciPy; verdicts; tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dallrec_core.errors import UserError
from dallrec_core.experiment.comparison import (
    NO_EFFECT,
    best_controls,
    compare,
    compare_groups,
    effect_table,
    effects,
    holm,
    paired_bootstrap,
    without_repeats,
    yardsticks,
)


def arms(shift: float, users: int = 400, seeds: int = 1, noise: float = 0.1):
    random = np.random.default_rng(7)
    base = random.random((seeds, users))
    return base, base + shift + noise * random.standard_normal((seeds, users))


def test_interval_is_close_to_the_normal_one_and_to_scipy():
    base, other = arms(0.02)
    effect = paired_bootstrap(base, other, resamples=4000)
    d = (other - base)[0]
    error = d.std() / np.sqrt(len(d))
    half = 1.96 * error
    assert effect["difference"] == pytest.approx(d.mean())
    ends = effect["low"], effect["high"]
    assert ends == pytest.approx((d.mean() - half, d.mean() + half), abs=0.06 * half)
    theirs = stats.bootstrap(
        (d,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert ends == pytest.approx(tuple(theirs), abs=0.1 * half)
    assert effect["relative"] == pytest.approx(100 * d.mean() / base.mean())
    assert effect["p_value"] == pytest.approx(stats.wilcoxon(d).pvalue)
    # a test at 5 % finds an effect of that size four times in five
    assert stats.norm.sf(1.96 - effect["detectable"] / error) == pytest.approx(0.8, abs=0.03)


def test_covers_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(1)
    inside = 0
    for repeat in range(300):
        d = random.standard_normal(60)
        effect = paired_bootstrap(np.zeros(60), d, repeat, resamples=300)
        inside += effect["low"] <= 0 <= effect["high"]
    assert 0.90 <= inside / 300 <= 0.98


def test_noise_between_seeds_widens_the_interval():
    random = np.random.default_rng(2)
    base = random.random((5, 300))
    other = base + random.normal(0, 0.05, (5, 1))  # seeds disagree, users do not
    effect = paired_bootstrap(base, other)
    spread = (other - base).mean(axis=1).std() / np.sqrt(5)
    assert effect["high"] - effect["low"] == pytest.approx(2 * 1.96 * spread, rel=0.15)


@pytest.mark.parametrize(
    ("shift", "verdict"), [(0.05, "higher"), (-0.05, "lower"), (0.0, NO_EFFECT)]
)
def test_verdict(shift, verdict):
    base, other = arms(shift)
    other = other - (other - base).mean() + shift  # exactly this difference
    assert paired_bootstrap(base, other)["verdict"] == verdict


def test_same_seed_same_interval():
    assert paired_bootstrap(*arms(0.01, seeds=3), 5) == paired_bootstrap(*arms(0.01, seeds=3), 5)


def test_identical_arms():
    base = np.random.default_rng(0).random((2, 10))
    effect = paired_bootstrap(base, base)
    assert (effect["low"], effect["high"], effect["p_value"]) == (0, 0, 1.0)
    assert effect["verdict"] == NO_EFFECT


@pytest.mark.parametrize(
    ("base", "other", "message"),
    [
        (np.zeros((1, 3)), np.zeros((2, 3)), "cannot be paired"),
        (np.zeros(1), np.zeros(1), "two users"),
        (np.array([0.0, np.nan]), np.zeros(2), "NaN"),
    ],
)
def test_what_cannot_be_compared(base, other, message):
    with pytest.raises(UserError, match=message):
        paired_bootstrap(base, other)


def test_holm_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03])).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert not len(holm(np.empty(0)))


# ---------------------------------------------------------------- tables

SHIFTS = {"base": 0, "dallrec": 0.3, "random": 0.1, "popular": 0.2, "shuffled": 0, "oracle": 1}
VALIDATION = {"base": 0.1, "dallrec": 0.4, "random": 0.3, "popular": 0.2, "shuffled": 0.9}
SEEDS = {"MF-BPR": 2, "EASE": 1}


def experiment() -> tuple[pd.DataFrame, pd.DataFrame]:
    """`popular` is the better control on test, `random` on validation; `shuffled` is base again."""
    random, rows, runs = np.random.default_rng(3), [], []
    for backbone, seed in ((b, s) for b in SEEDS for s in range(SEEDS[b])):
        base = random.random(60)
        for arm, shift in SHIFTS.items():
            run = f"{backbone}/{arm}/{seed}"
            names = {"run": run, "backbone": backbone, "arm": arm, "seed": seed}
            noise = 0.01 * random.standard_normal(60) if shift else 0
            for metric, scale in (("recall@20", 1), ("preference@20", -1)):
                value = {"user": np.arange(60), "value": base + scale * shift + noise}
                rows.append(pd.DataFrame(value | {"metric": metric}).assign(**names))
            valid = VALIDATION.get(arm, 1.0)
            runs.append(names | {"validation": valid, "shared": arm == "shuffled"})
    return pd.concat(rows).sample(frac=1, random_state=0), pd.DataFrame(runs)


SCORES, RUNS = experiment()


def test_compare_has_one_row_per_backbone_and_arm() -> None:
    table = compare(SCORES, "recall@20", resamples=200).set_index(["backbone", "arm"])
    assert len(table) == 2 * 5
    assert (table.xs("dallrec", level="arm")["verdict"] == "higher").all()
    row = table.loc[("MF-BPR", "dallrec")]
    assert row["difference"] == pytest.approx(0.3, abs=0.01) and row["seeds"] == 2
    assert (table["p_holm"] >= table["p_value"]).all()
    assert table.loc[("EASE", "dallrec"), "seeds"] == 1
    assert compare(SCORES.query("arm == 'base'"), "recall@20").empty


def test_compare_groups_corrects_over_all_groups() -> None:
    groups = pd.Series(["few", "many"]).repeat(30).reset_index(drop=True)
    table = compare_groups(SCORES, "recall@20", groups, resamples=50)
    assert len(table) == 2 * 2 * 5 and set(table["users"]) == {30}
    assert table["p_holm"].tolist() == pytest.approx(holm(table["p_value"].to_numpy()).tolist())


def test_compare_refuses_what_is_not_there() -> None:
    with pytest.raises(UserError, match="'recall@7' is not among.*recall@20"):
        compare(SCORES, "recall@7")
    with pytest.raises(UserError, match="no arm 'nothing'"):
        compare(SCORES, "recall@20", base="nothing")
    gap = SCORES[~((SCORES["arm"] == "random") & (SCORES["user"] == 3))]
    with pytest.raises(UserError, match="arm 'random' has other seeds or users"):
        compare(gap, "recall@20")


def test_arms_that_are_the_same_training_are_compared_once() -> None:
    runs = RUNS.assign(shared=(RUNS["arm"] == "shuffled") & (RUNS["backbone"] == "EASE"))
    table = compare(without_repeats(SCORES, runs), "recall@20", resamples=50)
    assert len(table) == 9 and "shuffled" not in set(table.query("backbone == 'EASE'")["arm"])
    # the arms that every page speaks of stay, were they all the same
    assert set(without_repeats(SCORES, runs.assign(shared=True))["arm"]) == {"base", "dallrec"}


def test_the_best_control_is_the_best_on_validation() -> None:
    assert best_controls(RUNS) == {"MF-BPR": "random", "EASE": "random"}
    better = (RUNS["arm"] == "popular") & (RUNS["backbone"] == "MF-BPR") & (RUNS["seed"] == 1)
    raised = RUNS.assign(validation=RUNS["validation"].mask(better, 0.41))  # .305 on average
    assert best_controls(raised) == {"MF-BPR": "popular", "EASE": "random"}
    assert best_controls(RUNS[RUNS["arm"] == "base"]) == {}


def test_effects_over_base_and_over_the_best_control() -> None:
    metrics = yardsticks(SCORES, "recall@20")
    assert metrics == ["recall@20", "preference@20"]
    assert yardsticks(SCORES, "recall@10") == ["recall@10"]
    table = effects(SCORES, RUNS, metrics, resamples=200)
    # for each of 2 yardsticks and 2 backbones: four arms over base, dallrec over random
    assert len(table) == 2 * 2 * 5
    assert table["p_holm"].tolist() == pytest.approx(holm(table["p_value"].to_numpy()).tolist())
    row = table.set_index(["metric", "backbone", "arm", "over"])["difference"]
    assert row["recall@20", "EASE", "dallrec", "base"] == pytest.approx(0.3, abs=0.01)
    assert row["recall@20", "EASE", "dallrec", "random"] == pytest.approx(0.2, abs=0.01)
    assert row["preference@20", "MF-BPR", "dallrec", "random"] == pytest.approx(-0.2, abs=0.01)
    alone = compare(SCORES[SCORES["arm"].isin(["random", "dallrec"])], "recall@20", "random")
    theirs = alone.set_index("backbone")["p_value"]
    ours = table[(table["over"] == "random") & (table["metric"] == "recall@20")]
    assert ours.set_index("backbone")["p_value"].to_dict() == pytest.approx(theirs.to_dict())


def test_effects_are_shown_row_by_row() -> None:
    keys = ["backbone", "seed", "metric", "user"]
    base = SCORES[SCORES["arm"] == "base"].set_index(keys)["value"]
    same = base.reindex(pd.MultiIndex.from_frame(SCORES[keys])).to_numpy()
    scores = SCORES.assign(value=SCORES["value"].mask(SCORES["arm"] == "popular", same))
    table = effects(scores, RUNS, ["recall@20", "preference@20"], resamples=200)
    long = effect_table(table)
    nothing = long.loc[("EASE", "popular", "base", "recall@20")]
    assert nothing["finding"] == NO_EFFECT
    assert nothing["effect"] == "+0.0000 (+0.0000\u00a0to\u00a0+0.0000)"
    lower = long.loc[("EASE", "dallrec", "random", "preference@20")]
    assert (lower["finding"], lower["p"]) == ("lower", "<\u00a00.001")
    one = table[(table["arm"] == "dallrec") & (table["over"] == "base")]
    shown = effect_table(one, ["detectable"])
    assert list(shown) == ["detectable"] and shown.index.names == ["backbone", "yardstick"]
    assert "nothing to compare" in effect_table(table[:0])["finding"].item()
