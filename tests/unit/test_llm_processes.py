"""Two processes under `accelerate launch` give the answers and the adapter of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from llm_support import tiny_checkpoint
from safetensors.torch import load_file
from torch.testing import assert_close

from dallrec_core.llm.finetune import LoraSettings, finetune
from dallrec_core.llm.generate import generate
from dallrec_core.llm.load import load
from dallrec_core.llm.score import p_yes

QUESTIONS = [(f"A viewer liked: Heat (1995) (Action|Crime) {u}.", f" Film {i}?")
             for u in range(12) for i in range(3)]  # fmt: skip
ASKER = """
import json, sys
from pathlib import Path
from dallrec_core.llm import generate as generation, score as scoring
from dallrec_core.llm.cache import AnswerCache
from dallrec_core.llm.load import load, processes

folder, questions = Path(sys.argv[1]), json.loads(sys.argv[3])
lm, asked, score = load(sys.argv[2], device="cpu"), [], scoring._ask
def logged(lm, batch, words):
    asked.extend(i for group in batch for i, _ in group.rows)
    return score(lm, batch, words)
scoring._ask = logged
rank, count = processes().process_index, processes().num_processes
cache = AnswerCache(folder / f"{rank}.sqlite")  # as on two machines without a common disk
p = scoring.p_yes(lm, questions, ["yes"], ["no"], batch_tokens=150, cache=cache)
texts = generation.generate(lm, questions[:9], max_new_tokens=4, batch_size=2)
result = {"count": count, "p": p.tolist(), "texts": texts, "asked": asked, "kept": len(cache)}
(folder / f"{rank}.json").write_text(json.dumps(result))
"""

TUNER = """
import json, sys
from pathlib import Path
from dallrec_core.llm import finetune
from dallrec_core.llm.load import processes

folder, lessons, settings = Path(sys.argv[1]), json.loads(sys.argv[3]), json.loads(sys.argv[4])
wrote, publish = [], finetune.publish
finetune.publish = lambda *args: (wrote.append(1), publish(*args))
log = finetune.finetune(sys.argv[2], lessons, folder / "adapter", finetune.LoraSettings(**settings),
                        task="toy", held_out=lessons[:4], device="cpu")
rank, count = processes().process_index, processes().num_processes
result = {"count": count, "wrote": wrote, "loss": log["loss"].tolist(),
          "left": sorted(path.name for path in folder.glob("adapter*"))}
(folder / f"{rank}.json").write_text(json.dumps(result))
"""


def launch(folder: Path, program: str, *arguments: str) -> list[dict[str, Any]]:
    """Run a program in two processes and return what each wrote into `<rank>.json`."""
    script = folder / "program.py"
    script.write_text(program)
    # accelerate calls its launcher of several processes multi_gpu; without a GPU it uses the CPU
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    options = ["--num_processes=2", "--num_machines=1", "--mixed_precision=no"]
    options += ["--dynamo_backend=no", "--main_process_port=0"]
    command = [*launcher, *options, str(script), str(folder), str(tiny_checkpoint()), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.slow
def test_two_processes_answer_as_one(tmp_path: Path) -> None:
    parts = launch(tmp_path, ASKER, json.dumps(QUESTIONS))
    lm = load(str(tiny_checkpoint()), device="cpu")
    alone = p_yes(lm, QUESTIONS, ["yes"], ["no"], batch_tokens=150).tolist()
    texts = [list(each) for each in generate(lm, QUESTIONS[:9], max_new_tokens=4, batch_size=2)]
    for part in parts:
        assert part["count"] == 2 and part["kept"] == len(QUESTIONS)
        assert part["p"] == pytest.approx(alone, abs=1e-6) and part["texts"] == texts
    shares = [set(part["asked"]) for part in parts]
    assert not shares[0] & shares[1] and shares[0] | shares[1] == set(range(len(QUESTIONS)))
    assert min(map(len, shares)) >= len(QUESTIONS) // 3


@pytest.mark.slow
def test_two_processes_train_the_adapter_of_one(tmp_path: Path) -> None:
    lessons = [{"instruction": f"Question {i}. Answer for {'Heat ' * (i % 5)}",
                "output": ("yes", "no")[i % 2]} for i in range(24)]  # fmt: skip
    options = {"epochs": 2, "learning_rate": 1e-2, "dropout": 0.0}
    halves = options | {"batch_size": 2, "gradient_accumulation": 2}  # 8 examples a step
    parts = launch(tmp_path, TUNER, json.dumps(lessons), json.dumps(halves))
    alone = finetune(str(tiny_checkpoint()), lessons, tmp_path / "alone",
                     LoraSettings(batch_size=8, **options), task="toy", held_out=lessons[:4],
                     device="cpu")  # fmt: skip
    assert [part["wrote"] for part in parts] == [[1], []]  # the first process alone
    for part in parts:
        assert part["count"] == 2 and part["left"] == ["adapter"]
        assert part["loss"] == pytest.approx(alone["loss"].tolist(), abs=1e-5, nan_ok=True)
    one, two = (
        load_file(tmp_path / name / "adapter_model.safetensors") for name in ("alone", "adapter")
    )
    assert set(one) == set(two) and max(float(t.abs().max()) for t in one.values()) > 0.01
    for name, tensor in one.items():
        assert_close(two[name], tensor, atol=1e-5, rtol=0)
