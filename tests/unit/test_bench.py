"""Where augmentation pays: every table against a computation of its own, AUC by counting pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_data import movies

from dallrec_core import recommenders
from dallrec_core.augmentation import Truth
from dallrec_core.augmentation.selection import select
from dallrec_core.errors import UserError
from dallrec_core.experiment import Arm, Study
from dallrec_core.experiment import bench as benches
from dallrec_core.experiment.scores import inside
from dallrec_core.recommenders.ranking import rank

RANDOM = np.random.default_rng(2)
PAIRS = pd.DataFrame(np.argwhere(RANDOM.random((40, 30)) < 0.3), columns=["user", "item"])
PART = RANDOM.integers(0, 5, len(PAIRS))
TRAIN, VALIDATION, TEST = (PAIRS[part] for part in (PART > 1, PART == 1, PART == 0))
TASTE = RANDOM.standard_normal((40, 30)).astype(np.float32)
EDGES = pd.DataFrame({"user": np.arange(20), "item": TASTE[:20].argmax(axis=1)})


@pytest.fixture
def bench(tmp_path: Path) -> benches.Bench:
    study = Study(TRAIN, VALIDATION, TEST, 40, 30, TASTE)
    metrics = ["recall@5", "preference@5"]
    return benches.Bench(study, "EASE", [0], tmp_path, {}, metrics, jobs=1)


def hits(train: pd.DataFrame, edges: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return the test pairs with the column found: among the first five of EASE."""
    graph = recommenders.Graph.from_frame(train, 40, 30, extra=edges)
    model = recommenders.build("EASE", graph)
    seen = pd.concat([train, VALIDATION])
    ranking = rank(model, seen, np.unique(TEST["user"]), 5)
    lists = dict(zip(ranking.users, ranking.items, strict=True))
    return TEST.assign(found=[i in lists[u] for u, i in zip(TEST.user, TEST.item, strict=True)])


def recall(pairs: pd.DataFrame) -> float:
    return pairs.groupby("user")["found"].mean().mean()


def test_gains(bench: benches.Bench) -> None:
    table = bench.gains({"edges": Arm(EDGES), "nothing": Arm(EDGES.iloc[:0])})
    assert list(table["variant"]) == ["edges", "nothing"] * 2
    assert list(table["metric"]) == ["recall@5"] * 2 + ["preference@5"] * 2
    assert list(table["added"]) == [20, 0] * 2
    row, before = table.iloc[0], recall(hits(TRAIN))
    assert row["base"] == pytest.approx(before, abs=1e-6)
    assert row["difference"] == pytest.approx(recall(hits(TRAIN, EDGES)) - before, abs=1e-6)
    assert row["low"] <= row["difference"] <= row["high"]
    assert not table.loc[table["variant"] == "nothing", "difference"].any()


def test_by_degree(bench: benches.Bench) -> None:
    table = bench.by_degree(Arm(EDGES), groups=3)
    assert table["of"].value_counts().to_dict() == {"user": 3, "item": 3, "warmth": 2}
    before, after = hits(TRAIN), hits(TRAIN, EDGES)
    for row in table.itertuples():
        of = row.of if row.of == "user" else "item"
        degree = TEST[of].map(TRAIN[of].value_counts()).fillna(0)
        ends = {"cold": [0, 10], "warm": [11, 99]}.get(row.group) or row.group.split("-")
        inside = degree.between(int(ends[0]), int(ends[-1]))
        assert row.users == TEST.loc[inside, "user"].nunique()
        assert row.base == pytest.approx(recall(before[inside]), abs=1e-6)
        expected = recall(after[inside]) - recall(before[inside])
        assert row.difference == pytest.approx(expected, abs=1e-6)


def test_ladder_thins_training_and_keeps_the_test(bench: benches.Bench) -> None:
    seen = []

    def write(train: pd.DataFrame) -> pd.DataFrame:
        seen.append(train)
        return EDGES

    table = benches.ladder(bench, [0.5, 1.0], write, seed=4)
    assert [len(train) for train in seen] == [round(len(TRAIN) / 2), len(TRAIN)]
    assert set(seen[0].index) <= set(seen[1].reset_index().index)
    assert list(table["fraction"]) == [0.5, 0.5, 1.0, 1.0]
    for train, (_, level) in zip(seen, table.groupby("fraction"), strict=True):
        assert (level["train"] == len(train)).all()
        row, after = level.set_index("metric").loc["recall@5"], recall(hits(train, EDGES))
        assert row["base"] == pytest.approx(recall(hits(train)), abs=1e-6)
        assert row["base"] + row["difference"] == pytest.approx(after, abs=1e-6)
    # nothing to compare gives empty tables
    for table in (benches.ladder(bench, [], lambda train: EDGES), bench.gains({})):
        assert table.empty and {"added", "variant", "difference", "verdict"} <= set(table)


