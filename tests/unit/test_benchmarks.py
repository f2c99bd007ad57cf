"""The pieces of `benchmarks/` on tiny data; how long things take is no matter here."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import (  # noqa: E402
    backbones,
    growth,
    limits,
    peers,
    peers_worker,
    plain_ngcf,
    process,
    ranking,
    recommenders,
)
from benchmarks import data as arrays  # noqa: E402
from dallrec_core.recommenders import build, training  # noqa: E402
from dallrec_core.recommenders.ngcf import NGCFConfig  # noqa: E402
from dallrec_core.recommenders.ranking import Ranking, rank  # noqa: E402

KEYS = {"valid_recall@20", "seconds_per_epoch", "cpu_seconds_to_target", "peak_mib"}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Thirty users, 90 items, and features of two modalities."""
    path = str(tmp_path_factory.mktemp("benchmarks") / "tiny.npz")
    arrays.synthetic(path, 700)
    data = arrays.load(path)
    held_out = np.random.default_rng(0).random(len(data.train)) < 0.2
    vectors = {
        name: np.random.default_rng(1).normal(size=(data.n_items, 5)).astype(np.float32)
        for name in ("attributes", "summary")
    }
    parts = data.train[~held_out], data.train[held_out]
    arrays.save(path, data.n_users, data.n_items, *parts, vectors)
    return path


@pytest.fixture
def few_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, settings in training.SETTINGS.items():
        monkeypatch.setitem(training.SETTINGS, name, replace(settings, epochs=3, eval_every=2))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, few_epochs: None) -> None:
    """Measure in this process, and little of it."""
    small = {
        "limits:measure": {"copy_mib": 1, "gemm_size": 32},
        "ranking:measure": {"copy_mib": 1, "depth": 10},
        "plain_ngcf:measure": {"cap_seconds": 0.01},
        "growth:measure": {"steps": 2},
    }

    def call(function: str, **arguments: object) -> object:
        module, name = function.split(":")
        work = getattr(sys.modules[f"benchmarks.{module}"], name)
        return work(**{**small.get(function, {}), **arguments})

    monkeypatch.setattr(recommenders, "call", call)


def test_synthetic_data_has_the_asked_size_and_a_long_tail(tmp_path: Path) -> None:
    path = str(tmp_path / "synthetic.npz")
    about = arrays.synthetic(path, 20_000)
    train = arrays.load(path).train
    assert about == {"users": 120, "items": 1666, "train": 20_000}
    assert len(train.drop_duplicates()) == len(train) == 20_000
    counts = train["item"].value_counts()
    assert counts.iloc[:166].sum() > 0.3 * len(train)  # a tenth of the items


@pytest.mark.parametrize("name", ["Popularity", "MF-BPR", "NMF", "MMGCN"])
def test_backbone_has_the_promised_keys(file: str, few_epochs: None, name: str) -> None:
    result = backbones.measure(file, name, targets=(0.0, 2.0))
    assert set(result) >= KEYS
    assert 0 < result["valid_recall@20"] <= 1
    assert result["targets"]["2.000"] is None
    if name == "Popularity":
        assert result["seconds_per_epoch"] is None
    else:
        assert [look["epoch"] for look in result["looks"]] == [0, 2, 3]
    json.dumps(process.plain(result))


def test_quality_is_that_of_the_weights_that_fit_keeps(file: str, few_epochs: None) -> None:
    data, settings = arrays.load(file), training.SETTINGS["MF-BPR"]
    graph = data.graph()
    model = build("MF-BPR", graph, config=settings.model)
    training.fit(model, graph, data.validation, settings)
    result = backbones.measure(file, "MF-BPR")
    assert result["valid_recall@20"] == backbones.quality(model, data)["recall@20"]


def test_seconds_are_found_between_looks() -> None:
    points = (0.0, 0.0), (10.0, 0.2), (20.0, 0.1), (30.0, 0.4)
    looks = [{"cpu_seconds": seconds, "recall@20": recall} for seconds, recall in points]
    found = [backbones.seconds_at(looks, recall) for recall in (0.15, 0.25, 0.5)]
    assert found == [pytest.approx(7.5), pytest.approx(25.0), None]
    assert [backbones.reached(looks, recall) for recall in (0.2, 0.5)] == [10.0, None]


def test_limits_follow_from_the_rates() -> None:
    assert limits.bpr_epoch_bytes(796_000) == pytest.approx(1.85e9, rel=0.01)
    arithmetic, gather = limits.graph_layer_seconds(1_000_000, 128e9, 264e9)
    assert (arithmetic, gather) == pytest.approx((1e-3, 1e-3))


def test_right_lists_pass_and_wrong_ones_do_not(file: str) -> None:
    data = arrays.load(file)
    assert ranking.wrong_exact(data, 10, 100) == 0
    random = torch.Generator().manual_seed(0)
    vectors = tuple(torch.randn(n, 4, generator=random) for n in (data.n_users, data.n_items))
    users = np.unique(data.validation["user"].to_numpy())
    good = rank(vectors, data.train, users, 10)
    swapped, twice = good.items.copy(), good.items.copy()
    swapped[:, [0, 9]] = swapped[:, [9, 0]]
    twice[3, 5] = twice[3, 4]
    unmasked = rank(vectors, data.train.iloc[:1], users, 10).items
    lists = (good.items, swapped, twice, unmasked)
    check = {"known": data.train, "sample": 1000, "tolerance": ranking.ROUNDING}
    wrong = [ranking.wrong_lists(Ranking(users, items), *vectors, **check) for items in lists]
    assert wrong[:3] == [0, len(users), 1] and wrong[3] > 0
    tied, known = (torch.ones(1, 1), torch.ones(4, 1)), pd.DataFrame({"user": [0], "item": [2]})
    for order, count in (([0, 1, 3], 0), ([0, 3, 1], 1)):
        listed = Ranking(np.array([0]), np.array([order], np.int32))
        assert ranking.wrong_lists(listed, *tied, known, 1) == count


