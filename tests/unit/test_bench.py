"""Where augmentation pays: every table against a computation of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dallrec_core import recommenders
from dallrec_core.experiment import Arm, Study
from dallrec_core.experiment import bench as benches
from dallrec_core.recommenders import evaluation

RANDOM = np.random.default_rng(2)
PAIRS = pd.DataFrame(np.argwhere(RANDOM.random((40, 30)) < 0.3), columns=["user", "item"])
PART = RANDOM.integers(0, 5, len(PAIRS))
TRAIN, VALIDATION, TEST = (PAIRS[part] for part in (PART > 1, PART == 1, PART == 0))
TASTE = RANDOM.standard_normal((40, 30)).astype(np.float32)
EDGES = pd.DataFrame({"user": np.arange(20), "item": TASTE[:20].argmax(axis=1)})


@pytest.fixture
def bench(tmp_path: Path) -> benches.Bench:
    study = Study(TRAIN, VALIDATION, TEST, 40, 30, TASTE)
    return benches.Bench(study, "EASE", [0], tmp_path, metric="recall@5", jobs=1)


def hits(train: pd.DataFrame, edges: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return the test pairs with the column found: among the first five of EASE."""
    graph = recommenders.Graph.from_frame(train, 40, 30, extra=edges)
    model = recommenders.build("EASE", graph)
    seen = pd.concat([train, VALIDATION])
    ranking = evaluation.rank(model, seen, np.unique(TEST["user"]), 5)
    lists = dict(zip(ranking.users, ranking.items, strict=True))
    return TEST.assign(found=[i in lists[u] for u, i in zip(TEST.user, TEST.item, strict=True)])


def recall(pairs: pd.DataFrame) -> float:
    return pairs.groupby("user")["found"].mean().mean()


def test_gains(bench: benches.Bench) -> None:
    table = bench.gains({"edges": Arm(EDGES), "nothing": Arm(EDGES.iloc[:0])})
    assert list(table["variant"]) == ["edges", "nothing"] * 2
    assert list(table["metric"]) == ["recall@5"] * 2 + ["preference@5"] * 2
    assert list(table["added"]) == [20, 0] * 2
    row = table.iloc[0]
    assert row["base"] == pytest.approx(recall(hits(TRAIN)), abs=1e-6)
    assert row["difference"] == pytest.approx(
        recall(hits(TRAIN, EDGES)) - recall(hits(TRAIN)), abs=1e-6
    )
    assert row["low"] <= row["difference"] <= row["high"]
    assert not table.loc[table["variant"] == "nothing", "difference"].any()


def test_without_tastes_there_is_one_yardstick(bench: benches.Bench) -> None:
    study = benches.replace(bench.study, taste=None)
    assert benches.replace(bench, study=study).metrics == ["recall@5"]


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
        row = level[level["metric"] == "recall@5"].iloc[0]
        assert row["base"] == pytest.approx(recall(hits(train)), abs=1e-6)
        assert row["base"] + row["difference"] == pytest.approx(
            recall(hits(train, EDGES)), abs=1e-6
        )


def test_nothing_to_compare_gives_empty_tables(bench: benches.Bench) -> None:
    for table in (benches.ladder(bench, [], lambda train: EDGES), bench.gains({})):
        assert table.empty and {"added", *benches.GAIN} <= set(table)


def test_breaks_even() -> None:
    table = pd.DataFrame({"auc": [0.9, 0.5, 0.7, 0.8], "low": [0.3, 0.1, -0.1, 0.2]})
    assert benches.breaks_even(table, "auc") == 0.8, "at .5 it was luck: .7 does not pay"
    assert benches.breaks_even(table.assign(low=-1.0), "auc") is None
    assert benches.breaks_even(table.assign(low=1.0), "auc") == 0.5


def test_price() -> None:
    effects = pd.DataFrame(
        {
            "backbone": ["A", "B"],
            "relative": [4.0, 9.0],
            "verdict": ["higher", "no detectable effect"],
        }
    )
    costs = pd.DataFrame(
        {
            "questions": [100, 300],
            "tokens_in": [1000, 500],
            "tokens_out": [10, 0],
            "saved_by_cache": [0, 490],
            "saved_by_prefix": [7000, 7000],
            "seconds": [3.0, 5.0],
        }
    )
    table = benches.price(effects, costs)
    columns = ["gain in %", "questions per 1 %", "tokens per 1 %", "seconds per 1 %"]
    assert table.loc[0, columns].tolist() == [4, 100, 500, 2]
    assert table.loc[1, columns].isna().all()
