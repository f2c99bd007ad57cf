"""The benchmark of asking: compares equal things, counts rightly, and writes what it promises."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks import asking, llm  # noqa: E402

KEYS = ["speedup_standin", "speedup_100m", "speedup_vs_padded", "token_share", "gemm_share",
        "questions_per_second", "max_abs_difference"]  # fmt: skip


def test_questions_share_full_histories() -> None:
    made = asking.questions(3, 5)
    assert len(made) == len(set(made)) == 15 and len({each.prefix for each in made}) == 3
    assert all(each.prefix.count(";") == 14 for each in made)


def test_the_ways_agree_and_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "gemm_rate", lambda: 1e9)
    found = asking.measure("standin", users=2, single=10, padded=40)
    assert found["max_abs_difference"] < 1e-4 < 0.1 < found["spread"]
    assert found["token_share"] < 0.25
    rates = found["questions_per_second"]
    assert found["speedup"] == pytest.approx(rates["ours"] / rates["alone"])
    lm, prompts = asking.model("standin"), asking.questions(2)
    operations, naive = asking.useful_operations(lm, prompts)
    ids = [lm.tokenizer.apply_chat_template([{"role": "user", "content": p.text}],
           add_generation_prompt=True, return_dict=False) for p in prompts]  # fmt: skip
    assert naive == sum(map(len, ids))
    layers = 3 * (4 * 64 * 64 + 3 * 64 * 192)  # of the stand-in: attention and MLP, three times
    tokens = (operations / 2 - 100 * 64 * 4096) / layers
    shared = [np.cumprod([len(set(column)) == 1 for column in zip(*user, strict=False)]).sum()
              for user in (ids[:50], ids[50:])]  # fmt: skip
    assert tokens == naive - 49 * sum(shared)


def test_the_large_model_is_large() -> None:
    config = asking.LARGE
    width, inner = config["hidden_size"], config["intermediate_size"]
    assert config["num_hidden_layers"] * (4 * width * width + 3 * width * inner) > 98e6


def test_the_file_holds_what_is_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(function: str, name: str, threads: int, **sizes: int) -> dict[str, object]:
        large = name == "100m"
        rates = {"ours": 100.0, "alone": 2.0, "greedy": 2.5, "padded": 50.0 / (1 + large)}
        return {"threads": threads, "parameters": 5, "questions_per_second": rates, "speedup": 50.0,
                "speedup_vs_padded": 2.0 * (1 + large), "token_share": 0.1, "gemm_share": 0.6,
                "gemm_gflop_per_s": 9.0, "max_abs_difference": 0.01 * large,
                "spread": 0.5}  # fmt: skip

    monkeypatch.setattr(llm, "call", call)
    path = tmp_path / "llm.json"
    assert llm.main(["--quick", "--json", str(path)]) == 1  # p(yes) differs too much
    table = json.loads(path.read_text())
    assert list(table) == KEYS
    assert table["speedup_vs_padded"] == 2.0 and table["max_abs_difference"] == 0.01
    said = capsys.readouterr().out
    assert "p(yes) within 1.0e-02" in said and "(50.0x), greedily 2.50 (40.0x)" in said
