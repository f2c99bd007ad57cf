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
    best_controls,
    compare,
    compare_groups,
    effect_table,
    effects,
    headline,
    short_texts,
    without_repeats,
    yardsticks,
)
from dallrec_core.experiment.inference import NO_EFFECT, crossed, judged


def drawn(
    random: np.random.Generator, size: tuple[int, ...], of_seeds: float, of_users: float
) -> np.ndarray:
    """Draw tables of differences [.., S, U] without any true one; deviations of the two effects."""
    *many, seeds, users = size
    rest = random.standard_normal(size)
    by_seed = random.standard_normal((*many, seeds, 1)) * of_seeds
    return rest + by_seed + random.standard_normal((*many, 1, users)) * of_users


def crossed_all(tables: np.ndarray) -> pd.DataFrame:
    """The rows that `judged` reads, of many tables of differences."""
    return pd.DataFrame([crossed(d) for d in tables], columns=["difference", "se", "df"])


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


def test_one_seed_is_the_paired_t_test_and_one_user_effect_that_of_seeds() -> None:
    d = np.random.default_rng(7).normal(0.2, 1, (1, 1, 50))
    row = judged(crossed_all(d)).iloc[0]
    theirs = stats.ttest_1samp(d[0, 0], 0)
    assert row["p_corrected"] == pytest.approx(theirs.pvalue)
    assert (row["low"], row["high"]) == pytest.approx(tuple(theirs.confidence_interval()))
    by_seed = np.random.default_rng(3).normal(0, 1, (5, 1))  # as sure as their number
    _, se, df = crossed(np.repeat(by_seed, 400, axis=1))
    assert (se, df) == pytest.approx((by_seed.std(ddof=1) / np.sqrt(5), 4))


@pytest.mark.parametrize("deviations", [(0.0, 0.0), (0.05, 0.0), (0.0, 0.6), (0.05, 0.6)])
def test_intervals_hold_the_truth_and_few_families_err(deviations: tuple[float, float]) -> None:
    rows = crossed_all(drawn(np.random.default_rng(1), (3000, 5, 200), *deviations))
    reach = stats.t.isf(0.025, rows["df"]) * rows["se"]
    assert (rows["difference"].abs() <= reach).mean() >= 0.93
    families = (rows[start : start + 10] for start in range(0, len(rows), 10))
    wrong = [(judged(family)["verdict"] != NO_EFFECT).any() for family in families]
    assert np.mean(wrong) <= 0.07, "5 % and twice the error of 300 families"


def test_a_difference_of_the_detectable_size_is_found_four_times_in_five() -> None:
    rows = crossed_all(drawn(np.random.default_rng(2), (500, 10, 300), 0.05, 0.6))
    size = judged(rows[:1].assign(se=rows["se"].mean(), df=rows["df"].median()))["detectable"]
    shifted = rows.assign(difference=rows["difference"] + size.item())
    found = [judged(shifted[i : i + 1])["verdict"].item() for i in range(len(rows))]
    assert 0.75 <= np.mean([each == "higher" for each in found]) <= 0.87


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


def test_identical_arms_do_not_differ_and_missing_users_are_refused() -> None:
    row = judged(crossed_all(np.zeros((1, 2, 10)))).iloc[0]
    assert row[["low", "high", "p_corrected", "verdict"]].tolist() == [0, 0, 1, NO_EFFECT]
    for d in (np.zeros((3, 1)), np.array([[0.0, np.nan]])):
        with pytest.raises(UserError, match="users to compare are missing"):
            crossed(d)


# ---------------------------------------------------------------- tables of scores

SHIFTS = {"base": 0, "dallrec": 0.3, "random": 0.1, "popular": 0.2, "shuffled": 0, "oracle": 1}
VALID = {"base": 0.1, "dallrec": 0.4, "random": 0.3, "popular": 0.2, "shuffled": 0.9, "oracle": 1}


