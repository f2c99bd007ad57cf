"""The pieces of `benchmarks/` on tiny data; how long things take is no matter here."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import (
    asking,
    backbones,
    finetune,
    limits,
    peers_worker,
    ranking,
    recommenders,
)
from benchmarks import data as arrays
from dallrec_core.llm.load import render
from dallrec_core.recommenders import training

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
    """Measure in this process, time things once, and let ItemKNN fail."""

    def call(function: str, **arguments: object) -> object:
        if arguments.get("name") == "ItemKNN":
            raise RuntimeError("out of memory")
        module, name = function.split(":")
        return getattr(sys.modules[f"benchmarks.{module}"], name)(**arguments)

    def once(work: Callable[[], object], **options: object) -> float:
        work()
        return 1e-3

    monkeypatch.setattr(recommenders, "call", call)
    monkeypatch.setattr(recommenders, "QUICK", {**recommenders.QUICK, "growth": {"steps": 2}})
    for module in (limits, ranking):
        monkeypatch.setattr(module, "best_seconds", once)


def test_whole_report_without_the_part_that_failed(file: str, here: None, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    results = recommenders.Results(path, keep=False)
    parts = ["limits", "evaluation", "ItemKNN", "EASE", "MF-BPR", "peers", "growth"]
    failed = recommenders.run(file, parts, results, quick=True, sizes=(700, 1400, 25_000_000))
    assert failed == ["ItemKNN"]
    table = json.loads(path.read_text())
    assert list(table) == ["EASE", "MF-BPR", "evaluation", "limits", "peers", "growth"]
    assert all(set(table[name]) >= KEYS for name in ("EASE", "MF-BPR"))
    assert set(table["evaluation"]) >= {"seconds", "limit_seconds"}
    assert table["evaluation"]["lists_wrong"] == 0
    assert table["peers"] == {}
    assert [point["train"] for point in table["growth"]["MF-BPR"].values()] == [700, 1400]
    assert "growth of LightGCN" in recommenders.report(table)
    assert recommenders.Results(path, keep=True).table == table


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


# ---------------------------------------------------------------- asking a language model


def test_the_ways_of_asking_agree_and_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "gemm_rate", lambda: 1e9)
    found = asking.measure("standin", users=1, single=5, padded=10)
    assert found["max_abs_difference"] < 1e-4 < 0.1 < found["spread"]
    assert found["token_share"] < 0.25
    rates = found["questions_per_second"]
    assert found["speedup"] == pytest.approx(rates["ours"] / rates["alone"])
    lm, prompts = asking.model("standin"), asking.questions(2)
    operations, naive = asking.useful_operations(lm, prompts)
    assert naive == sum(len(lm.encode([render(lm, prompt.text)])[0]) for prompt in prompts)
    weights = sum(p.numel() for p in lm.model.parameters())
    assert 2 * weights * naive / 50 < operations < 2 * weights * naive / 4


# ---------------------------------------------------------------- tuning a language model


def test_both_ways_of_tuning_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetune, "gemm_rate", lambda **_: 1e12)
    sizes = {"steps": 2, "padded_steps": 1, "threads": 1, "dtype": "float32"}
    found = finetune.measure(name="standin", **sizes)
    assert found["loss_difference"] < 1e-4
    ratio = found["examples_per_second"] / found["padded_per_second"]
    assert found["speedup_vs_padded"] == pytest.approx(ratio) and ratio > 1
    assert 0 < found["share_of_matmul"] < 1
