"""p(yes): equal to the naive way, whatever the batches, and honest about bad questions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from llm_support import tiny_model
from transformers import AutoConfig, AutoModelForCausalLM

from dallrec_core.errors import UserError
from dallrec_core.llm import load, score
from dallrec_core.llm.load import LanguageModel
from dallrec_core.llm.packing import can_share
from dallrec_core.llm.score import first_tokens, p_yes

YES, NO = ("yes", "Yes"), ("no", "No")
PAIRS = [
    (
        f"A viewer liked: Heat (1995){' (Action|Crime)' * (user % 4 + 1)}.",
        f" {'film ' * item}{user}?",
    )
    for user in range(6)
    for item in range(1 + 2 * user % 5)
]
TEXTS = [prefix + suffix for prefix, suffix in PAIRS]


def naive(lm: LanguageModel, text: str) -> float:
    """One prompt at a time, softmax over the whole vocabulary, sum over the spellings."""
    ids = torch.tensor([lm.tokenizer(load.render(lm, text))["input_ids"]])
    with torch.inference_mode():
        chances = lm.model(input_ids=ids).logits[0, -1].softmax(-1)
    yes, no = (sum(float(chances[t]) for t in first_tokens(lm, words)) for words in (YES, NO))
    return yes / (yes + no)


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("batch_tokens", [1, 300, 16384])
def test_equals_the_naive_way(chat: bool, batch_tokens: int) -> None:
    lm = tiny_model(chat=chat)
    expected = [naive(lm, text) for text in TEXTS]
    assert np.ptp(expected) > 0.1  # the questions do differ
    for questions in (PAIRS, TEXTS):
        got = p_yes(lm, questions, YES, NO, batch_tokens=batch_tokens)
        assert got.dtype == np.float32 and got.shape == (len(TEXTS),)
        np.testing.assert_allclose(got, expected, atol=1e-5)
    assert p_yes(lm, [], YES, NO).shape == (0,)


@pytest.mark.parametrize("batch_tokens", [200, 16384])
def test_few_rows_within_the_budget_and_one_position_for_the_head(batch_tokens: int) -> None:
    lm = tiny_model()
    read: list[torch.Size] = []
    shown: list[torch.Size] = []
    look = lm.model.register_forward_pre_hook(
        lambda *given: read.append(given[-1]["input_ids"].shape), with_kwargs=True
    )
    head = lm.model.get_output_embeddings()
    with look, head.register_forward_hook(lambda *given: shown.append(given[-1].shape)):
        p_yes(lm, PAIRS, YES, NO, batch_tokens=batch_tokens)
    assert all(rows * width <= batch_tokens for rows, width in read)
    # a row for each history, and one for all questions behind it
    assert sum(rows for rows, _ in read) == 2 * len({prefix for prefix, _ in PAIRS})
    assert all(shape[1] == 1 for shape in shown)


def test_spellings_with_and_without_space_count() -> None:
    lm = tiny_model()
    ids = first_tokens(lm, ["yes"])
    assert {lm.tokenizer.decode([i]).strip()[0] for i in ids} == {"y"}
    assert len(ids) == 2 and first_tokens(lm, [" yes", "yes "]) == ids


@pytest.mark.parametrize(
    ("prompts", "yes", "no", "message"),
    [
        (["x"], ["qa"], ["qb"], "begin with the same token"),
        (["x"], [], NO, "at least one spelling"),
        (["a", "word " * 300, "b"], YES, NO, "prompt 2 of 3 is too long .*, where 256 fit"),
    ],
)
def test_bad_questions_are_refused(
    prompts: list[str], yes: list[str], no: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        p_yes(tiny_model(), prompts, yes, no)


def test_nan_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "last_logits", lambda *a: torch.full((1, 400), float("nan")))
    with pytest.raises(UserError, match="computes NaN"):
        p_yes(tiny_model(), ["x"], YES, NO)


SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
ROPE = SIZES | {"intermediate_size": 64, "max_position_embeddings": 256, "head_dim": 8}
OTHERS = [
    ("llama", ROPE | {"num_key_value_heads": 2}, True),
    ("qwen3", ROPE | {"num_key_value_heads": 1}, True),
    ("gemma", ROPE | {"num_key_value_heads": 4}, True),
    ("gpt_neox", SIZES | {"intermediate_size": 64, "max_position_embeddings": 256}, True),
    ("mistral", ROPE | {"num_key_value_heads": 2, "sliding_window": 8}, False),
    ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}, False),
    ("bloom", SIZES, False),
]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(("kind", "sizes", "shared"), OTHERS, ids=[kind for kind, *_ in OTHERS])
def test_other_architectures_equal_the_naive_way(
    kind: str, sizes: dict[str, int], shared: bool, attention: str
) -> None:
    config = AutoConfig.for_model(
        kind, vocab_size=360, initializer_range=0.3, pad_token_id=0, bos_token_id=1, eos_token_id=1,
        **sizes,
    )  # fmt: skip
    torch.manual_seed(0)
    try:
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
    except ValueError:
        pytest.skip(f"{kind} has no {attention}")
    lm = replace(tiny_model(), model=model)
    assert can_share(lm) == (shared and attention == "sdpa")
    expected = [naive(lm, text) for text in TEXTS]
    assert np.ptp(expected) > 0.05
    np.testing.assert_allclose(p_yes(lm, PAIRS, YES, NO), expected, atol=1e-4)
