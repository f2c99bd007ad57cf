"""Generation: batches do not matter, limits and stop strings are kept, answers are stored."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from llm_support import tiny_model

from dallrec_core.errors import UserError
from dallrec_core.llm.cache import AnswerCache
from dallrec_core.llm.generate import Generated, generate
from dallrec_core.llm.load import render

PROMPTS = [
    f"Movie: Heat {'x' * (i % 5)} (19{90 + i}). List {'up to ' * (i % 3)}genres." for i in range(9)
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


def test_an_end_token_ends_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny_model()
    tokens = naive(PROMPTS[0], 6)
    at = next(i for i in range(1, 6) if tokens[i] not in tokens[:i])
    monkeypatch.setattr(lm.model.generation_config, "eos_token_id", [tokens[at]])
    (answer,) = generate(lm, PROMPTS[:1], max_new_tokens=6)
    assert answer == Generated(lm.decode(tokens[:at]).strip(), at, False)


def test_stop_strings_end_the_answer_and_are_cut_off() -> None:
    lm = tiny_model()
    whole = generate(lm, PROMPTS, max_new_tokens=12)
    stop = next(c for c in whole[0].text[3:] if c.isascii() and c.isalpha())
    answers = generate(lm, PROMPTS, max_new_tokens=12, stop=[stop])
    for full, cut in zip(whole, answers, strict=True):
        assert cut.text == full.text.split(stop)[0].strip()
        assert cut.truncated == (full.truncated and stop not in full.text)
    assert answers[0].tokens < whole[0].tokens


def test_preferences_of_the_checkpoint_do_not_leak_in(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny_model()
    before = generate(lm, PROMPTS, max_new_tokens=7)
    for name, value in {"repetition_penalty": 5.0, "do_sample": True, "num_beams": 3}.items():
        monkeypatch.setattr(lm.model.generation_config, name, value)
    assert generate(lm, PROMPTS, max_new_tokens=7) == before


def test_samples_depend_on_seed_and_prompt_not_on_company() -> None:
    lm = tiny_model()
    first = generate(lm, PROMPTS, max_new_tokens=6, temperature=1.0, seed=1)
    alone = [generate(lm, [p], max_new_tokens=6, temperature=1.0, seed=1)[0] for p in PROMPTS]
    assert first == alone
    assert generate(lm, PROMPTS, max_new_tokens=6, temperature=1.0, seed=2) != first
    assert generate(lm, PROMPTS, max_new_tokens=6, temperature=1e-4) == generate(
        lm, PROMPTS, max_new_tokens=6
    )


def test_sampling_follows_the_softmax() -> None:
    lm = tiny_model()
    ids = torch.tensor(lm.encode([render(lm, "Hi?")]))
    with torch.inference_mode():
        chances = lm.model(input_ids=ids).logits[0, -1].softmax(-1)
    top = int(chances.argmax())
    from dallrec_core.llm.generate import _GumbelNoise

    noise = _GumbelNoise(1.0, [str(i) for i in range(2000)])
    drawn = noise(ids, chances.log().repeat(2000, 1)).argmax(-1)
    share = float((drawn == top).float().mean())
    assert share == pytest.approx(float(chances[top]), abs=0.04)


def test_answers_are_stored_by_settings(tmp_path: Path) -> None:
    lm = tiny_model()
    with AnswerCache(tmp_path / "a.sqlite") as cache:
        first = generate(lm, [*PROMPTS, PROMPTS[0]], max_new_tokens=5, cache=cache)
        assert (cache.hits, cache.misses, len(cache)) == (0, 9, 9)
        assert generate(lm, PROMPTS, max_new_tokens=5, cache=cache) == first[:9]
        assert (cache.hits, cache.misses) == (9, 9)
        generate(lm, PROMPTS[:2], max_new_tokens=6, cache=cache)
        generate(lm, PROMPTS[:2], max_new_tokens=5, cache=cache, temperature=0.5)
        assert len(cache) == 13


def test_bad_settings() -> None:
    lm = tiny_model()
    with pytest.raises(UserError, match="prompt 1 of 1 is too long .* and 250 for the answer"):
        generate(lm, ["a word"], max_new_tokens=250)
    assert generate(lm, [], max_new_tokens=3) == []