def test_plain_ngcf_is_ngcf(file: str) -> None:
    graph = arrays.load(file).graph()
    ours = build("NGCF", graph, config={"dropout": 0.0}, seed=3)
    same = plain_ngcf.PlainNGCF(graph, NGCFConfig(dropout=0.0))
    with torch.no_grad():
        same.users.weight.copy_(ours.ego[: graph.n_users])
        same.items.weight.copy_(ours.ego[graph.n_users :])
    same.of_sum.load_state_dict(ours.of_sum.state_dict())
    same.of_product.load_state_dict(ours.of_product.state_dict())
    everyone = torch.arange(graph.n_users)
    torch.testing.assert_close(same.scores(everyone), ours.scores(everyone))
    batch = graph.users[:50], graph.items[:50], graph.items[50:100]
    torch.testing.assert_close(same.loss(*batch), ours.loss(*batch))


def test_comparison_with_plain_says_when_it_was_capped() -> None:
    def looks(*points: tuple[float, float]) -> list[dict[str, float]]:
        return [{"cpu_seconds": seconds, "recall@20": recall} for seconds, recall in points]

    ours = {"seconds_per_epoch": 2.0, "looks": looks((0, 0.01), (4, 0.21), (8, 0.29))}
    capped = {"seconds_per_epoch": 300.0, "capped": True, "cpu_seconds_to_target": None}
    capped["looks"] = looks((0, 0.01), (60, 0.11))
    result = plain_ngcf.compare(ours, capped)
    assert result["epoch"] == 150 and result["capped"]
    assert result["same_quality"] == pytest.approx(30)
    done = capped | {"capped": False, "cpu_seconds_to_target": 600.0}
    assert plain_ngcf.compare(ours, done)["same_quality_recall@20"] == 0.275


@pytest.mark.parametrize("name", growth.BACKBONES)
def test_growth_counts_all_steps_but_times_some(file: str, name: str) -> None:
    some = growth.measure(file, name, steps=3)
    assert some["steps_timed"] == 3 < some["steps_per_epoch"]
    assert some["seconds_per_epoch"] > some["sampling_seconds"] > 0
    every = growth.measure(file, name, steps=10_000)
    assert every["steps_timed"] == every["steps_per_epoch"] == some["steps_per_epoch"]


def test_whole_report(
    file: str, here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recommenders, "QUICK", dict.fromkeys(recommenders.QUICK, {}))
    path = tmp_path / "results.json"
    results = recommenders.Results(path, keep=False)
    parts = ["limits", "evaluation", "EASE", "NGCF", "plain", "peers", "growth"]
    failed = recommenders.run(file, parts, results, quick=True, sizes=(700, 1400, 25_000_000))
    assert failed == []
    table = json.loads(path.read_text())
    assert list(table) == ["EASE", "NGCF", "evaluation", "limits", "peers", "growth"]
    assert all(set(table[name]) >= KEYS for name in ("EASE", "NGCF"))
    assert set(table["evaluation"]) >= {"seconds", "limit_seconds"}
    assert table["evaluation"]["lists_wrong"] == 0
    assert table["peers"] == {}
    assert [point["train"] for point in table["growth"]["MF-BPR"].values()] == [700, 1400]
    assert table["NGCF"]["plain"]["times_longer"]["capped"]
    assert "plain COO NGCF" in recommenders.report(table)
    kept = recommenders.Results(path, keep=True)
    assert kept.table == table


def test_a_failed_part_leaves_the_others(
    file: str, here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(function: str, **arguments: object) -> dict[str, float]:
        if arguments.get("name") == "EASE":
            raise RuntimeError("out of memory")
        return dict.fromkeys(KEYS, 0.5) | {"epochs": 1, "best_epoch": 1}

    monkeypatch.setattr(recommenders, "call", broken)
    results = recommenders.Results(None, keep=False)
    assert recommenders.run(file, ["EASE", "MF-BPR"], results) == ["EASE"]
    assert "MF-BPR" in recommenders.report(results.table)


def test_a_process_of_its_own_returns_its_result_or_fails(file: str, tmp_path: Path) -> None:
    result = process.call("backbones:measure", file=file, name="MF-BPR", epochs=1)
    assert set(result) >= KEYS and result["peak_mib"] > 10
    with pytest.raises(RuntimeError, match="exit status"):
        process.call("data:load", path=str(tmp_path / "absent.npz"))


def test_absent_peers_are_noted(file: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert peers.measure(file, []) == {}
    assert "implicit BPR left out" in capfd.readouterr().err


def test_peers_are_measured_like_us(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = arrays.load(file)
    vectors = np.ones((data.n_users, 1), np.float32), np.zeros((data.n_items, 1), np.float32)
    counts = data.train["item"].value_counts()
    vectors[1][counts.index, 0] = counts

    def popular(train: object, chunk: int) -> peers_worker.Training:
        yield None
        while True:
            yield vectors

    monkeypatch.setitem(peers_worker.PEERS, "popular", ("numpy", popular, 2, 100))
    result = peers_worker.measure(file, "popular")
    reference = backbones.measure(file, "Popularity")
    assert result["valid_recall@20"] == pytest.approx(reference["valid_recall@20"])
    assert result["epochs"] == 10 and not result["capped"]
