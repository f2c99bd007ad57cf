"""A served model answers as a loaded one does, and no bad day of a server costs an answer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llm_support import free_port
from server_support import Served, answer_like_vllm, completion, serving
from transformers.cli.serve import Serve
from transformers.utils import logging

from dallrec_core.augmentation.prompts import interaction_prompt
from dallrec_core.errors import UserError
from dallrec_core.llm.cache import AnswerCache
from dallrec_core.llm.checkpoints import BUNDLED
from dallrec_core.llm.generate import Generated, generate
from dallrec_core.llm.ledger import Ledger, Usage
from dallrec_core.llm.load import LanguageModel, load, open_model
from dallrec_core.llm.score import p_yes
from dallrec_core.llm.served import KEY_VARIABLE, ServedModel, connect

pytest.importorskip("openai")

YES, NO = ("yes", "Yes", "YES"), ("no", "No", "NO")
FILMS = ["Heat (1995) (Crime|Drama)", "Fargo (1996) (Crime)", "Alien (1979) (Horror|Sci-Fi)",
         "Amelie (2001) (Comedy|Romance)", "Up (2009) (Animation)"]  # fmt: skip
PROMPTS = [
    interaction_prompt("movie", FILMS[:n], FILMS[n:4], target)
    for n in range(1, 4)
    for target in FILMS
]


@pytest.fixture(scope="module")
def local() -> LanguageModel:
    return load("standin", device="cpu")


@pytest.fixture(scope="module")
def expected(local: LanguageModel) -> np.ndarray:
    return p_yes(local, PROMPTS, YES, NO)


def like_vllm(lm: LanguageModel, **options: Any) -> Served:
    return Served(lambda body: answer_like_vllm(lm, body), **options)


def linked(served: Served, concurrency: int = 4) -> ServedModel:
    return replace(connect(served.url, ["standin"]), concurrency=concurrency)


def yes_or_no(lm: ServedModel, **options: Any) -> np.ndarray:
    return p_yes(lm, PROMPTS, YES, NO, **options)


def test_texts_are_asked_side_by_side_within_their_limits() -> None:
    running: list[int] = []
    at_once = []

    def echo(body: dict[str, Any]) -> dict[str, Any]:
        running.append(1)
        at_once.append(len(running))
        time.sleep(0.03)
        running.pop()
        cut = "..." if body["max_tokens"] < 5 else ""
        return completion(f" {body['messages'][0]['content']} {cut}")

    with serving(Served(echo)) as served:
        lm = linked(served, 3)
        got = generate(lm, [("a ", "b"), *"cdef"], max_new_tokens=9)
        assert got[:2] == [Generated("a b", 2, False), Generated("c", 1, False)]
        assert generate(lm, ["c"], max_new_tokens=3)[0].truncated
    assert max(at_once) == 3 and {body["temperature"] for body in served.asked} == {0.0}


def test_counts_the_tokens_that_the_server_reports(tmp_path: Path) -> None:
    served = Served(lambda body: completion("yes of course"))  # 3 tokens read, 3 written
    n, ledger = len(PROMPTS), Ledger("served")
    with serving(served), AnswerCache(tmp_path / "a.sqlite") as cache:
        lm = linked(served)
        for task, saved in (("first", 0), ("second", n)):
            with ledger.task(task) as counts:
                generate(lm, PROMPTS, max_new_tokens=9, cache=cache)
            asked = 3 * (n - saved)
            assert counts == Usage(n, saved, asked, asked, saved_by_cache=3 * saved)
        with ledger.task("asked") as counts:
            yes_or_no(lm)
    assert counts == Usage(n, tokens_in=3 * n, tokens_out=3 * n)


def test_equals_the_loaded_model_though_the_server_is_busy_or_fails(
    local: LanguageModel, expected: np.ndarray
) -> None:
    assert np.ptp(expected) > 0.1  # the questions do differ
    moods = {3: "dead", 5: "429", 6: "500", 7: "503", 9: "429"}
    with serving(like_vllm(local, mood=lambda n: moods.get(n, "good"))) as served:
        lm = linked(served, 1)
        assert lm.logprobs == 20
        np.testing.assert_allclose(yes_or_no(lm), expected, atol=1e-3)
        # one question to try the server, those that were asked again, and no token too many
        assert len(served.asked) == 1 + len(PROMPTS) + len(moods)
        assert {body["max_tokens"] for body in served.asked} == {1}


BAD_DAYS = {
    "429": "Error code: 429",
    "404": "Error code: 404",
    "dead": "Connection error",
    "stall": "Request timed out",
    "page": "it sent what is no answer",
    "cut": "failed: Unterminated",
    "plain": "left out the log-probabilities",
}


@pytest.mark.parametrize("mood", BAD_DAYS)
def test_a_bad_day_costs_no_finished_answer(
    mood: str, local: LanguageModel, expected: np.ndarray, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv(KEY_VARIABLE, "sesame-open")
    monkeypatch.setenv("OPENAI_API_KEY", "not-for-this-server")
    served = like_vllm(local, mood=lambda n: "good" if n <= 6 else mood)
    with serving(served), AnswerCache(tmp_path / "a.sqlite") as cache:
        lm = linked(served, 2)
        lm.client.max_retries = 1
        lm.client.timeout = 2.0 if mood == "stall" else 60.0
        with pytest.raises(UserError, match=BAD_DAYS[mood]) as caught:
            yes_or_no(lm, cache=cache)
        assert "Finished answers are kept: run again" in str(caught.value)
        assert served.url in str(caught.value) and "sesame" not in str(caught.value)
        assert caught.value.__cause__ is None and "sesame" not in repr(lm)
        assert served.keys == {"Bearer sesame-open"}
        assert len(cache) == 5  # six answers, one of them to the first try
        served.mood, before = lambda n: "good", len(served.asked)
        np.testing.assert_allclose(yes_or_no(lm, cache=cache), expected, atol=1e-3)
        assert len(served.asked) - before == len(PROMPTS) - 5


TEXTS = {"Yes.": 1, "**Yes**": 1, " NO": 0, "The answer is: no": 0, "no\nuser likes": 0, "": np.nan,
         "Yes or no": np.nan, "maybe": np.nan, "Nothing yesterday": np.nan}  # fmt: skip


def test_a_server_without_log_probabilities_is_read_as_text(tmp_path: Path) -> None:
    with serving(Served(lambda body: completion(body["messages"][0]["content"]))) as served:
        lm = linked(served)
        assert lm.logprobs == 0
        with AnswerCache(tmp_path / "a.sqlite") as cache:
            for _ in range(2):
                got = p_yes(lm, list(TEXTS), YES, NO, cache=cache)
                np.testing.assert_array_equal(got, list(TEXTS.values()))
        assert len(served.asked) == 1 + len(TEXTS)
        for words in (["yes"], []):
            with pytest.raises(UserError, match="at least one spelling each, and none in common"):
                p_yes(lm, ["a"], words, ["yes"])


def test_wishes_that_a_server_refuses_are_dropped(local: LanguageModel) -> None:
    def strict(number: int) -> str:
        body = served.asked[number - 1]
        refused = "chat_template_kwargs" in body or body.get("top_logprobs", 0) > 5
        return "400" if refused else "good"

    with serving(like_vllm(local, mood=strict)) as served:
        lm = connect(served.url, ["standin"])
        assert (lm.logprobs, lm.extra) == (5, {})
        assert np.isfinite(yes_or_no(lm)).all()


def test_the_task_is_preferred_to_its_base_model(
    local: LanguageModel, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = {"language_model": "standin", "revision": "", "quantize": "none", "dtype": "auto"}
    with serving(like_vllm(local, models=("standin", "summaries"))) as served:
        names = [
            open_model(chosen, t, None, served.url).name for t in ("interactions", "summaries")
        ]
        assert names == ["standin", "summaries"]
        noted = open_model({**chosen, "llm_backend": served.url}, "summaries", None)
        assert noted.name == "standin"
    said = f"asking 'summaries' at {served.url}; p(yes) is read from log-probabilities"
    assert said in capsys.readouterr().out
    assert isinstance(open_model(chosen, "summaries", None), LanguageModel)


def test_an_address_where_nobody_answers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai._base_client.BaseClient._calculate_retry_timeout", lambda *_: 0)
    with pytest.raises(UserError, match="http://127.0.0.1:9/v1 .*Connection error.*llm_backend"):
        connect("http://127.0.0.1:9/v1", ["standin"])


# ---------------------------------------------------------------- a real server


@contextmanager
def transformers_serve() -> Iterator[str]:
    """`transformers serve` with the bundled model, in a thread."""
    for needed in ("fastapi", "uvicorn"):
        pytest.importorskip(needed)
    verbosity, port = logging.get_verbosity(), free_port()
    place = {"host": "127.0.0.1", "port": port, "device": "cpu"}
    serve = Serve(str(BUNDLED["standin"]), **place, log_level="error", non_blocking=True)
    try:
        while not serve.server.started:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        serve.kill_server()
        logging.set_verbosity(verbosity)


def test_transformers_serve_answers_like_the_loaded_model(
    local: LanguageModel, expected: np.ndarray
) -> None:
    tasks = ["Movie: Heat (1995). Known genres: Crime. List up to three genres of this movie."]
    ours = generate(local, tasks, max_new_tokens=12)
    with transformers_serve() as url:
        lm = connect(url, [str(BUNDLED["standin"])])
        assert lm.logprobs == 0  # should this fail, the server has learnt to tell: test those too
        np.testing.assert_array_equal(p_yes(lm, PROMPTS[:6], YES, NO), expected[:6] >= 0.5)
        assert [a.text for a in generate(lm, tasks, max_new_tokens=12)] == [a.text for a in ours]
        with pytest.raises(UserError, match="Error code: 400.*pinned"):
            connect(url, ["another"])
