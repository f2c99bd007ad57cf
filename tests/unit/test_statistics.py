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


def long_scores() -> pd.DataFrame:
    random = np.random.default_rng(0)
    rows = []
    for backbone, seeds in (("MF-BPR", 3), ("EASE", 1)):
        for seed in range(seeds):
            base = random.random(50)
            for arm, shift in (("base", 0), ("dallrec", 0.2), ("random", 0)):
                value = base + shift + 0.01 * random.standard_normal(50)
                table = pd.DataFrame({"user": np.arange(50), "value": value, "metric": "recall@20"})
                rows.append(table.assign(backbone=backbone, arm=arm, seed=seed))
    return pd.concat(rows).sample(frac=1, random_state=0)


def test_compare_has_one_row_per_backbone_and_arm():
    table = compare(long_scores(), "recall@20").set_index(["backbone", "arm"])
    assert len(table) == 4
    assert (table.xs("dallrec", level="arm")["verdict"] == "higher").all()
    row = table.loc[("MF-BPR", "dallrec")]
    assert row["difference"] == pytest.approx(0.2, abs=0.01) and row["seeds"] == 3
    assert (table["p_holm"] >= table["p_value"]).all()
    assert table.loc[("EASE", "dallrec"), "seeds"] == 1


def test_compare_groups_corrects_over_all_groups():
    groups = pd.Series(["few", "many"]).repeat(25).reset_index(drop=True)
    table = compare_groups(long_scores(), "recall@20", groups, resamples=200)
    assert len(table) == 8 and set(table["users"]) == {25}
    assert table["p_holm"].tolist() == pytest.approx(holm(table["p_value"].to_numpy()).tolist())


def test_compare_refuses_what_is_not_there():
    scores = long_scores()
    with pytest.raises(UserError, match="'recall@7' is not among.*recall@20"):
        compare(scores, "recall@7")
    with pytest.raises(UserError, match="no arm 'nothing'"):
        compare(scores, "recall@20", base="nothing")
    gap = scores[~((scores["arm"] == "random") & (scores["user"] == 3))]
    with pytest.raises(UserError, match="arm 'random' has other seeds or users"):
        compare(gap, "recall@20")


def test_compare_with_the_base_alone_is_empty():
    scores = long_scores().query("arm == 'base'")
    assert compare(scores, "recall@20").empty


def test_arms_that_are_the_same_training_are_compared_once():
    scores = long_scores()
    scores["run"] = scores["backbone"] + "/" + scores["arm"] + "/" + scores["seed"].astype(str)
    alike = scores[scores["arm"] == "base"]
    alike = alike.assign(arm="attributes", run=alike["run"].str.replace("base", "attributes"))
    scores = pd.concat([scores, alike])
    runs = scores[["run", "backbone", "arm", "seed"]].drop_duplicates()
    # EASE reads no features; the other one is taken to read them
    runs["shared"] = (runs["arm"] == "attributes") & (runs["backbone"] == "EASE")
    left = without_repeats(scores, runs)
    assert set(left["arm"]) == {"base", "dallrec", "random", "attributes"}
    table = compare(left, "recall@20", resamples=50)
    assert len(table) == 5 and "attributes" not in set(table.query("backbone == 'EASE'")["arm"])
    # the arms that every page speaks of stay, were they all the same
    assert without_repeats(left, runs.assign(shared=True))["arm"].nunique() == 2


# ---------------------------------------------------------------- over base and over a control


def with_controls() -> tuple[pd.DataFrame, pd.DataFrame]:
    """`popular` is the better control on test, `random` on validation; `shuffled` is base again."""
    random, rows, runs = np.random.default_rng(3), [], []
    shifts = {"base": 0, "dallrec": 0.3, "random": 0.1, "popular": 0.2, "shuffled": 0, "oracle": 1}
    valid = {"base": 0.1, "dallrec": 0.4, "random": 0.3, "popular": 0.2, "shuffled": 0.9}
    for backbone in ("MF-BPR", "NMF"):
        for seed in range(2):
            base = random.random(60)
            for arm, shift in shifts.items():
                run = f"{backbone}/{arm}/{seed}"
                names = {"run": run, "backbone": backbone, "arm": arm, "seed": seed}
                noise = 0.01 * random.standard_normal(60) if shift else 0
                for metric, scale in (("recall@20", 1), ("preference@20", -1)):
                    value = {"user": np.arange(60), "value": base + scale * shift + noise}
                    rows.append(pd.DataFrame(value | {"metric": metric}).assign(**names))
                shared = arm == "shuffled"
                runs.append(names | {"validation": valid.get(arm, 1.0), "shared": shared})
    return pd.concat(rows), pd.DataFrame(runs)


def test_the_best_control_is_the_best_on_validation() -> None:
    _, runs = with_controls()
    assert best_controls(runs) == {"MF-BPR": "random", "NMF": "random"}
    better = (runs["arm"] == "popular") & (runs["backbone"] == "NMF") & (runs["seed"] == 1)
    runs.loc[better, "validation"] = 0.41  # .305 on average
    assert best_controls(runs) == {"MF-BPR": "random", "NMF": "popular"}
    assert best_controls(runs[runs["arm"] == "base"]) == {}


def test_effects_over_base_and_over_the_best_control() -> None:
    scores, runs = with_controls()
    metrics = yardsticks(scores, "recall@20")
    assert metrics == ["recall@20", "preference@20"]
    assert yardsticks(scores, "recall@10") == ["recall@10"]
    table = effects(scores, runs, metrics, resamples=200)
    # for each of 2 yardsticks and 2 backbones: four arms over base, dallrec over random
    assert len(table) == 2 * 2 * 5
    assert table["p_holm"].tolist() == pytest.approx(holm(table["p_value"].to_numpy()).tolist())
    row = table.set_index(["metric", "backbone", "arm", "over"])["difference"]
    assert row["recall@20", "NMF", "dallrec", "base"] == pytest.approx(0.3, abs=0.01)
    assert row["recall@20", "NMF", "dallrec", "random"] == pytest.approx(0.2, abs=0.01)
    assert row["preference@20", "MF-BPR", "dallrec", "random"] == pytest.approx(-0.2, abs=0.01)
    alone = compare(scores[scores["arm"].isin(["random", "dallrec"])], "recall@20", "random")
    theirs = alone.set_index("backbone")["p_value"]
    ours = table[(table["over"] == "random") & (table["metric"] == "recall@20")]
    assert ours.set_index("backbone")["p_value"].to_dict() == pytest.approx(theirs.to_dict())


def test_effects_are_shown_row_by_row() -> None:
    scores, runs = with_controls()
    scores.loc[scores["arm"] == "popular", "value"] = scores.loc[
        scores["arm"] == "base", "value"
    ].to_numpy()
    table = effects(scores, runs, ["recall@20", "preference@20"], resamples=200)
    long = effect_table(table)
    same = long.loc[("NMF", "popular", "base", "recall@20")]
    assert (same["finding"], same["effect"]) == (
        NO_EFFECT,
        "+0.0000 (+0.0000\u00a0to\u00a0+0.0000)",
    )
    lower = long.loc[("NMF", "dallrec", "random", "preference@20")]
    assert (lower["finding"], lower["p"]) == ("lower", "<\u00a00.001")
    one = effect_table(
        table[(table["arm"] == "dallrec") & (table["over"] == "base")], ["detectable"]
    )
    assert list(one) == ["detectable"] and one.index.names == ["backbone", "yardstick"]
    assert "nothing to compare" in effect_table(table[:0])["finding"].item()
