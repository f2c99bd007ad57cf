"""Two processes under `accelerate launch` give the answers and the adapter of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from llm_support import tiny_checkpoint
from safetensors.torch import load_file
from torch.testing import assert_close

from dallrec_core.llm.finetune import LoraSettings, finetune
from dallrec_core.llm.generate import generate
from dallrec_core.llm.load import load
from dallrec_core.llm.score import p_yes

PROGRAM = """
import json, sys
from pathlib import Path
from dallrec_core.llm import finetune, generate, score
from dallrec_core.llm.cache import AnswerCache
from dallrec_core.llm.load import load, processes

folder, given = Path(sys.argv[1]), json.loads(sys.argv[3])
lm, asked, wrote = load(sys.argv[2], device="cpu"), [], []
ask, publish = score._ask, finetune.publish
def logged(lm, batch, words):
    asked.extend(i for group in batch for i, _ in group.rows)
    return ask(lm, batch, words)
score._ask = logged
finetune.publish = lambda *args: (wrote.append(1), publish(*args))
rank = processes().process_index
cache = AnswerCache(folder / f"{rank}.sqlite")  # as on two machines without a common disk
p = score.p_yes(lm, given["questions"], ["yes"], ["no"], batch_tokens=150, cache=cache)
texts = generate.generate(lm, given["questions"][:9], max_new_tokens=4, batch_size=2)
log = finetune.finetune(
    sys.argv[2], given["lessons"], folder / "adapter", finetune.LoraSettings(**given["settings"]),
    task="toy", held_out=given["lessons"][:4], device="cpu")
result = {"count": processes().num_processes, "p": p.tolist(), "texts": texts, "asked": asked,
          "kept": len(cache), "wrote": wrote, "loss": log["loss"].tolist(),
          "left": sorted(path.name for path in folder.glob("adapter*"))}
(folder / f"{rank}.json").write_text(json.dumps(result))
"""
QUESTIONS = [(f"A viewer liked: Heat (1995) (Action|Crime) {u}.", f" Film {i}?")
             for u in range(12) for i in range(3)]  # fmt: skip
LESSONS = [{"instruction": f"Question {i}. Answer for {'Heat ' * (i % 5)}",
            "output": ("yes", "no")[i % 2]} for i in range(24)]  # fmt: skip
SETTINGS = {"epochs": 2, "learning_rate": 1e-2, "dropout": 0.0}


@pytest.mark.slow
def test_two_processes_answer_and_learn_as_one(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    # accelerate calls its launcher of several processes multi_gpu; without a GPU it uses the CPU
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    options = ["--num_processes=2", "--num_machines=1", "--mixed_precision=no"]
    options += ["--dynamo_backend=no", "--main_process_port=0"]
    halves = SETTINGS | {"batch_size": 2, "gradient_accumulation": 2}  # 8 examples a step
    given = json.dumps({"questions": QUESTIONS, "lessons": LESSONS, "settings": halves})
    command = [*launcher, *options, str(script), str(tmp_path), str(tiny_checkpoint()), given]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    parts = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]

    lm = load(str(tiny_checkpoint()), device="cpu")
    alone = p_yes(lm, QUESTIONS, ["yes"], ["no"], batch_tokens=150).tolist()
    texts = [list(each) for each in generate(lm, QUESTIONS[:9], max_new_tokens=4, batch_size=2)]
    one = LoraSettings(batch_size=8, **SETTINGS)
    log = finetune(str(tiny_checkpoint()), LESSONS, tmp_path / "alone", one, task="toy",
                   held_out=LESSONS[:4], device="cpu")  # fmt: skip
    for part in parts:
        assert part["count"] == 2 and part["kept"] == len(QUESTIONS)
        assert part["p"] == pytest.approx(alone, abs=1e-6) and part["texts"] == texts
        assert part["loss"] == pytest.approx(log["loss"].tolist(), abs=1e-5, nan_ok=True)
        assert part["left"] == ["adapter"]
    shares = [set(part["asked"]) for part in parts]
    assert not shares[0] & shares[1] and shares[0] | shares[1] == set(range(len(QUESTIONS)))
    assert min(map(len, shares)) >= len(QUESTIONS) // 3
    assert [part["wrote"] for part in parts] == [[1], []]  # the first process alone
    weights, others = (
        load_file(tmp_path / name / "adapter_model.safetensors") for name in ("alone", "adapter")
    )
    assert max(float(tensor.abs().max()) for tensor in weights.values()) > 0.01
    assert_close(others, weights, atol=1e-5, rtol=0)
