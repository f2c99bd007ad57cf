"""Two processes, as `accelerate launch` starts them, give the answers and the adapter of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from llm_support import (
    free_port,
    one_thread,  # noqa: F401 (a fixture)
    side_by_side,
    tiny_checkpoint,
    tiny_model,
)
from safetensors.torch import load_file
from torch.testing import assert_close

from dallrec_core.llm import adapters, finetune, generate, score
from dallrec_core.llm.cache import AnswerCache
from dallrec_core.llm.load import processes

QUESTIONS = [(f"A viewer liked: Heat (1995) (Action|Crime) {u}.", f" Film {i}?")
             for u in range(12) for i in range(3)]  # fmt: skip
LESSONS = [{"instruction": f"Question {i}. Answer for {'Heat ' * (i % 5)}",
            "output": ("yes", "no")[i % 2]} for i in range(24)]  # fmt: skip
SETTINGS = {"epochs": 2, "learning_rate": 1e-2}


def work(folder: Path, cache: AnswerCache | None = None, **settings: int) -> dict[str, Any]:
    """Answer, write and learn; say what came out and who did it."""
    asked, wrote, ask, publish = [], [], score._ask, adapters.publish

    def logged(lm, batch, words):
        asked.extend(i for group in batch for i, _ in group.rows)
        return ask(lm, batch, words)

    lm, options = tiny_model(), {"task": "toy", "held_out": LESSONS[:4], "device": "cpu"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score, "_ask", logged)
        patch.setattr(adapters, "publish", lambda *args: (wrote.append(1), publish(*args)))
        p = score.p_yes(lm, QUESTIONS, ["yes"], ["no"], batch_tokens=150, cache=cache)
        texts = generate.generate(lm, QUESTIONS[:9], max_new_tokens=4, batch_size=2)
        lora = finetune.LoraSettings(**SETTINGS, **settings)
        log = finetune.finetune(
            str(tiny_checkpoint()), LESSONS, folder / "adapter", lora, **options
        )
    return {
        "count": processes().num_processes, "p": p.tolist(), "texts": [list(t) for t in texts],
        "loss": log["loss"].dropna().tolist(), "asked": asked, "wrote": len(wrote),
    }  # fmt: skip


def one_of_two(rank: int, port: int, folder: Path) -> None:
    """What one process of `accelerate launch` or `torchrun` finds, and does."""
    launched = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2,
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in launched.items():
            patch.setenv(name, str(value))
        patch.setattr(torch.cuda, "is_available", lambda: False)
        AcceleratorState._reset_state(reset_partial_state=True)
        # each with a cache of its own, as on two machines without a common disk
        with AnswerCache(folder / f"{rank}.sqlite") as cache:
            result = work(folder, cache, batch_size=2, gradient_accumulation=2)
            result["kept"] = len(cache)
        (folder / f"{rank}.json").write_text(json.dumps(result))
        torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_thread")
def test_two_processes_answer_and_learn_as_one(tmp_path: Path) -> None:
    tiny_model()  # loaded once, for both forks
    port = free_port()
    side_by_side(one_of_two, (0, port, tmp_path), (1, port, tmp_path))
    assert [path.name for path in tmp_path.glob("adapter*")] == ["adapter"]
    parts = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    alone = work(tmp_path / "alone", batch_size=8)
    for part in parts:
        assert part["count"] == 2 and part["kept"] == len(QUESTIONS)
        assert part["p"] == pytest.approx(alone["p"], abs=1e-6) and part["texts"] == alone["texts"]
        assert part["loss"] == pytest.approx(alone["loss"], abs=1e-5)
    shares = [set(part["asked"]) for part in parts]
    assert not shares[0] & shares[1] and shares[0] | shares[1] == set(range(len(QUESTIONS)))
    assert min(map(len, shares)) >= len(QUESTIONS) // 3
    assert [part["wrote"] for part in parts] == [1, 0]  # the first process alone
    weights, others = (
        load_file(folder / "adapter" / "adapter_model.safetensors")
        for folder in (tmp_path / "alone", tmp_path)
    )
    assert max(float(tensor.abs().max()) for tensor in weights.values()) > 0.01
    assert_close(others, weights, atol=1e-5, rtol=0)
