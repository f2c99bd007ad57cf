"""Four ways to ask a language model the same yes/no questions, timed in one process.

**Ours** is `scoring.p_yes`: a user's history is read once for all candidates, and one forward pass
answers. The **authors' way** puts one question at a time into the chat template, lets the model
`generate` as LLaMA-Factory does by default, which is by sampling, and compares the string;
**greedy** is the same with the likeliest tokens. **Padded** is greedy with 32 questions at a time,
padded on the left. All of these may write `MAX_NEW_TOKENS` tokens, enough for a word and its end; a
model that answers at greater length would make them slower still.

Times include rendering and tokenizing, and no cache of answers takes part. On several threads they
are seconds of the clock; on one, CPU seconds, which a busy machine disturbs least.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from dallrec_core.augmentation.prompts import (
    HISTORY,
    NO_WORDS,
    YES_WORDS,
    Prompt,
    interaction_prompt,
    item_text,
)
from dallrec_core.data.matinee import catalogue
from dallrec_core.llm.load import LanguageModel, load, quiet, render
from dallrec_core.llm.packing import group_rows
from dallrec_core.llm.score import first_tokens, p_yes, tokenize

CANDIDATES = 50
"""Questions per user."""
MAX_NEW_TOKENS = 2
BATCH = 32
YES, NO = YES_WORDS, NO_WORDS
SAMPLING = {"do_sample": True, "temperature": 0.95, "top_p": 0.7, "top_k": 50}
"""LLaMA-Factory's defaults; the authors set none of their own."""
GREEDY = {"do_sample": False}
LARGE = {"hidden_size": 768, "intermediate_size": 2560, "num_hidden_layers": 12,
         "num_attention_heads": 12, "num_key_value_heads": 12}  # fmt: skip
"""A Llama of more than 100 million parameters; random weights cost what real ones do."""


def questions(users: int, candidates: int = CANDIDATES, seed: int = 0) -> list[Prompt]:
    """Return questions about films of the embedded catalogue, user by user, with full histories."""
    films = [item_text(row, "movie") for row in catalogue().rename(
        columns={"genres": "attributes"}).to_dict("records")]  # fmt: skip
    rng, shown = np.random.default_rng(seed), HISTORY["default"]
    made = []
    for _ in range(users):
        drawn = [films[i] for i in rng.permutation(len(films))[: 2 * shown + candidates]]
        likes, dislikes, asked = drawn[:shown], drawn[shown : 2 * shown], drawn[2 * shown :]
        made += [interaction_prompt("movie", likes, dislikes, film) for film in asked]
    return made


def model(name: str) -> LanguageModel:
    """Return a model by name, or `100m`: random weights behind the stand-in's tokenizer."""
    lm = load("standin" if name == "100m" else name, device="cpu", dtype="float32")
    if name != "100m":
        return lm
    torch.manual_seed(0)
    config = LlamaConfig(**{**lm.model.config.to_dict(), **LARGE, "head_dim": None})
    return replace(lm, model=LlamaForCausalLM(config).eval(), name=name, fingerprint=name)


def clock() -> float:
    """Seconds of the clock; on one thread CPU seconds."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds of `work()`, and what it returned."""
    gc.collect()  # whoever comes first must not clean up for all
    started = clock()
    result = work()
    return clock() - started, result


def gemm_rate(size: int = 1536, repeats: int = 8, dtype: torch.dtype = torch.float32) -> float:
    """Return the operations per second of a square matrix product on these threads."""
    left, right = torch.rand(2, size, size).to(dtype)
    result = torch.empty(size, size, dtype=dtype)
    torch.mm(left, right, out=result)
    best = min(timed(lambda: torch.mm(left, right, out=result))[0] for _ in range(repeats))
    return 2 * size**3 / best


