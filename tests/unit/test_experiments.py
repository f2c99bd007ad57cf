"""The grid: what is trained, what is kept, what the scores are, how failures are told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from dallrec_core import experiments
from dallrec_core.artifacts import read_table, write_table
from dallrec_core.errors import UserError
from dallrec_core.experiments import Arm, Cell, Study, cells, run_cells
from dallrec_core.recommenders.ranking import Ranking
from dallrec_core.study import direct_hits, score_arm
from dallrec_core.training import TrainSettings

U, N = 40, 130
FAST = {
    name: TrainSettings(epochs=2, batch_size=256, eval_every=1, model={"dim": 4})
    for name in ("MF-BPR", "LightGCN")
}


@pytest.fixture(scope="module")
def study() -> Study:
    random = np.random.default_rng(0)
    taste = random.random((U, N)).astype(np.float32)
    users, items = np.nonzero(random.random((U, N)) < 0.2 * taste)
    frame = pd.DataFrame({"user": users, "item": items})
    part = pd.Series(random.random(len(frame)))
    train, validation, test = frame[part < 0.7], frame[part.between(0.7, 0.8)], frame[part > 0.8]
    return Study(train, validation, test, U, N, taste)


@pytest.fixture(scope="module")
def arms(study) -> dict[str, Arm | pd.DataFrame | None]:
    right = study.test[::6].assign(weight=0.5)  # edges that are test pairs: direct hits
    return {"base": None, "dallrec": right}


def grid(arms, backbones=("MF-BPR", "Popularity"), seeds=(0, 1)) -> list[Cell]:
    return cells(backbones, arms, seeds, FAST)


@pytest.fixture(scope="module")
def outcome(study, arms, tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiments")
    return folder, run_cells(study, arms, grid(arms), folder, jobs=1)


def test_grid_runs_closed_forms_once(arms):
    names = [cell.run for cell in grid(arms)]
    assert names.count("Popularity/base/0") == 1 and "Popularity/base/1" not in names
    assert "MF-BPR/dallrec/1" in names and len(names) == 6
    with pytest.raises(UserError, match="no seed"):
        cells(["MF-BPR"], arms, [])
    with pytest.raises(UserError, match="unknown"):
        cells(["MF"], arms, [0])
    assert cells(["LightGCN"], arms, [0], epochs=1)[0].settings.epochs == 1


def test_tables_fit_their_schemas(outcome, tmp_path):
    _, (scores, runs, curves) = outcome
    assert set(curves["epoch"]) == {1, 2} and set(curves["backbone"]) == {"MF-BPR"}
    write_table(scores, tmp_path / "scores.parquet", "scores")
    write_table(runs, tmp_path / "runs.parquet", "runs")
    assert len(read_table(tmp_path / "runs.parquet", "runs")) == 6
    assert scores["run"].nunique() == 6
    by_run = runs.set_index("run")
    assert by_run.loc["MF-BPR/dallrec/0", "edges"] > by_run.loc["MF-BPR/base/0", "edges"]
    assert by_run.loc["MF-BPR/dallrec/0", "added"] > 0
    assert set(runs.loc[runs["backbone"] == "MF-BPR", "epochs"]) == {2}


def test_conventions(outcome, study):
    _, (scores, _, _) = outcome
    mean = scores.groupby(["run", "metric"])["value"].mean()
    base, other = mean["MF-BPR/base/0"], mean["MF-BPR/dallrec/0"]
    # without added edges masking changes nothing
    assert base["recall@20|masked"] == pytest.approx(base["recall@20"])
    assert base["recall@20|no-direct-hits"] != base["recall@20"]
    assert 0 < other["preference@20"] < 1
    assert {"recall@20[cold]", "recall@50[cold]", "ndcg@10", "mrr@20"} <= set(mean.index.levels[1])


def test_conventions_by_hand():
    nothing = pd.DataFrame({"user": [0], "item": [9]})
    test = pd.DataFrame({"user": [0, 0, 0, 1], "item": [5, 1, 7, 2]})
    study = Study(nothing, nothing[:0], test, 2, 10)
    ranking = Ranking(np.arange(2), np.array([[5, 3, 1, 0], [0, 2, 1, 3]], np.int32))
    added = pd.DataFrame({"user": [0, 0, 1], "item": [5, 3, 8]})
    direct = direct_hits({"base": Arm(), "x": Arm(added)}, test, 10)
    assert direct.to_numpy().tolist() == [[0, 5]]
    row = score_arm(study, ranking, added, direct, (2,), 2).set_index("user")
    assert row.loc[0, "recall@2"] == pytest.approx(1 / 3)  # 5 of {5, 1, 7}
    assert row.loc[0, "recall@2|masked"] == pytest.approx(1 / 3)  # list 1, 0: 1 of {5, 1, 7}
    assert row.loc[0, "ndcg@2|masked"] == pytest.approx(1 / (1 + 1 / np.log2(3)))
    assert row.loc[0, "recall@2|no-direct-hits"] == 1 / 2  # list 3, 1: 1 of {1, 7}
    assert row.loc[1, "recall@2|no-direct-hits"] == 1


def test_finished_cells_are_not_trained_again(outcome, study, arms, monkeypatch):
    folder, first = outcome

    def never(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(experiments, "_run_cell", never)
    again = run_cells(study, arms, grid(arms), folder, jobs=1)
    for one, two in zip(first, again, strict=True):
        pd.testing.assert_frame_equal(one, two)
    # the order of rows is not content; a weight, a setting and a seed are
    shuffled = {"base": None, "dallrec": arms["dallrec"].sample(frac=1, random_state=0)}
    run_cells(study, shuffled, grid(arms), folder, jobs=1)
    for change in (
        {"arms": {"base": None, "dallrec": arms["dallrec"].assign(weight=0.6)}},
        {"grid": [replace(cell, seed=7) for cell in grid(arms)]},
        {"grid": [replace(c, settings=replace(c.settings, epochs=3)) for c in grid(arms)]},
        {"study": replace(study, train=study.train[1:])},
    ):
        options = {"study": study, "arms": arms, "grid": grid(arms)} | change
        with pytest.raises(AssertionError, match="trained again"):
            run_cells(**options, folder=folder, jobs=1)


def test_processes_give_the_same_as_one(outcome, study, arms, tmp_path):
    _, (scores, runs, _) = outcome
    two_scores, two_runs, _ = run_cells(study, arms, grid(arms), tmp_path, jobs=2)
    pd.testing.assert_frame_equal(scores, two_scores)
    volatile = ["seconds", "peak_mib"]
    pd.testing.assert_frame_equal(runs.drop(columns=volatile), two_runs.drop(columns=volatile))


@pytest.mark.parametrize("jobs", [1, 2])
def test_failures_name_their_cell_and_keep_the_rest(study, arms, tmp_path, jobs):
    wild = replace(FAST["MF-BPR"], learning_rate=1e30, epochs=40)
    bad = Cell("MF-BPR", "base", 0, wild)
    good = Cell("LightGCN", "base", 0, FAST["LightGCN"])  # the dearer one is started first
    with pytest.raises(UserError, match="MF-BPR/base/0: .*lower learning_rate"):
        run_cells(study, arms, [bad, good], tmp_path, jobs=jobs)
    if jobs == 1:
        assert len(list((tmp_path / "cells").glob("*.parquet"))) == 1
    assert not list((tmp_path / "cells").glob("*.partial"))


def test_unexpected_errors_name_their_cell(study, arms, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(experiments.training, "fit", broken)
    with pytest.raises(RuntimeError, match="MF-BPR/base/0: ZeroDivisionError: oops"):
        run_cells(study, arms, grid(arms)[:1], tmp_path, jobs=1)


def test_unknown_arm(study, tmp_path):
    with pytest.raises(UserError, match="arm 'x' is not defined; there are base"):
        run_cells(study, {"base": None}, [Cell("Popularity", "x", 0)], tmp_path)


def test_too_many_added_edges_for_the_stored_list(study, tmp_path):
    flood = pd.DataFrame({"user": 0, "item": np.arange(100)})
    flood = flood[~flood["item"].isin(study.seen.query("user == 0")["item"])]
    with pytest.raises(UserError, match="lower the number of edges"):
        run_cells(study, {"flood": flood}, [Cell("Popularity", "flood", 0)], tmp_path, jobs=1)


def test_features_are_part_of_the_key():
    one, two = np.zeros((N, 2), np.float32), np.ones((N, 2), np.float32)
    assert Arm(features={"text": one}).digest() != Arm(features={"text": two}).digest()
    assert Arm().digest() == Arm(pd.DataFrame({"user": [], "item": []})).digest()
