"""The grid: what is trained, what is kept, what the scores are, how failures are told."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster
from pydantic import ValidationError

from dallrec_core.chain.artefacts import read_table, write_table
from dallrec_core.errors import UserError
from dallrec_core.experiment import Arm, Study, controls, grid, run_grid, trainings
from dallrec_core.experiment.controls import listed
from dallrec_core.experiment.grid import Training
from dallrec_core.experiment.scores import inside, load_lists, score_arm
from dallrec_core.recommenders import Graph, training
from dallrec_core.recommenders.ranking import Ranking
from dallrec_core.recommenders.training import TrainSettings

U, N = 40, 130
FAST = {
    name: TrainSettings(epochs=2, batch_size=256, eval_every=1, model={"dim": 4})
    for name in ("MF-BPR", "LightGCN", "MMGCN")
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
def arms(study) -> dict[str, Arm]:
    right = study.test[::6].assign(weight=0.5)  # edges that are test pairs: direct hits
    return {"base": Arm(), "dallrec": Arm(right)}


def planned(arms, backbones=("MF-BPR", "Popularity"), seeds=(0, 1)) -> list[Training]:
    return trainings(backbones, arms, seeds, FAST)


@pytest.fixture(scope="module")
def outcome(study, arms, tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiments")
    return folder, run_grid(study, arms, planned(arms), folder, jobs=1)


def test_the_grid_has_closed_forms_once_and_takes_settings(arms):
    names = [cell.run for cell in planned(arms)]
    assert names.count("Popularity/base/0") == 1 and "Popularity/base/1" not in names
    assert "MF-BPR/dallrec/1" in names and len(names) == 6
    with pytest.raises(UserError, match="unknown"):
        trainings(["MF"], arms, [0])
    assert trainings(["LightGCN"], arms, [0], epochs=1)[0].settings.epochs == 1
    with pytest.raises(ValidationError, match="hard_negative_share"):
        trainings(["MF-BPR"], ["x"], [0], hard_negatives=1.5)


def test_tables_fit_their_schemas(outcome, tmp_path):
    _, (scores, runs, curves) = outcome
    assert set(curves["epoch"]) == {1, 2} and set(curves["backbone"]) == {"MF-BPR"}
    write_table(scores, tmp_path / "scores.parquet", "scores")
    write_table(runs, tmp_path / "runs.parquet", "runs")
    assert len(read_table(tmp_path / "runs.parquet", "runs")) == 6
    assert scores["run"].nunique() == 6
    by_run = runs.set_index("run")[["edges", "added", "epochs"]]
    more = by_run.loc["MF-BPR/dallrec/0"] - by_run.loc["MF-BPR/base/0"]
    assert more["edges"] == more["added"] > 0 and by_run.loc["MF-BPR/base/0", "epochs"] == 2
    named = {"recall@50[cold]", "ndcg@10", "recall@20|masked", "preference@20"}
    assert named <= set(scores["metric"])


def test_conventions_by_hand():
    nothing = pd.DataFrame({"user": [0], "item": [9]})
    test = pd.DataFrame({"user": [0, 0, 0, 1], "item": [5, 1, 7, 2]})
    groups = {"odd": np.arange(10) % 2 == 1}
    taste = np.array([[0, 0, 0, 9, 0, 8, 0, 0, 0, 0], [0, 0, 9, 0, 0, 0, 0, 0, 8, 0]], np.float32)
    test["rating"] = [5, 4, 3, 2]
    study = Study(nothing, nothing[:0], test, 2, 10, taste, 4, groups)
    ranking = Ranking(np.arange(2), np.array([[5, 3, 1, 0], [0, 2, 1, 3]], np.int32))
    added = pd.DataFrame({"user": [0, 0, 1], "item": [5, 3, 8]})
    direct = test[inside(test, added, 10)]
    assert direct[["user", "item"]].to_numpy().tolist() == [[0, 5]]
    row = score_arm(study, ranking, added, direct, (2,), 2).set_index("user")
    assert row.loc[0, "recall@2"] == pytest.approx(1 / 3)  # 5 of {5, 1, 7}
    assert row.loc[0, "recall@2|masked"] == pytest.approx(1 / 3)  # list 1, 0: 1 of {5, 1, 7}
    assert row.loc[0, "ndcg@2|masked"] == pytest.approx(1 / (1 + 1 / np.log2(3)))
    assert row.loc[0, "recall@2|no-direct-hits"] == 1 / 2  # list 3, 1: 1 of {1, 7}
    assert row.loc[1, "recall@2|no-direct-hits"] == 1
    assert row.loc[0, "recall@2[odd]"] == row.loc[0, "recall@2[cold]"] == 1 / 3
    assert np.isnan(row.loc[1, "recall@2[odd]"])
    assert row["preference@2"].tolist() == [1, 1 / 2]
    assert row.loc[0, "recall@2[liked]"] == 1 / 2  # 5 of {5, 1}
    assert np.isnan(row.loc[1, "recall@2[liked]"])  # what this user has in the test was disliked
    for same in (5, np.nan, 1):
        assert replace(study, test=test.assign(rating=same)).liked is None
    plays = pd.DataFrame({"user": [0, 0, 0, 1], "item": [2, 3, 4, 3], "rating": [1, 4, 9, 1]})
    for scale, items in (("count", [5, 2]), ("median", [5, 1, 2])):  # 4 and 1 are the medians
        liked = replace(study, train=plays, like_threshold=scale).liked
        assert liked is not None and liked["item"].tolist() == items
    nothing = score_arm(study, ranking, added[:0], direct, (2,), 2)
    assert nothing["recall@2|masked"].equals(nothing["recall@2"])


def test_hidden_items_are_ranked_among_themselves(study, tmp_path):
    hidden = np.arange(N) % 4 == 0
    train, validation = (part[~hidden[part["item"]]] for part in (study.train, study.validation))
    study = replace(study, train=train, validation=validation, hidden=hidden)
    scores, _, _ = run_grid(
        study, {"base": Arm()}, planned(["base"], ["Popularity"]), tmp_path, jobs=1, variants_at=5
    )
    found = scores.pivot(index="user", columns="metric", values="value")
    # nobody has rated them, so Popularity lists them by their codes
    test = study.test[hidden[study.test["item"]]].groupby("user")["item"].agg(set)
    first = set(np.flatnonzero(hidden)[:5])
    expected = test.map(lambda wanted: len(wanted & first) / len(wanted))
    known = found["recall@5|hidden"].dropna()
    np.testing.assert_allclose(known.loc[expected.index], expected)
    assert len(known) == len(expected)
    assert (found["recall@10[hidden]"].dropna() <= 1).all() and "ndcg@5|hidden" in found


def test_each_seed_takes_a_dealing_of_its_own(study, arms, tmp_path):
    first, second = arms["dallrec"].edges, study.test[1::6]
    dealt = Arm(first, deals=(first, second))
    arms = {"dealt": dealt, "first": Arm(first), "second": Arm(second)}
    arms |= {f"of {name}": Arm(first, guesses_of=name) for name in ("dealt", "second")}
    runs = run_grid(study, arms, planned(arms, ["MF-BPR"], (0, 1, 2)), tmp_path, jobs=1)[1]
    same = runs.groupby("arm")["shared"].apply(list)  # as an earlier row's training
    assert not any(same["dealt"])
    assert same["first"] == [True, False, True] and same["second"] == [False, True, False]
    # three guides each, of which one is the same
    assert len(list(tmp_path.rglob(f"*{grid.GUESSES}"))) == 5


def test_what_an_arm_leaves_out_is_not_trained_on(study, tmp_path):
    left = study.train[::3]
    arms = {"base": Arm(), "less": Arm(left_out=left)}
    whole = run_grid(study, arms, planned(arms, ["MF-BPR"], (0,)), tmp_path, jobs=1)[1]
    edges = whole.set_index("arm")["edges"]
    assert edges["base"] - edges["less"] == len(left) and not whole["shared"].any()
    without = replace(study, train=study.train.drop(left.index))
    only = {"base": Arm()}
    alone = run_grid(without, only, planned(only, ["MF-BPR"], (0,)), tmp_path, jobs=1)[1]
    assert alone["edges"].tolist() == [edges["less"]]
    # still seen, and so not ranked
    lists = [load_lists(path) for path in tmp_path.rglob("*.npz")]
    shown = [inside(listed(r.users, r.items), left, study.n_items).any() for r in lists]
    assert sorted(shown) == [False, False, True]


def test_finished_cells_are_not_trained_again(outcome, study, arms, monkeypatch):
    folder, first = outcome

    monkeypatch.setattr(grid, "train_one", Mock(side_effect=AssertionError("trained again")))
    # the order of rows is not content; a weight, a setting and a seed are
    edges = arms["dallrec"].edges
    shuffled = {"base": Arm(), "dallrec": Arm(edges.sample(frac=1, random_state=0))}
    again = run_grid(study, shuffled, planned(arms), folder, jobs=1)
    for one, two in zip(first, again, strict=True):
        pd.testing.assert_frame_equal(one, two)
    for change in (
        {"arms": {"base": Arm(), "dallrec": Arm(edges.assign(weight=0.6))}},
        {"grid": [replace(cell, seed=7) for cell in planned(arms)]},
        {"grid": [replace(c, settings=replace(c.settings, epochs=3)) for c in planned(arms)]},
        {"study": replace(study, train=study.train[1:])},
    ):
        options = {"study": study, "arms": arms, "grid": planned(arms)} | change
        with pytest.raises(AssertionError, match="trained again"):
            run_grid(**options, folder=folder, jobs=1)


def test_failures_name_their_training_and_keep_the_rest(study, arms, tmp_path, monkeypatch):
    wild = replace(FAST["MF-BPR"], learning_rate=1e30, epochs=40)
    bad = Training("MF-BPR", "base", 0, wild)
    good = Training("LightGCN", "base", 0, FAST["LightGCN"])  # the dearer one is started first
    for jobs in (1, 2):
        with pytest.raises(UserError, match="MF-BPR/base/0: .*lower learning_rate"):
            run_grid(study, arms, [bad, good], tmp_path, jobs=jobs)
        names = [path.suffix for path in (tmp_path / "trainings").iterdir()]
        assert names.count(".npz") == 1 and ".partial" not in names
    flood = pd.DataFrame({"user": 0, "item": np.arange(100)})
    flood = flood[~flood["item"].isin(study.seen.query("user == 0")["item"])]
    monkeypatch.setattr(training, "fit", lambda model, *_, **__: 1 / 0)
    arms = {"base": Arm(), "flood": Arm(flood)}
    with pytest.raises(RuntimeError, match="MF-BPR/base/0: ZeroDivisionError: division"):
        run_grid(study, arms, [Training("MF-BPR", "base", 0)], tmp_path, jobs=1)
    monkeypatch.undo()
    for arm, message in (
        ("x", "arm 'x' is not defined; there are base"),
        ("flood", "lower the number of edges"),  # more of them than the stored lists are long
    ):
        with pytest.raises(UserError, match=message):
            run_grid(study, arms, [Training("Popularity", arm, 0)], tmp_path, jobs=1)


# ---------------------------------------------------------------- what a backbone does not read


def read_only(seed: int) -> dict[str, np.ndarray]:
    """Features as other processes get them."""
    made = np.random.default_rng(seed).random((2, N, 4)).astype(np.float32)
    made.setflags(write=False)
    return {"attributes": made[0], "summary": made[1]}


@pytest.mark.filterwarnings("error:The given NumPy array is not writ")
def test_arms_that_differ_in_unread_features_are_trained_once(study, tmp_path):
    arms = {"base": Arm(features=read_only(0)), "written": Arm(features=read_only(1))}
    listed = trainings(("MF-BPR", "EASE", "MMGCN"), arms, [0], FAST)
    scores, runs, curves = run_grid(study, arms, listed, tmp_path, jobs=1)
    assert len(list((tmp_path / "trainings").glob("*.npz"))) == 4  # 2 of MMGCN
    own = ["MF-BPR/base/0", "EASE/base/0", "MMGCN/base/0", "MMGCN/written/0"]
    assert runs.loc[~runs["shared"], "run"].tolist() == own
    assert len(runs) == len(listed) == 6 and set(curves["arm"]) == {"base", "written"}
    by_run = scores.pivot_table("value", ["metric", "user"], "run", sort=False)
    for name in ("MF-BPR", "EASE"):
        assert by_run[f"{name}/base/0"].equals(by_run[f"{name}/written/0"].rename("other"))
    assert not np.array_equal(by_run["MMGCN/base/0"], by_run["MMGCN/written/0"], equal_nan=True)


def test_no_answers_reach_the_graph_where_negatives_are_drawn_from_them(
    study, tmp_path, monkeypatch
):
    seen, fit = [], training.fit

    def spy(model, graph, *args, **options):
        seen.append(list(zip(graph.hard_users.tolist(), graph.hard_items.tolist(), strict=True)))
        return fit(model, graph, *args, **options)

    monkeypatch.setattr(training, "fit", spy)
    free = study.test.iloc[:2]
    said = pd.concat([free, study.train[:1]]).assign(answer="no")
    arms = {"base": Arm(), "dallrec": Arm(negatives=said), "edges": Arm(free)}
    for share, shared in ((0.5, ["EASE"]), (0, ["MF-BPR", "EASE"])):
        listed = trainings(["MF-BPR", "EASE"], arms, [0], FAST, hard_negatives=share)
        _, runs, _ = run_grid(study, arms, listed, tmp_path, jobs=1)
        assert runs.loc[runs["shared"], "run"].tolist() == [f"{name}/dallrec/0" for name in shared]
    # without such answers it is the same training with any share
    assert sorted(seen) == [[]] * 4 + [list(zip(free["user"], free["item"], strict=True))]


# ---------------------------------------------------------------- a backbone's own guesses


@pytest.fixture(scope="module")
def guessing(study) -> dict[str, Arm]:
    like = pd.DataFrame({"user": [0, 0, 5], "item": [1, 2, 3], "weight": [0.5, 1.0, 0.7]})
    free = like[~inside(like, study.train, N)]
    return {"base": Arm(), "self": Arm(free, guesses_of="base")}


def test_own_guesses_are_those_of_the_same_training(study, guessing, tmp_path, monkeypatch):
    trained, build = [], Graph.from_frame

    def spy(train, n_users, n_items, extra, **options):
        trained.append(extra)
        return build(train, n_users, n_items, extra=extra, **options)

    monkeypatch.setattr(Graph, "from_frame", spy)
    listed = trainings(["MF-BPR", "Popularity"], ["self", "base"], [0, 1], FAST)
    scores, runs, _ = run_grid(study, guessing, listed, tmp_path, jobs=1)
    assert len(trained) == 6 and len(runs) == 6 and not runs["shared"].any()  # base trained once
    like = guessing["self"].edges
    assert runs.groupby("arm")["added"].max().to_dict() == {"base": 0, "self": len(like)}

    edges = [frame for frame in trained if len(frame)]
    assert any(frame.equals(controls.popular(like, study.train, U, N)) for frame in edges)
    assert len({frame.to_csv() for frame in edges}) == 3  # by backbone and by seed

    # nothing is trained again, and a base that another grid has trained only guesses once more
    run_grid(study, guessing, listed, tmp_path, jobs=1)
    assert len(trained) == 6
    one, other = trainings(["MF-BPR"], ["base", "self"], [0], FAST), tmp_path / "other"
    run_grid(study, guessing, one[:1], other, jobs=1)
    again, _, _ = run_grid(study, guessing, one[1:], other, jobs=1)
    alone = ~again["metric"].str.contains("direct")  # those read the edges of all arms
    first = scores[scores["run"] == "MF-BPR/self/0"].reset_index(drop=True)
    pd.testing.assert_frame_equal(again[alone], first[alone])
    with pytest.raises(UserError, match="arm 'base' is not defined; there are self"):
        run_grid(study, {"self": guessing["self"]}, listed[:1], tmp_path)


def test_processes_and_a_dask_cluster_give_the_same_tables(study, arms, tmp_path, monkeypatch):
    big = {"x": np.random.default_rng(0).random((N, 2500)).astype(np.float32)}  # goes as a file
    arms = {name: replace(arm, features=big) for name, arm in arms.items()}
    listed = trainings(["MMGCN", "Popularity"], arms, [0], FAST)
    one, two = (run_grid(study, arms, listed, tmp_path / str(n), jobs=n) for n in (1, 2))
    options = {"processes": False, "protocol": "tcp", "dashboard_address": None}
    with LocalCluster(n_workers=1, threads_per_worker=1, **options) as own:
        address = own.scheduler_address
        found = run_grid(study, arms, listed, tmp_path / "dask", scheduler=address)
    for tables in zip(one, two, found, strict=True):
        plain = [table.drop(columns=["seconds", "peak_mib"], errors="ignore") for table in tables]
        pd.testing.assert_frame_equal(plain[0], plain[1])
        pd.testing.assert_frame_equal(plain[0], plain[2])
    impatient = SimpleNamespace(Client=lambda where, timeout: Client(where, timeout="1s"))
    for module, message in (
        (impatient, f"no Dask scheduler answers at {address}"),
        (None, "pip install distributed"),
    ):
        monkeypatch.setitem(sys.modules, "distributed", module)
        with pytest.raises(UserError, match=message):
            run_grid(study, arms, planned(arms), tmp_path / "gone", scheduler=address)
