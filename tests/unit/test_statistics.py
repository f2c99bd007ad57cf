"""The rule of inference against closed forms and by simulation; tables; findings."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import stats
from statsmodels.stats.anova import anova_lm

from dallrec_core.errors import UserError
from dallrec_core.experiment.comparison import (
    NO_EFFECT,
    best_controls,
    compare,
    compare_groups,
    crossed,
    effect_table,
    effects,
    headline,
    judged,
    without_repeats,
    yardsticks,
)


def drawn(
    random: np.random.Generator, size: tuple[int, ...], of_seeds: float, of_users: float
) -> np.ndarray:
    """Draw tables of differences [.., S, U] without any true one; deviations of the two effects."""
    *many, seeds, users = size
    rest = random.standard_normal(size)
    by_seed = random.standard_normal((*many, seeds, 1)) * of_seeds
    return rest + by_seed + random.standard_normal((*many, 1, users)) * of_users


def test_mean_squares_are_those_of_statsmodels() -> None:
    d = drawn(np.random.default_rng(7), (4, 30), 0.5, 1.0)
    mean, se, df = crossed(d)
    long = pd.DataFrame(d).melt(ignore_index=False, var_name="user").reset_index(names="seed")
    table = anova_lm(smf.ols("value ~ C(seed) + C(user)", long).fit())
    of_seeds, of_users, rest = table["sum_sq"] / table["df"]
    assert of_seeds > rest and of_users > rest
    both = of_seeds + of_users - rest
    assert (mean, se) == pytest.approx((d.mean(), np.sqrt(both / d.size)))
    assert df == pytest.approx(both**2 / (of_seeds**2 / 3 + of_users**2 / 29))


def test_one_seed_is_the_paired_t_test() -> None:
    d = np.random.default_rng(7).normal(0.2, 1, (1, 50))
    mean, se, df = crossed(d)
    row = judged(pd.DataFrame({"difference": [mean], "se": [se], "df": [df]})).iloc[0]
    theirs = stats.ttest_1samp(d[0], 0)
    assert row["p_corrected"] == pytest.approx(theirs.pvalue)
    assert (row["low"], row["high"]) == pytest.approx(tuple(theirs.confidence_interval()))


@pytest.mark.parametrize("deviations", [(0.0, 0.0), (0.05, 0.0), (0.0, 0.6), (0.05, 0.6)])
def test_intervals_hold_the_truth_and_few_families_err(deviations: tuple[float, float]) -> None:
    random, family = np.random.default_rng(1), 10
    tables = drawn(random, (300, family, 5, 200), *deviations)
    rows = pd.DataFrame(
        [crossed(d) for many in tables for d in many], columns=["difference", "se", "df"]
    )
    reach = stats.t.isf(0.025, rows["df"]) * rows["se"]
    assert (rows["difference"].abs() <= reach).mean() >= 0.93
    wrong = [
        (judged(rows[start : start + family])["verdict"] != NO_EFFECT).any()
        for start in range(0, len(rows), family)
    ]
    assert np.mean(wrong) <= 0.07, "5 % and twice the error of 300 families"


def test_a_difference_of_the_detectable_size_is_found_four_times_in_five() -> None:
    d = drawn(np.random.default_rng(2), (500, 10, 300), 0.05, 0.6)
    rows = pd.DataFrame([crossed(x) for x in d], columns=["difference", "se", "df"])
    size = judged(rows[:1].assign(se=rows["se"].mean(), df=rows["df"].median()))["detectable"]
    shifted = rows.assign(difference=rows["difference"] + size.item())
    found = [judged(shifted[i : i + 1])["verdict"].item() for i in range(len(rows))]
    assert 0.75 <= np.mean([each == "higher" for each in found]) <= 0.87


def test_what_differs_between_seeds_alone_is_as_sure_as_their_number() -> None:
    by_seed = np.random.default_rng(3).normal(0, 1, (5, 1))
    _, se, df = crossed(np.repeat(by_seed, 400, axis=1))
    assert (se, df) == pytest.approx((by_seed.std(ddof=1) / np.sqrt(5), 4))


def test_finding_interval_and_p_agree_and_a_family_is_corrected_as_one() -> None:
    random = np.random.default_rng(4)
    rows = pd.DataFrame({"difference": random.normal(0, 0.02, 400), "se": 0.01, "df": 12.0})
    table = judged(rows)
    for finding, side in {
        "higher": table["low"] > 0,
        "lower": table["high"] < 0,
        NO_EFFECT: (table["low"] <= 0) & (table["high"] >= 0),
    }.items():
        assert ((table["verdict"] == finding) == side).all() and side.any()
    assert ((table["verdict"] != NO_EFFECT) == (table["p_corrected"] < 0.05)).all()
    alone = judged(rows[:1])
    assert alone["high"].item() < table["high"].iloc[0]
    assert table["p_corrected"].iloc[0] == pytest.approx(min(1, 400 * alone["p_corrected"].item()))
    assert (table["family"] == 400).all()


def test_identical_arms_do_not_differ() -> None:
    table = judged(pd.DataFrame([crossed(np.zeros((2, 10)))], columns=["difference", "se", "df"]))
    row = table.iloc[0]
    assert (row["low"], row["high"], row["p_corrected"]) == (0, 0, 1)
    assert row["verdict"] == NO_EFFECT


@pytest.mark.parametrize("d", [np.zeros((3, 1)), np.array([[0.0, np.nan]])])
def test_what_cannot_be_compared(d: np.ndarray) -> None:
    with pytest.raises(UserError, match="users to compare are missing"):
        crossed(d)


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
    assert (table["family"] == 4).all()
    assert table.loc[("EASE", "dallrec"), "seeds"] == 1


def test_compare_groups_corrects_over_all_groups():
    groups = pd.Series(["few", "many"]).repeat(25).reset_index(drop=True)
    table = compare_groups(long_scores(), "recall@20", groups)
    assert len(table) == 8 and set(table["users"]) == {25} and set(table["family"]) == {8}


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
    table = compare(left, "recall@20")
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
    table = effects(scores, runs, metrics)
    # for each of 2 yardsticks and 2 backbones: four arms over base, dallrec over random
    sizes = table.groupby(table["arm"] == "dallrec")["family"].agg(["size", "unique"])
    assert sizes.to_dict("list") == {"size": [12, 8], "unique": [[12], [8]]}
    row = table.set_index(["metric", "backbone", "arm", "over"])["difference"]
    assert row["recall@20", "NMF", "dallrec", "base"] == pytest.approx(0.3, abs=0.01)
    assert row["recall@20", "NMF", "dallrec", "random"] == pytest.approx(0.2, abs=0.01)
    assert row["preference@20", "MF-BPR", "dallrec", "random"] == pytest.approx(-0.2, abs=0.01)
    alone = compare(scores[scores["arm"].isin(["random", "dallrec"])], "recall@20", "random")
    theirs = alone.set_index("backbone")["se"]
    ours = table[(table["over"] == "random") & (table["metric"] == "recall@20")]
    assert ours.set_index("backbone")["se"].to_dict() == pytest.approx(theirs.to_dict())


def test_fine_tuning_is_a_comparison_of_its_own() -> None:
    scores, runs = with_controls()
    renamed = {"arm": {"popular": "zero_shot"}}
    scores, runs = scores.replace(renamed), runs.replace(renamed)
    table = effects(scores, runs, ["recall@20"])
    of = table[table["arm"] == "dallrec"]
    assert of["over"].tolist() == ["base", "base", "random", "zero_shot", "random", "zero_shot"]
    sides = headline(of, ["recall@20"], {"MF-BPR": "random", "NMF": "random"})["NMF"]["recall@20"]
    assert list(sides) == ["over base", "over best control", "over zero_shot"]
    assert sides["over zero_shot"]["family"] == 6


def test_regenerations_are_compared_by_their_means() -> None:
    scores, _ = with_controls()
    again = scores.assign(regeneration=1, seed=scores["seed"] + 2)
    again["value"] += np.where(again["arm"] == "dallrec", 0.05, 0)
    both = pd.concat([scores.assign(regeneration=0), again])
    row = compare(both, "recall@20").set_index(["backbone", "arm"]).loc[("NMF", "dallrec")]
    assert row["seeds"] == 2 and row["difference"] == pytest.approx(0.325, abs=0.01)
    assert row["se"] == pytest.approx(0.025, rel=0.1) and row["df"] == pytest.approx(1, abs=0.2)


def test_effects_are_shown_row_by_row() -> None:
    scores, runs = with_controls()
    scores.loc[scores["arm"] == "popular", "value"] = scores.loc[
        scores["arm"] == "base", "value"
    ].to_numpy()
    table = effects(scores, runs, ["recall@20", "preference@20"])
    long = effect_table(table)
    same = long.loc[("NMF", "popular", "base", "recall@20")]
    assert (same["finding"], same["effect"]) == (
        NO_EFFECT,
        "+0.0000 (+0.0000\u00a0to\u00a0+0.0000)",
    )
    lower = long.loc[("NMF", "dallrec", "random", "preference@20")]
    assert lower["finding"] == "lower" and float(lower["p"]) < 0.05
    assert set(effect_table(table.assign(p_corrected=0.0009))["p"]) == {"<\u00a00.001"}
    one = effect_table(
        table[(table["arm"] == "dallrec") & (table["over"] == "base")], ["detectable"]
    )
    assert list(one) == ["detectable"] and one.index.names == ["backbone", "yardstick"]
    assert "nothing to compare" in effect_table(table[:0])["finding"].item()