@torch.inference_mode()
def generated(
    lm: LanguageModel, prompts: Sequence[Prompt], size: int, decoding: dict[str, Any]
) -> np.ndarray:
    """Answer with `generate`, `size` prompts at a time; return p(yes) `[n]` for comparison."""
    words = [torch.tensor(first_tokens(lm, spellings)) for spellings in (YES, NO)]
    found, said = [], []
    for start in range(0, len(prompts), size):
        texts = [render(lm, prompt.text) for prompt in prompts[start : start + size]]
        batch = lm.tokenizer(
            texts, padding=size > 1, padding_side="left", add_special_tokens=False,
            return_tensors="pt", return_token_type_ids=False,
        )  # fmt: skip
        out: Any = lm.model.generate(  # type: ignore[operator]
            **batch, **decoding, max_new_tokens=MAX_NEW_TOKENS, pad_token_id=lm.pad_id,
            return_dict_in_generate=True, output_logits=True,
        )  # fmt: skip
        answers = lm.tokenizer.batch_decode(
            out.sequences[:, batch["input_ids"].shape[1] :], skip_special_tokens=True
        )
        said += [answer.strip().lower().startswith("yes") for answer in answers]
        yes, no = (out.logits[0][:, w].logsumexp(-1) for w in words)
        found += torch.sigmoid(yes - no).tolist()
    assert len(said) == len(prompts)
    return np.array(found)


class Counter:
    """Counts the tokens, padding included, that reach a model while the block runs."""

    def __init__(self, lm: LanguageModel) -> None:
        self.lm, self.tokens = lm, 0

    def __enter__(self) -> Counter:
        def count(_: Any, __: Any, given: dict[str, Any]) -> None:
            self.tokens += given["input_ids"].numel()

        self.handle = self.lm.model.register_forward_pre_hook(count, with_kwargs=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.handle.remove()


def useful_operations(lm: LanguageModel, prompts: Sequence[Prompt]) -> tuple[float, int]:
    """Return what sharing prefixes needs in matrix products, and the tokens of the naive way.

    Attention between tokens, norms and padding are left out, so that a share computed from it is
    too low rather than too high.
    """
    rows = tokenize(lm, [prompt.text for prompt in prompts], range(len(prompts)))
    groups = group_rows(rows, [prompt.prefix for prompt in prompts])
    tokens = sum(len(group.prefix) + len(group.tokens) for group in groups)
    inner: Any = lm.model.base_model.layers
    weights = sum(p.numel() for p in inner.parameters() if p.ndim == 2)
    head = lm.model.get_output_embeddings().weight.numel()
    return 2.0 * (weights * tokens + head * len(prompts)), sum(map(len, rows.values()))


def measure(name: str, *, users: int, single: int, padded: int, threads: int = 1) -> dict[str, Any]:
    """Time the ways on one model.

    Args:
        name: `standin`, `smollm2` or `100m`.
        users: with 50 questions each, for our way.
        single: questions for the authors' way and for greedy, evenly spread over ours.
        padded: questions in padded batches, the first of ours (neighbours are alike in length,
            which suits padding).
        threads: of the processor.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    lm, prompts = model(name), questions(users)
    step = max(len(prompts) // single, 1)
    few, first = prompts[::step][:single], prompts[:padded]
    peak = gemm_rate()
    with quiet():
        with Counter(lm) as counter:  # and whatever is slow once only
            p_yes(lm, prompts, YES, NO)
        generated(lm, prompts[:2], 2, SAMPLING)
        once, chances = timed(lambda: p_yes(lm, prompts, YES, NO))
        alone, _ = timed(lambda: generated(lm, few, 1, SAMPLING))
        greedy, expected = timed(lambda: generated(lm, few, 1, GREEDY))
        together, _ = timed(lambda: generated(lm, first, BATCH, GREEDY))
        again, _ = timed(lambda: p_yes(lm, prompts, YES, NO))
    peak = max(peak, gemm_rate())
    ours = (once + again) / 2  # before and after the others, so that a change of pace hits both
    operations, naive_tokens = useful_operations(lm, prompts)
    rates = {"ours": len(prompts) / ours, "alone": len(few) / alone,
             "greedy": len(few) / greedy, "padded": len(first) / together}  # fmt: skip
    difference = np.abs(chances[::step][:single] - expected)
    return {
        "threads": threads,
        "parameters": sum(p.numel() for p in lm.model.parameters()),
        "questions_per_second": rates,
        "speedup": rates["ours"] / rates["alone"],
        "speedup_vs_padded": rates["ours"] / rates["padded"],
        "token_share": counter.tokens / naive_tokens,
        "gemm_share": operations / ours / peak,
        "gemm_gflop_per_s": peak / 1e9,
        "max_abs_difference": float(difference.max()) if len(difference) else math.nan,
        "spread": float(np.ptp(expected)),
    }
