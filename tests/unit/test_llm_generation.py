"""Writing, and how likely a text is: batches do not matter, limits are kept, answers are stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from llm_support import tiny_model

from dallrec_core.llm.cache import AnswerCache
from dallrec_core.llm.generate import Generated, generate, log_likelihood
from dallrec_core.llm.ledger import Ledger
from dallrec_core.llm.load import render

PROMPTS = [
    f"Movie: Heat {'x' * (i % 5)} (19{90 + i}). List {'up to ' * (i % 3)}genres." for i in range(9)
]
PAIRS = [
    ("Movie: Heat (1995).", "Action|Crime"),
    ("Movie: Fargo (1996). Known genres: Crime.", "Crime"),
    ("Fargo", "a much longer answer than the others have, with many words"),
    ("Movie: Heat (1995).", "Action|Crime"),
]


def naive(text: str, tokens: int) -> list[int]:
    """Greedy decoding by hand: one prompt, the whole text read again for each token."""
    lm = tiny_model()
    ids = lm.encode([render(lm, text)])[0]
    new: list[int] = []
    with torch.inference_mode():
        while len(new) < tokens:
            best = int(lm.model(input_ids=torch.tensor([ids + new])).logits[0, -1].argmax())
            if best in lm.end_ids:
                break
            new.append(best)
    return new


def test_greedy_equals_decoding_by_hand_whatever_the_batch() -> None:
    lm = tiny_model()
    expected = [naive(text, 7) for text in PROMPTS]
    for size in (1, 4, 32):
        answers = generate(lm, PROMPTS, max_new_tokens=7, batch_size=size)
        assert [a.text for a in answers] == [lm.decode(new).strip() for new in expected]
        assert [a.tokens for a in answers] == [len(new) for new in expected]
        assert [a.truncated for a in answers] == [len(new) == 7 for new in expected]


def test_only_the_end_token_of_the_checkpoint_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny_model()
    before, config = generate(lm, PROMPTS, max_new_tokens=7), lm.model.generation_config
    for name, value in {"repetition_penalty": 5.0, "do_sample": True, "num_beams": 3}.items():
        monkeypatch.setattr(config, name, value)
    assert generate(lm, PROMPTS, max_new_tokens=7) == before
    tokens = naive(PROMPTS[0], 6)
    at = next(i for i in range(1, 6) if tokens[i] not in tokens[:i])
    monkeypatch.setattr(config, "eos_token_id", [tokens[at]])
    (answer,) = generate(lm, PROMPTS[:1], max_new_tokens=6)
    assert answer == Generated(lm.decode(tokens[:at]).strip(), at, False)


def test_answers_are_stored_by_settings(tmp_path: Path) -> None:
    lm = tiny_model()
    with AnswerCache(tmp_path / "a.sqlite") as cache:
        first = generate(lm, [*PROMPTS, PROMPTS[0]], max_new_tokens=5, cache=cache)
        assert len(cache) == 9
        assert generate(lm, PROMPTS, max_new_tokens=5, cache=cache) == first[:9]
        generate(lm, PROMPTS[:2], max_new_tokens=6, cache=cache)
        assert len(cache) == 11


def likelihood(question: str, answer: str) -> float:
    """From all logits of one row."""
    lm = tiny_model()
    [prompt] = lm.encode([render(lm, question)])
    rest = [*lm.encode_answer(answer), lm.tokenizer.eos_token_id]
    with torch.no_grad():
        logits = lm.model(torch.tensor([prompt + rest])).logits[0]
    chances = torch.log_softmax(logits.double(), dim=-1)
    places = range(len(prompt) - 1, len(prompt) + len(rest) - 1)
    return sum(float(chances[place, token]) for place, token in zip(places, rest, strict=True))


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_log_likelihoods_sum_over_the_answer(batch_size: int, tmp_path: Path) -> None:
    found = log_likelihood(tiny_model(), PAIRS, batch_size=batch_size)
    assert found.dtype == np.float32
    assert found == pytest.approx([likelihood(*each) for each in PAIRS], abs=1e-3)
    with AnswerCache(tmp_path / "answers.sqlite") as cache:
        first = log_likelihood(tiny_model(), PAIRS[:2], cache=cache)
        with Ledger("probing").task("all") as counts:
            second = log_likelihood(tiny_model(), PAIRS, cache=cache)
    assert (counts.questions, counts.from_cache) == (4, 3)
    assert (second[:2] == first).all()
