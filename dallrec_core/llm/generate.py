"""Let the model write, by greedy decoding in batches, or tell how likely it is to write a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import GenerationConfig

from dallrec_core.llm.cache import AnswerCache, ask_once, own
from dallrec_core.llm.examples import IGNORED, Collate, encode_examples
from dallrec_core.llm.ledger import usage
from dallrec_core.llm.load import LanguageModel, tokenize
from dallrec_core.llm.packing import head_on, pad
from dallrec_core.llm.served import ServedModel, side_by_side


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
    cache: AnswerCache | None = None,
    batch_size: int = 32,
) -> list[Generated]:
    """Let the model answer every prompt, always with the likeliest token.

    Args:
        lm: the model, loaded or served; the chat template or Alpaca form is put around each
            instruction here (by the server, where it is served).
        prompts: `[n]` instructions, whole or as (prefix, suffix).
        max_new_tokens: longest answer, in tokens.
        cache: where answers are kept; questions found there are not asked.
        batch_size: prompts per batch.

    Returns:
        `[n]` answers in the order of `prompts`.

    Raises:
        UserError: for a prompt that is too long.
    """
    texts = [p if isinstance(p, str) else p[0] + p[1] for p in prompts]
    counts = usage()
    # "stop" stands in the keys of all answers that are stored already
    settings: dict[str, Any] = {"task": "generate", "max_new_tokens": max_new_tokens, "stop": []}
    stored: set[int] = set()

    def compute(unique: list[int], missing: set[int]) -> Iterator[dict[int, list[Any]]]:
        stored.update(set(unique) - missing)
        if isinstance(lm, ServedModel):
            todo = [i for i in own(unique) if i in missing]
            for i, said in side_by_side(lm, texts, todo, max_new_tokens, 0):
                yield {i: [said.text.strip(), said.tokens, said.cut]}
            return
        rows = tokenize(lm, texts, unique, answer=max_new_tokens)
        for batch in _batches(rows, missing, batch_size):
            answers = _decode(lm, [rows[i] for i in batch], max_new_tokens)
            counts.tokens_out += sum(answer.tokens for answer in answers)
            yield {i: list(answer) for i, answer in zip(batch, answers, strict=True)}

    found = ask_once(texts, lm.fingerprint, settings, cache, compute, desc="writing")
    answers = [Generated(*answer) for answer in found]
    counts.saved_by_cache += sum(answers[i].tokens for i in stored)
    return answers


def log_likelihood(
    lm: LanguageModel,
    questions: Sequence[tuple[str, str]],
    *,
    cache: AnswerCache | None = None,
    batch_size: int = 32,
) -> np.ndarray:
    """Return the log-likelihood of answers to instructions, their end included.

    Args:
        lm: a model that is loaded here.
        questions: `[n]` pairs of instruction and answer.
        cache: where results are kept; pairs found there are not computed.
        batch_size: pairs per forward pass.

    Returns:
        `[n]` float32, natural logarithms, summed over the answer's tokens and its end token.

    Raises:
        UserError: when a pair is too long for the model.
    """
    texts = [f"{question}\n\n{answer}" for question, answer in questions]

    def compute(unique: list[int], missing: set[int]) -> Iterator[dict[int, float]]:
        pairs = [{"instruction": questions[i][0], "output": questions[i][1]} for i in unique]
        rows = dict(zip(unique, encode_examples(lm, pairs, "probe"), strict=True))
        tokens = {i: row["input_ids"] for i, row in rows.items()}
        for batch in _batches(tokens, missing, batch_size):
            sums = _sums(lm, Collate(lm.pad_id)([rows[i] for i in batch]))
            yield dict(zip(batch, sums, strict=True))

    settings = {"task": "log_likelihood"}
    found = ask_once(texts, lm.fingerprint, settings, cache, compute, desc="probing")
    return np.asarray(found, dtype=np.float32)


def _batches(rows: dict[int, list[int]], missing: set[int], size: int) -> Iterator[list[int]]:
    """Yield the batches that are to be asked here, the longest rows first, and count their tokens.

    Args:
        rows: tokens of all different questions, by position.
        missing: positions of those that must be asked.
        size: rows per batch.
    """
    counts = usage()
    counts.saved_by_cache += sum(len(rows[i]) for i in rows.keys() - missing)
    order = sorted(rows, key=lambda i: -len(rows[i]))
    for start in own(range(0, len(order), size)):
        batch = [i for i in order[start : start + size] if i in missing]
        if batch:
            counts.tokens_in += sum(len(rows[i]) for i in batch)
            yield batch


@torch.inference_mode()
def _decode(
    lm: LanguageModel, prompts: Sequence[list[int]], max_new_tokens: int
) -> list[Generated]:
    """The answer to each prompt; prompts are padded on the left."""
    ids = pad(prompts, lm.pad_id, side="left", device=lm.device)
    mask = pad([[1] * len(tokens) for tokens in prompts], 0, side="left", device=lm.device)
    # Set one by one, because what stays unset is filled from the checkpoint's own preferences.
    config = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, num_beams=1, repetition_penalty=1.0,
        no_repeat_ngram_size=0, num_return_sequences=1, eos_token_id=sorted(lm.end_ids) or None,
        pad_token_id=lm.pad_id,
    )  # fmt: skip
    out = lm.model.generate(  # type: ignore[operator]
        input_ids=ids, attention_mask=mask, generation_config=config
    )
    return [_read(lm, new) for new in out[:, ids.shape[1] :].tolist()]


def _read(lm: LanguageModel, new: list[int]) -> Generated:
    ends = lm.end_ids | {lm.pad_id}
    length = next((i for i, token in enumerate(new) if token in ends), len(new))
    return Generated(lm.decode(new[:length]).strip(), length, length == len(new))


@torch.inference_mode()
def _sums(lm: LanguageModel, batch: dict[str, torch.Tensor]) -> list[float]:
    """Sum the log-probabilities of the labelled tokens of each row; logits exist only there."""
    labels = batch["labels"][:, 1:].to(lm.device)
    learnt = labels != IGNORED
    inputs = {name: batch[name].to(lm.device) for name in ("input_ids", "attention_mask")}
    with head_on(lm.model, lambda hidden: hidden[:, :-1][learnt].unsqueeze(0)):
        logits = lm.model(**inputs, use_cache=False).logits[0].float()
    each = torch.zeros(labels.shape, device=lm.device)
    each[learnt] = -torch.nn.functional.cross_entropy(logits, labels[learnt], reduction="none")
    return each.sum(dim=1).tolist()