def trained() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores and runs of three seeds of MF-BPR and one of EASE.

    `popular` is the better control on test, `random` on validation; `shuffled` is base again.
    """
    random, rows = np.random.default_rng(3), []
    for backbone, seed in [("MF-BPR", 0), ("MF-BPR", 1), ("MF-BPR", 2), ("EASE", 0)]:
        base = random.random(60)
        for arm, shift in SHIFTS.items():
            noise = 0.01 * random.standard_normal(60) if shift else 0
            names = {"run": f"{backbone}/{arm}/{seed}", "backbone": backbone, "arm": arm}
            for metric, sign in (("recall@20", 1), ("preference@20", -1)):
                value = {"user": np.arange(60), "value": base + sign * shift + noise}
                rows.append(pd.DataFrame(value).assign(**names, seed=seed, metric=metric))
    scores = pd.concat(rows).sample(frac=1, random_state=0)
    runs = scores[["run", "backbone", "arm", "seed"]].drop_duplicates(ignore_index=True)
    shared = runs["arm"] == "shuffled"
    return scores, runs.assign(validation=runs["arm"].map(VALID), shared=shared)


def test_compare_has_one_row_per_backbone_and_arm() -> None:
    scores, _ = trained()
    table = compare(scores, "recall@20").set_index(["backbone", "arm"])
    assert len(table) == 10 and (table["family"] == 10).all()
    assert (table.xs("dallrec", level="arm")["verdict"] == "higher").all()
    assert table.loc[("MF-BPR", "dallrec"), "difference"] == pytest.approx(0.3, abs=0.01)
    assert table.xs("dallrec", level="arm")["seeds"].to_dict() == {"MF-BPR": 3, "EASE": 1}
    assert compare(scores[scores["arm"] == "base"], "recall@20").empty
    groups = pd.Series(["few", "many"]).repeat(30).reset_index(drop=True)
    table = compare_groups(scores, "recall@20", groups)
    assert len(table) == 20 and set(table["users"]) == {30} and set(table["family"]) == {20}


def test_compare_refuses_what_is_not_there() -> None:
    scores, _ = trained()
    gap = scores[~((scores["arm"] == "random") & (scores["user"] == 3))]
    for table, metric, base, message in (
        (scores, "recall@7", "base", "'recall@7' is not among.*recall@20"),
        (scores, "recall@20", "nothing", "no arm 'nothing'"),
        (gap, "recall@20", "base", "arm 'random' has other seeds or users"),
    ):
        with pytest.raises(UserError, match=message):
            compare(table, metric, base)


def test_arms_that_are_the_same_training_are_compared_once() -> None:
    scores, runs = trained()
    runs["shared"] &= runs["backbone"] == "EASE"  # it reads no features
    left = without_repeats(scores, runs)
    table = compare(left, "recall@20")
    assert len(table) == 9 and "shuffled" not in set(table.query("backbone == 'EASE'")["arm"])
    # the arms that every page speaks of stay, were they all the same
    assert without_repeats(left, runs.assign(shared=True))["arm"].nunique() == 2


def test_the_best_control_is_the_best_on_validation() -> None:
    _, runs = trained()
    assert best_controls(runs) == {"MF-BPR": "random", "EASE": "random"}
    runs.loc[runs["run"] == "MF-BPR/popular/1", "validation"] = 0.53  # .31 on average
    assert best_controls(runs) == {"MF-BPR": "popular", "EASE": "random"}
    assert best_controls(runs[runs["arm"] == "base"]) == {}


def test_effects_over_base_and_over_the_best_control() -> None:
    scores, runs = trained()
    metrics = yardsticks(scores, "recall@20")
    assert metrics == ["recall@20", "preference@20"]
    assert yardsticks(scores, "recall@10") == ["recall@10"]
    table = effects(scores, runs, metrics)
    # for each of 2 yardsticks and 2 backbones: four arms over base, dallrec over random
    sizes = table.groupby(table["arm"] == "dallrec")["family"].agg(["size", "unique"])
    assert sizes.to_dict("list") == {"size": [12, 8], "unique": [[12], [8]]}
    row = table.set_index(["metric", "backbone", "arm", "over"])["difference"]
    assert row["recall@20", "EASE", "dallrec", "base"] == pytest.approx(0.3, abs=0.01)
    assert row["recall@20", "EASE", "dallrec", "random"] == pytest.approx(0.2, abs=0.01)
    assert row["preference@20", "MF-BPR", "dallrec", "random"] == pytest.approx(-0.2, abs=0.01)
    alone = compare(scores[scores["arm"].isin(["random", "dallrec"])], "recall@20", "random")
    theirs = alone.set_index("backbone")["se"]
    ours = table[(table["over"] == "random") & (table["metric"] == "recall@20")]
    assert ours.set_index("backbone")["se"].to_dict() == pytest.approx(theirs.to_dict())


def test_written_texts_alone_are_a_family_with_rivals_of_their_own() -> None:
    names = {"random": "given_text", "popular": "summaries"}
    scores, runs = (table.replace({"arm": names}) for table in trained())
    table = effects(scores, runs, ["recall@20"])
    texts = table[table["arm"] == "summaries"]
    pairs = [(b, over) for b in ("MF-BPR", "EASE") for over in ("base", "given_text")]
    assert sorted(zip(texts["backbone"], texts["over"], strict=True)) == sorted(pairs)
    assert (texts["family"] == 4).all() and "summaries" not in set(table["over"])
    names = {"random": "liked_only", "popular": "liked_dallrec"}
    scores, runs = (table.replace({"arm": names}) for table in trained())
    table = effects(scores, runs, ["recall@20"])
    both = table[table["arm"] == "liked_dallrec"]
    assert both["over"].tolist() == ["base", "base", "liked_only", "liked_only"]
    assert (both["family"] == 4).all()


def test_fine_tuning_is_a_comparison_of_its_own() -> None:
    scores, runs = (table.replace({"arm": {"popular": "zero_shot"}}) for table in trained())
    table = effects(scores, runs, ["recall@20"])
    of = table[table["arm"] == "dallrec"]
    assert of["over"].tolist() == ["base", "base", "random", "zero_shot", "random", "zero_shot"]
    best = {"MF-BPR": "random", "EASE": "random"}
    sides = headline(of, ["recall@20"], best)["EASE"]["recall@20"]
    assert list(sides) == ["over base", "over best control", "over zero_shot"]
    assert sides["over zero_shot"]["family"] == 6
    # where the untuned model is the best control, it is compared with once and told twice
    runs.loc[(runs["arm"] == "zero_shot") & (runs["backbone"] == "EASE"), "validation"] = 0.9
    best = best_controls(runs)
    assert best == {"MF-BPR": "random", "EASE": "zero_shot"}
    table = effects(scores, runs, ["recall@20"])
    of = table[table["arm"] == "dallrec"]
    assert of["over"].tolist() == ["base", "base", "random", "zero_shot", "zero_shot"]
    sides = headline(of, ["recall@20"], best)["EASE"]["recall@20"]
    assert sides["over best control"] == sides["over zero_shot"]


def test_regenerations_are_compared_by_their_means() -> None:
    scores, _ = trained()
    again = scores.assign(regeneration=1, seed=scores["seed"] + 3)
    again["value"] += np.where(again["arm"] == "dallrec", 0.05, 0)
    both = pd.concat([scores.assign(regeneration=0), again])
    row = compare(both, "recall@20").set_index(["backbone", "arm"]).loc[("MF-BPR", "dallrec")]
    assert row["seeds"] == 2 and row["difference"] == pytest.approx(0.325, abs=0.01)
    assert row["se"] == pytest.approx(0.025, rel=0.1) and row["df"] == pytest.approx(1, abs=0.2)


def test_effects_are_shown_row_by_row() -> None:
    scores, runs = trained()
    table = effects(scores, runs.assign(shared=False), ["recall@20", "preference@20"])
    long = effect_table(table)
    same = long.loc[("EASE", "shuffled", "base", "recall@20")]
    assert same["finding"] == NO_EFFECT
    assert same["effect"] == "+0.0000 (+0.0000\u00a0to\u00a0+0.0000)"
    lower = long.loc[("EASE", "dallrec", "shuffled", "preference@20")]
    assert lower["finding"] == "lower" and float(lower["p"].removeprefix("<\u00a0")) < 0.05
    assert set(effect_table(table.assign(p_corrected=0.0009))["p"]) == {"<\u00a00.001"}
    assert {"-0.250 lower", "-0.250 "} < set(short_texts(table.assign(difference=-0.25)))
    few = table[(table["arm"] == "dallrec") & (table["over"] == "base")]
    one = effect_table(few, ["detectable"])
    assert list(one) == ["detectable"] and one.index.names == ["backbone", "yardstick"]
    assert "nothing to compare" in effect_table(table[:0])["finding"].item()