def test_breaks_even() -> None:
    table = pd.DataFrame({"auc": [0.9, 0.5, 0.7, 0.8], "low": [0.3, 0.1, -0.1, 0.2]})
    assert benches.breaks_even(table, "auc") == 0.8, "at .5 it was luck: .7 does not pay"
    assert benches.breaks_even(table.assign(low=-1.0), "auc") is None
    assert benches.breaks_even(table.assign(low=1.0), "auc") == 0.5


def test_price() -> None:
    effects = pd.DataFrame({"backbone": ["A", "B"], "relative": [4.0, 9.0]})
    effects["verdict"] = ["higher", "no detectable effect"]
    costs = {"questions": [100, 300], "tokens_in": [1000, 500], "tokens_out": [10, 0]}
    costs |= {"saved_by_cache": [0, 490], "saved_by_prefix": [7000, 7000], "seconds": [3.0, 5.0]}
    table = benches.price(effects, pd.DataFrame(costs))
    columns = ["gain in %", "questions per 1 %", "tokens per 1 %", "seconds per 1 %"]
    assert table.loc[0, columns].tolist() == [4, 100, 500, 2]
    assert table.loc[1, columns].isna().all()


# ---------------------------------------------------------------- models of a chosen quality

ASKED = pd.DataFrame(np.argwhere(RANDOM.random((40, 30)) < 0.5), columns=["user", "item"])
TRUTH = Truth(pd.DataFrame(), TASTE, 0.4)
LIKED = TASTE[ASKED["user"], ASKED["item"]] >= 0.4


def counted(score: np.ndarray) -> float:
    """AUC by its definition: how often a liked pair stands above one that is not."""
    above = score[LIKED][:, None] - score[~LIKED][None]
    return float(((above > 0) + (above == 0) / 2).mean())


@pytest.mark.parametrize("auc", [0.6, 0.75, 0.9, 1.0])
def test_degraded_answers_have_the_auc(auc: float) -> None:
    score = benches.degraded(ASKED, TRUTH, auc, seed=1)
    assert counted(score) == pytest.approx(auc, abs=0.002)
    assert benches.asked_auc(ASKED, score, TRUTH) == pytest.approx(counted(score))


def test_the_ends_are_taste_and_a_coin_and_better_answers_correct_errors_of_worse_ones() -> None:
    taste = TASTE[ASKED["user"], ASKED["item"]]
    best, coin = (benches.degraded(ASKED, TRUTH, auc) for auc in (1, 0.5))
    assert (np.argsort(best, kind="stable") == np.argsort(taste, kind="stable")).all()
    assert counted(coin) == pytest.approx(0.5, abs=0.06)
    # the noise is the same, so what both get right at .7 is right at .9
    orders = [benches.degraded(ASKED, TRUTH, auc).argsort().argsort() for auc in (0.7, 0.9)]
    other = benches.degraded(ASKED, TRUTH, 0.9, seed=8).argsort().argsort()
    assert np.corrcoef(*orders)[0, 1] > np.corrcoef(orders[0], other)[0, 1]


def test_answers_that_are_missing_count_as_undecided_and_some_qualities_cannot_be() -> None:
    score = np.where(LIKED, 1.0, 0.0)
    score[np.flatnonzero(LIKED)[0]] = np.nan
    lost = 0.5 if np.nanmedian(score) == 0 else 0.0  # ties with what is not liked, or none
    assert benches.asked_auc(ASKED, score, TRUTH) == pytest.approx(1 - lost / LIKED.sum())
    with pytest.raises(UserError, match=r"AUC of simulated answers is 0\.4"):
        benches.degraded(ASKED, TRUTH, 0.4)
    with pytest.raises(UserError, match="all or none are really liked"):
        benches.degraded(ASKED, benches.replace(TRUTH, liked_from=9.0), 0.8)


def test_surest_is_the_rule_of_page_3_and_takes_nothing_that_was_not_answered() -> None:
    score = RANDOM.random(len(ASKED))
    chosen = benches.surest(ASKED, score, 25, 2)
    assert len(chosen) == 25 and chosen["user"].value_counts().max() == 2
    added = inside(ASKED, chosen, 30)
    asked = ASKED.assign(p_yes=score, strategy="candidates", answer="yes")
    rule = select(asked, threshold=score[added].min(), max_per_user=2)
    assert (rule["added"] == added).all()
    score[np.arange(len(score)) != 3] = np.nan
    [[user, item, weight]] = benches.surest(ASKED, score, 9).to_numpy()
    assert (user, item, weight) == (*ASKED.iloc[3], 1)


def test_proposals_come_from_what_is_left() -> None:
    data = movies()
    train = data.train.sample(frac=0.5, random_state=1)
    pairs = benches.proposed(data, train, 60)
    assert len(pairs) and not inside(pairs, train, data.n_items).any()
    # what was removed is unseen now and may be proposed
    assert inside(pairs, data.train, data.n_items).any()
    assert set(pairs["user"]) <= set(train["user"])
