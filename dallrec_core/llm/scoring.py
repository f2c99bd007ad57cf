"""Ask yes/no questions: the probability of *yes* from one forward pass, without generation.

The questions of one user share a long history. Its keys and values are computed once and reused
by all the user's questions, which are then only as long as their own ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from dallrec_core.errors import UserError
from dallrec_core.llm.batching import Group, Question, batches, group_rows, only, tokenize
from dallrec_core.llm.cache import AnswerCache, ask_once
from dallrec_core.llm.models import LanguageModel, head_on, quiet
from dallrec_core.llm.usage import read_tokens, usage


def p_yes(
    lm: LanguageModel,
    prompts: Sequence[Question],
    yes: Sequence[str],
    no: Sequence[str],
    *,
    cache: AnswerCache | None = None,
    batch_tokens: int = 16384,
    share_prefix: bool = True,
) -> np.ndarray:
    """Probability that the model answers *yes* rather than *no*.

    It is `P(yes) / (P(yes) + P(no))` at the first answer token, each summed over all spellings.

    Args:
        lm: the model; the chat template or Alpaca form is put around each instruction here.
        prompts: `[n]` instructions; a (prefix, suffix) pair lets questions share the prefix.
        yes: spellings of the positive answer.
        no: spellings of the negative answer.
        cache: where answers are kept; questions found there are not asked.
        batch_tokens: rows x tokens per row of one forward pass, the bound on memory.
        share_prefix: encode common prefixes once. The result is the same to 1e-4 (float32).

    Returns:
        `[n]` float32 in [0, 1], in the order of `prompts`.

    Raises:
        UserError: when a prompt is too long, the spellings cannot be told apart, or memory ends.
    """
    if batch_tokens < 1:
        raise UserError(f"batch_tokens is {batch_tokens}; it must be at least 1")
    words = torch.tensor(first_tokens(lm, yes)), torch.tensor(first_tokens(lm, no))
    _check_disjoint(lm, words)
    pairs = [("", p) if isinstance(p, str) else (p[0], p[1]) for p in prompts]
    texts = [prefix + suffix for prefix, suffix in pairs]
    counts = usage()
    settings = {"task": "p_yes", "yes": sorted(set(yes)), "no": sorted(set(no))}

    def compute(unique: list[int], missing: set[int]) -> Iterator[dict[int, float]]:
        rows = tokenize(lm, texts, unique)
        shared = share_prefix and _can_share(lm)
        groups = group_rows(rows, [pairs[i][0] if shared else "" for i in unique])
        plan = [rest for batch in batches(groups, batch_tokens) if (rest := only(batch, missing))]
        reads = [read_tokens([(g.prefix, [t for _, t in g.rows]) for g in rest]) for rest in plan]
        counts.plan(rows, missing, sum(reads))
        whole = {position: len(tokens) for position, tokens in rows}
        for rest, read in zip(plan, reads, strict=True):
            found = _score(lm, rest, words)
            counts.tokens_in += read
            counts.saved_by_prefix += sum(whole[position] for position in found) - read
            counts.done += read
            yield found

    with quiet():
        found = ask_once(texts, lm.fingerprint, settings, cache, compute, desc="asking")
    return np.asarray(found, dtype=np.float32)


def first_tokens(lm: LanguageModel, spellings: Sequence[str]) -> list[int]:
    """Sorted ids of the tokens that can begin an answer, with and without a leading space.

    Raises:
        UserError: when there is no spelling.
    """
    found = set()
    for word in {s.strip() for s in spellings} - {""}:
        for text in (word, " " + word):
            tokens = lm.encode_answer(text)
            # A tokenizer may cut the space off as a token of its own: that says nothing yet.
            if tokens and lm.decode(tokens[:1]).strip():
                found.add(tokens[0])
    if not found:
        raise UserError("the yes/no answers need at least one spelling each")
    return sorted(found)


def _check_disjoint(lm: LanguageModel, words: tuple[torch.Tensor, torch.Tensor]) -> None:
    both = set(words[0].tolist()) & set(words[1].tolist())
    if both:
        token = lm.decode([min(both)])
        raise UserError(
            f"model '{lm.name}': a yes and a no spelling begin with the same token {token!r}, so "
            "they cannot be told apart; use other answer words"
        )


def _can_share(lm: LanguageModel) -> bool:
    """Only plain attention caches can be repeated per question; windows and states cannot."""
    layers = DynamicCache(config=lm.model.config.get_text_config(decoder=True)).layers
    return all(type(layer).__name__ == "DynamicLayer" for layer in layers)


def _score(
    lm: LanguageModel, batch: list[Group], words: tuple[torch.Tensor, torch.Tensor]
) -> dict[int, float]:
    rows = [row for group in batch for row in group.rows]
    try:
        logits = _last_logits(lm, batch, [tokens for _, tokens in rows])
    except torch.OutOfMemoryError as error:
        raise UserError("the device's memory is full; lower batch_tokens") from error
    yes, no = (torch.logsumexp(logits[:, w.to(logits.device)], dim=-1) for w in words)
    chances = torch.sigmoid(yes - no).tolist()
    if not np.isfinite(chances).all():
        raise UserError(f"model '{lm.name}' computes NaN as {lm.dtype}; load it as float32")
    return {i: p for (i, _), p in zip(rows, chances, strict=True)}


@torch.inference_mode()
def _last_logits(lm: LanguageModel, batch: list[Group], suffixes: list[list[int]]) -> torch.Tensor:
    """Float32 logits `[rows, vocabulary]` after the last token of every row.

    Rows are padded on the right: with causal attention no real token ever sees a later one, so
    neither a mask nor shifted positions are needed and results do not depend on the batch.
    """
    ids, lengths = _pad(lm, suffixes)
    options: dict[str, Any] = {"use_cache": False}
    if batch[0].prefix:
        prefixes, sizes = _pad(lm, [group.prefix for group in batch])
        with head_on(lm.model, _last(sizes - 1)):
            past = lm.model(input_ids=prefixes, use_cache=True).past_key_values
        counts = torch.tensor([len(group.rows) for group in batch], device=ids.device)
        owner = torch.repeat_interleave(torch.arange(len(batch), device=ids.device), counts)
        past.batch_select_indices(owner)
        start = sizes[owner, None]
        real = torch.arange(prefixes.shape[1], device=ids.device) < start
        options = {
            "past_key_values": past,
            "attention_mask": torch.cat([real, torch.ones_like(ids, dtype=torch.bool)], dim=1),
            "position_ids": start + torch.arange(ids.shape[1], device=ids.device),
        }
    with head_on(lm.model, _last(lengths - 1)):
        return lm.model(input_ids=ids, **options).logits[:, 0].float()


def _pad(lm: LanguageModel, rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows padded on the right `[B, T]`, and their lengths `[B]`."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([row + [lm.pad_id] * (width - len(row)) for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    return ids.to(lm.device), lengths.to(lm.device)


def _last(positions: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Selects the hidden state at one position per row: `[B, T, d]` -> `[B, 1, d]`."""

    def select(hidden: torch.Tensor) -> torch.Tensor:
        rows = torch.arange(len(hidden), device=hidden.device)
        return hidden[rows, positions.to(hidden.device)].unsqueeze(1)

    return select
