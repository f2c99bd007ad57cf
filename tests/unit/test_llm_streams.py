"""Several passes at a time: the same answers, one model never disturbs another, nothing runs on."""

from __future__ import annotations

import copy
import threading
import time
from dataclasses import replace

import pytest
import torch
from llm_support import tiny_model

from dallrec_core.errors import UserError
from dallrec_core.llm import scoring
from dallrec_core.llm.models import LanguageModel, head_on
from dallrec_core.llm.scoring import p_yes
from dallrec_core.llm.streams import streamed
from dallrec_core.training import threads

QUESTIONS = [(f"A viewer liked: Heat (1995) (Action|Crime) {user}.", f" Film {item}?")
             for user in range(30) for item in range(4)]  # fmt: skip


def test_answers_are_the_same_to_the_last_bit() -> None:
    lm, found = tiny_model(), []
    for count in (1, 2, 3):
        with threads(count):
            found.append(p_yes(lm, QUESTIONS, ["yes"], ["no"], batch_tokens=200))
            assert torch.get_num_threads() == count
    assert (found[0] == found[1]).all() and (found[0] == found[2]).all()
    assert len(set(found[0].tolist())) > 100  # the questions do differ


def test_passes_run_beside_each_other_on_one_core_each() -> None:
    together = threading.Barrier(3, timeout=30)  # passes only when three wait at once

    def work(model: LanguageModel, job: int) -> tuple[int, int]:
        together.wait()
        return job, torch.get_num_threads()

    with threads(3):
        found = sorted(streamed(work, tiny_model(), range(6)))
    assert found == [(job, 1) for job in range(6)]


def test_twins_share_weights_but_no_hooks() -> None:
    lm, together = tiny_model(), threading.Barrier(2, timeout=30)
    ids = torch.tensor([[5, 6, 7, 8]])

    def work(model: LanguageModel, job: int) -> tuple[int, int, int]:
        with head_on(model.model, lambda hidden: hidden[:, :job]):
            together.wait()  # both hooks are there
            shape = model.model(input_ids=ids).logits.shape
            together.wait()
        return job, shape[1], next(model.model.parameters()).data_ptr()

    with threads(2):
        first, second = sorted(streamed(work, lm, [1, 3]))
    assert first[:2] == (1, 1) and second[:2] == (3, 3)
    assert first[2] == second[2] == next(lm.model.parameters()).data_ptr()


def test_an_error_ends_the_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def broken(*_: object) -> dict[int, float]:
        asked.append(1)
        raise UserError("the model is broken")

    monkeypatch.setattr(scoring, "_score", broken)
    with threads(2):
        with pytest.raises(UserError, match="is broken"):
            p_yes(tiny_model(), QUESTIONS, ["yes"], ["no"], batch_tokens=200)
        assert len(asked) <= 2 and torch.get_num_threads() == 2


def test_nothing_runs_on_when_the_caller_stops() -> None:
    begun: list[int] = []

    def work(model: LanguageModel, job: int) -> int:
        begun.append(job)
        time.sleep(0.01)
        return job

    with threads(2):
        results = streamed(work, tiny_model(), range(50))
        next(results)  # and nobody asks for more, but the generator is alive
        time.sleep(0.2)
        assert len(begun) == 2
        results.close()
        assert len(begun) == 2 and torch.get_num_threads() == 2
    assert not [each for each in threading.enumerate() if each.name.startswith("asking")]


@pytest.mark.parametrize("why", ["wide", "replaced"])
def test_other_models_answer_one_after_the_other(why: str) -> None:
    lm = tiny_model()
    if why == "wide":
        config = type(lm.model.config)(**lm.model.config.to_dict() | {"hidden_size": 256})
        lm = replace(lm, model=type(lm.model)(config))
    else:
        lm = replace(lm, model=copy.deepcopy(lm.model))
        lm.model.forward = lm.model.forward  # as accelerate replaces it
    with threads(3):
        found = list(streamed(lambda model, job: (model is lm, job), lm, range(5)))
    assert found == [(True, job) for job in range(5)]


def test_no_jobs() -> None:
    assert list(streamed(lambda model, job: job, tiny_model(), [])) == []
