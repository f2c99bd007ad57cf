"""Killed at random while asking, again and again: nothing is lost, hardly anything asked twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from llm_support import tiny_checkpoint

KILLS = 20

# One process imports torch and loads the model; its forks ask and are killed. A fork that gets
# further than it may before the kill waits for it, so that every kill hits a fork that is asking.
ZYGOTE = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from dallrec_core.llm import score as scoring
from dallrec_core.llm.cache import AnswerCache
from dallrec_core.llm.load import load

folder, kills = Path(sys.argv[1]), int(sys.argv[3])
lm = load(sys.argv[2], device="cpu")
questions = [(f"A viewer liked: Heat (1995) (Action|Crime) {u}.", f" Film {i}?")
             for u in range(80) for i in range(3)]
chance = random.Random(0)

def ask(cache, log=None, allowed=10**9, spot=0, moment=None):
    score, done = scoring._ask, 0
    def pause(here):
        if done >= allowed and here == spot:
            time.sleep(600)
        if moment:
            time.sleep(moment.uniform(0, 0.002))
    def logged(lm, batch, words):
        nonlocal done
        positions = [i for group in batch for i, _ in group.rows]
        if log:
            os.write(log, (json.dumps(positions) + "\\n").encode())
        pause(0)
        answers = score(lm, batch, words)
        pause(1)
        done += 1
        return answers
    scoring._ask = logged
    return scoring.p_yes(lm, questions, ["yes"], ["no"], cache=cache, batch_tokens=60).tolist()

path = folder / "asked"
path.touch()
def lines():
    return path.read_bytes().count(b"\\n")
for _ in range(kills):
    allowed, spot, seed = chance.randint(1, 3), chance.randint(0, 1), chance.random()
    wanted = lines() + chance.randint(1, allowed)
    child = os.fork()
    if child == 0:
        log = os.open(path, os.O_APPEND | os.O_WRONLY)
        ask(AnswerCache(folder / "a.sqlite"), log, allowed, spot, random.Random(seed))
        os._exit(0)
    while lines() < wanted:
        time.sleep(0.001)
    time.sleep(chance.uniform(0, 0.02))
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL, "it ended before it was killed"
score = scoring._ask
with AnswerCache(folder / "a.sqlite") as cache:
    stored = len(cache)
    log = os.open(path, os.O_APPEND | os.O_WRONLY)
    resumed = ask(cache, log)
scoring._ask = score
(folder / "result.json").write_text(
    json.dumps({"stored": stored, "resumed": resumed, "whole": ask(None)}))
"""


def test_twenty_kills_cost_at_most_a_batch_each(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ZYGOTE, str(tmp_path), str(tiny_checkpoint()), str(KILLS)]
    subprocess.run(command, cwd=Path.cwd(), check=True, timeout=300)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["resumed"] == result["whole"] and len(result["whole"]) == 240
    assert 0 < result["stored"] < 240, "the kills came while questions were open"
    asked = [json.loads(line) for line in (tmp_path / "asked").read_text().splitlines()]
    assert {i for batch in asked for i in batch} == set(range(240))
    batch = max(len(each) for each in asked)
    twice = sum(len(each) for each in asked) - 240
    assert batch <= 3 and 0 < twice <= KILLS * batch
