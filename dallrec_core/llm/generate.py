"""Let the model write: batched greedy decoding (or seeded sampling) with stop strings and cache."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from dallrec_core.errors import UserError
from dallrec_core.llm.cache import AnswerCache, ask_once
from dallrec_core.llm.ledger import usage
from dallrec_core.llm.load import LanguageModel, quiet, tokenize
from dallrec_core.llm.processes import own
from dallrec_core.llm.served import ServedModel, texts_of


class Generated(NamedTuple):
    """An answer: its text, its length in tokens, and whether it ran into the token limit."""

    text: str
    tokens: int
    truncated: bool


def generate(
    lm: LanguageModel | ServedModel,
    prompts: Sequence[str | tuple[str, str]],
    *,
    max_new_tokens: int,
    stop: Sequence[str] = (),
    temperature: float = 0.0,
    seed: int = 0,
    cache: AnswerCache | None = None,
    batch_size: int = 32,
) -> list[Generated]:
    """Let the model answer every prompt.

    Args:
        lm: the model, loaded or served; the chat template or Alpaca form is put around each
            instruction here (by the server, where it is served).
        prompts: `[n]` instructions, whole or as (prefix, suffix).
        max_new_tokens: longest answer, in tokens.
        stop: strings that end an answer; they are not part of it.
        temperature: 0 takes the likeliest token; above 0 samples.
        seed: of the samples. Each prompt has its own stream, so batches do not matter; a server
            does with it what it can.
        cache: where answers are kept; questions found there are not asked.
        batch_size: prompts per batch.

    Returns:
        `[n]` answers in the order of `prompts`.

    Raises:
        UserError: for a prompt that is too long, or full memory.
    """
    texts = [p if isinstance(p, str) else p[0] + p[1] for p in prompts]
    counts, stops = usage(), sorted({s for s in stop if s})
    settings: dict[str, Any] = {"task": "generate", "max_new_tokens": max_new_tokens, "stop": stops}
    if temperature > 0:
        settings |= {"temperature": temperature, "seed": seed}

    stored: set[int] = set()

    def compute(unique: list[int], missing: set[int]) -> Iterator[dict[int, list[Any]]]:
        stored.update(set(unique) - missing)
        if isinstance(lm, ServedModel):
            options = {"stop": stops} if stops else {}
            options |= {k: settings[k] for k in ("temperature", "seed") if k in settings}
            todo = [i for i in own(unique) if i in missing]
            yield from texts_of(lm, texts, todo, max_new_tokens, options)
            return
        rows = tokenize(lm, texts, unique, answer=max_new_tokens)
        rows.sort(key=lambda row: -len(row[1]))
        counts.plan(rows, missing, len(missing))
        for start in own(range(0, len(rows), batch_size)):
            rest = [row for row in rows[start : start + batch_size] if row[0] in missing]
            if not rest:
                continue
            seeds = [f"{seed}:{texts[i]}" for i, _ in rest] if temperature > 0 else []
            new = _decode(lm, [t for _, t in rest], max_new_tokens, stops, temperature, seeds)
            read = {i: _read(lm, out, stops) for (i, _), out in zip(rest, new, strict=True)}
            counts.tokens_in += sum(len(tokens) for _, tokens in rest)
            counts.tokens_out += sum(answer.tokens for answer in read.values())
            counts.done += len(rest)
            yield {i: list(answer) for i, answer in read.items()}

    with quiet():
        found = ask_once(texts, lm.fingerprint, settings, cache, compute, desc="writing")
    answers = [Generated(*answer) for answer in found]
    counts.saved_by_cache += sum(answers[i].tokens for i in stored)
    return answers


@torch.inference_mode()
def _decode(
    lm: LanguageModel,
    prompts: Sequence[list[int]],
    max_new_tokens: int,
    stops: list[str],
    temperature: float,
    seeds: list[str],
) -> list[list[int]]:
    """New token ids of each prompt, padding included; padding of prompts is on the left."""
    width = max(len(tokens) for tokens in prompts)
    ids = torch.tensor([[lm.pad_id] * (width - len(t)) + list(t) for t in prompts])
    mask = torch.tensor([[0] * (width - len(t)) + [1] * len(t) for t in prompts])
    # Set one by one, because what stays unset is filled from the checkpoint's own preferences.
    config = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, num_beams=1, repetition_penalty=1.0,
        no_repeat_ngram_size=0, num_return_sequences=1, eos_token_id=sorted(lm.end_ids) or None,
        pad_token_id=lm.pad_id, stop_strings=stops or None,
    )  # fmt: skip
    noise = [_GumbelNoise(temperature, seeds)] if seeds else []
    try:
        out = lm.model.generate(  # type: ignore[operator]
            input_ids=ids.to(lm.device),
            attention_mask=mask.to(lm.device),
            generation_config=config,
            logits_processor=LogitsProcessorList(noise),
            tokenizer=lm.tokenizer,
        )
    except torch.OutOfMemoryError as error:
        raise UserError("the device's memory is full; lower batch_size") from error
    return out[:, width:].tolist()


def _read(lm: LanguageModel, new: list[int], stops: list[str]) -> Generated:
    ends = lm.end_ids | {lm.pad_id}
    length = next((i for i, token in enumerate(new) if token in ends), len(new))
    text = lm.decode(new[:length])
    cuts = [at for at in (text.find(s) for s in stops) if at >= 0]
    truncated = length == len(new) and not cuts
    return Generated(text[: min(cuts)].strip() if cuts else text.strip(), length, truncated)


class _GumbelNoise(LogitsProcessor):
    """Turns greedy choice into sampling: argmax(logits / T + Gumbel noise) ~ softmax(logits / T).

    Every row draws from its own generator, so a sample does not depend on its neighbours.
    """

    def __init__(self, temperature: float, seeds: list[str]) -> None:
        self.temperature = temperature
        self.streams = [torch.Generator().manual_seed(_number(seed)) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        size = scores.shape[-1]
        draws = torch.stack([torch.rand(size, generator=stream) for stream in self.streams])
        gumbel = -torch.log(-torch.log(draws.clamp(1e-20, 1 - 1e-7)))
        return scores.float() / self.temperature + gumbel.to(scores.device)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
