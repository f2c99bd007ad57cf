"""Log-likelihoods of answers, against all logits of one row at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from llm_support import tiny_model

from dallrec_core.llm.cache import AnswerCache
from dallrec_core.llm.ledger import Usage, metered
from dallrec_core.llm.likelihood import log_likelihood
from dallrec_core.llm.load import render

QUESTIONS = [
    ("Movie: Heat (1995).", "Action|Crime"),
    ("Movie: Fargo (1996). Known genres: Crime.", "Crime"),
    ("Fargo", "a much longer answer than the others have, with many words"),
    ("Movie: Heat (1995).", "Action|Crime"),
]


def reference(question: str, answer: str) -> float:
    lm = tiny_model()
    [prompt] = lm.encode([render(lm, question)])
    rest = [*lm.encode_answer(answer), lm.tokenizer.eos_token_id]
    with torch.no_grad():
        logits = lm.model(torch.tensor([prompt + rest])).logits[0]
    chances = torch.log_softmax(logits.double(), dim=-1)
    places = range(len(prompt) - 1, len(prompt) + len(rest) - 1)
    return sum(float(chances[place, token]) for place, token in zip(places, rest, strict=True))


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_sums_over_the_answer(batch_size: int) -> None:
    found = log_likelihood(tiny_model(), QUESTIONS, batch_size=batch_size)
    assert found.dtype == np.float32
    assert found == pytest.approx([reference(*each) for each in QUESTIONS], abs=1e-3)


def test_the_cache_is_asked_first(tmp_path: Path) -> None:
    with AnswerCache(tmp_path / "answers.sqlite") as cache:
        counts = Usage()
        first = log_likelihood(tiny_model(), QUESTIONS[:2], cache=cache)
        with metered(counts):
            second = log_likelihood(tiny_model(), QUESTIONS, cache=cache)
        assert (counts.questions, counts.from_cache) == (4, 3)
        assert (second[:2] == first).all()
