"""Killed at random while asking, again and again: nothing is lost, hardly anything asked twice."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
from llm_support import one_thread, tiny_model  # noqa: F401 (a fixture)

from dallrec_core.llm import score
from dallrec_core.llm.cache import AnswerCache

KILLS = 12
QUESTIONS = [
    (f"A viewer liked: Heat (1995) (Action|Crime) {user}.", f" Film {item}?")
    for user in range(50)
    for item in range(3)
]
really_ask = score._ask


def ask(folder: Path, allowed: int = 10**9, after: bool = False, seed: int = 0) -> list[float]:
    """Ask all questions, a few at a time, and note in a file which reach the model.

    Beyond `allowed` batches it waits, before or `after` asking one, so that a kill always hits a
    process that is asking.
    """
    log = os.open(folder / "asked", os.O_APPEND | os.O_WRONLY | os.O_CREAT)
    moment, done = random.Random(seed), 0

    def pause(here: bool) -> None:
        time.sleep(600 if done >= allowed and here == after else moment.uniform(0, 0.002))

    def logged(lm, batch, words):
        nonlocal done
        positions = [i for group in batch for i, _ in group.rows]
        os.write(log, (json.dumps(positions) + "\n").encode())
        pause(False)
        answers = really_ask(lm, batch, words)
        pause(True)
        done += 1
        return answers

    with pytest.MonkeyPatch.context() as patch, AnswerCache(folder / "a.sqlite") as cache:
        patch.setattr(score, "_ask", logged)
        options = {"cache": cache, "batch_tokens": 60}
        return score.p_yes(tiny_model(), QUESTIONS, ["yes"], ["no"], **options).tolist()


def lines(folder: Path) -> list[list[int]]:
    asked = folder / "asked"
    return [json.loads(line) for line in asked.read_text().splitlines()] if asked.exists() else []


@pytest.mark.usefixtures("one_thread")
def test_kills_cost_at_most_a_batch_each(tmp_path: Path) -> None:
    tiny_model()  # loaded once; each fork asks it and is killed
    chance, fork = random.Random(0), multiprocessing.get_context("fork")
    for _ in range(KILLS):
        allowed, after, seed = chance.randint(1, 3), chance.random() < 0.5, chance.random()
        wanted = len(lines(tmp_path)) + chance.randint(1, allowed)
        child = fork.Process(target=ask, args=(tmp_path, allowed, after, seed), daemon=True)
        child.start()
        while len(lines(tmp_path)) < wanted:
            assert child.is_alive()
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.02))
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL, "it ended before it was killed"
    with AnswerCache(tmp_path / "a.sqlite") as cache:
        assert 0 < len(cache) < len(QUESTIONS), "the kills came while questions were open"
    resumed = ask(tmp_path)
    asked = lines(tmp_path)
    assert {i for batch in asked for i in batch} == set(range(len(QUESTIONS)))
    batch = max(map(len, asked))
    twice = sum(map(len, asked)) - len(QUESTIONS)
    assert batch <= 3 and 0 < twice <= KILLS * batch
    (tmp_path / "whole").mkdir()
    assert ask(tmp_path / "whole") == resumed
