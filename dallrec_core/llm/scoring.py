"""Ask yes/no questions: the probability of *yes* from one forward pass, without generation.

Questions share long beginnings, such as a user's history. Its keys and values are computed once.
What follows it, the questions' own short ends, is packed into few rows: a mask hides the
neighbours, so that neither the history is copied for each question nor the ends are padded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from dallrec_core.errors import UserError
from dallrec_core.llm.batching import Group, Question, batches, group_rows, only, tokenize
from dallrec_core.llm.cache import AnswerCache, ask_once
from dallrec_core.llm.models import LanguageModel, quiet
from dallrec_core.llm.packed import last_logits
from dallrec_core.llm.processes import own
from dallrec_core.llm.served import ServedModel, chances
from dallrec_core.llm.streams import streamed
from dallrec_core.llm.usage import usage


def p_yes(
    lm: LanguageModel | ServedModel,
    prompts: Sequence[Question],
    yes: Sequence[str],
    no: Sequence[str],
    *,
    cache: AnswerCache | None = None,
    batch_tokens: int = 8192,
    share_prefix: bool = True,
) -> np.ndarray:
    """Probability that the model answers *yes* rather than *no*.

    It is `P(yes) / (P(yes) + P(no))` at the first answer token, each summed over all spellings.

    Args:
        lm: the model, loaded or served; the chat template or Alpaca form is put around each
            instruction here (by the server, where it is served).
        prompts: `[n]` instructions; a (prefix, suffix) pair says what others may begin with too,
            which saves time in tokenizing.
        yes: spellings of the positive answer.
        no: spellings of the negative answer.
        cache: where answers are kept; questions found there are not asked.
        batch_tokens: rows x tokens per row of one forward pass, the bound on memory. A narrow model
            is asked in up to four passes at a time, on a core each.
        share_prefix: encode common beginnings once, be it a user's history or an item's text,
            whatever saves more. The result is the same to 1e-4 (float32).

    Returns:
        `[n]` float32 in [0, 1], in the order of `prompts`; NaN where a served model says neither.

    Raises:
        UserError: when a prompt is too long, the spellings cannot be told apart, or memory ends.
    """
    if batch_tokens < 1:
        raise UserError(f"batch_tokens is {batch_tokens}; it must be at least 1")
    pairs = [("", p) if isinstance(p, str) else (p[0], p[1]) for p in prompts]
    texts = [prefix + suffix for prefix, suffix in pairs]
    counts = usage()
    settings: dict[str, Any] = {"task": "p_yes", "yes": sorted(set(yes)), "no": sorted(set(no))}
    if isinstance(lm, ServedModel):
        settings["logprobs"] = lm.logprobs > 0
        spellings = [{s.strip() for s in words} - {""} for words in (yes, no)]
    else:
        words = torch.tensor(first_tokens(lm, yes)), torch.tensor(first_tokens(lm, no))
        _check_disjoint(lm, words)

    def compute(unique: list[int], missing: set[int]) -> Iterator[dict[int, float | None]]:
        if isinstance(lm, ServedModel):
            yield from chances(lm, texts, [i for i in own(unique) if i in missing], *spellings)
            return
        prefixes = [pairs[i][0] for i in unique]
        rows = tokenize(lm, texts, unique, prefixes=prefixes)
        shared = share_prefix and _can_share(lm)
        groups = group_rows(rows) if shared else [Group((), [row]) for row in rows]
        planned = own(batches(groups, batch_tokens))
        plan = [rest for batch in planned if (rest := only(batch, missing))]
        reads = [sum(map(len, {g.prefix for g in b})) + sum(g.widths[1] for g in b) for b in plan]
        counts.plan(rows, missing, sum(reads))
        whole = {position: len(tokens) for position, tokens in rows}

        def ask(model: LanguageModel, job: tuple[list[Group], int]) -> tuple[dict[int, Any], int]:
            return _score(model, job[0], words), job[1]

        for found, read in streamed(ask, lm, list(zip(plan, reads, strict=True))):
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
    """Tell whether questions may be packed behind a prefix: rotary positions and plain caches.

    Windows, states and biases by distance (ALiBi) are computed from a question's place in its row,
    which packing changes.
    """
    config = lm.model.config.get_text_config(decoder=True)
    rotary = any(name.endswith("rotary_emb") for name, _ in lm.model.named_modules())
    masked = getattr(config, "_attn_implementation", "") in ("sdpa", "eager")
    layers = DynamicCache(config=config).layers
    plain = all(type(layer).__name__ == "DynamicLayer" for layer in layers)
    return rotary and masked and plain and not getattr(config, "alibi", False)


def _score(
    lm: LanguageModel, batch: list[Group], words: tuple[torch.Tensor, torch.Tensor]
) -> dict[int, float | None]:
    rows = [row for group in batch for row in group.rows]
    try:
        logits = last_logits(lm, batch)
    except torch.OutOfMemoryError as error:
        raise UserError("the device's memory is full; lower batch_tokens") from error
    yes, no = (torch.logsumexp(logits[:, w.to(logits.device)], dim=-1) for w in words)
    chances = torch.sigmoid(yes - no).tolist()
    if not np.isfinite(chances).all():
        raise UserError(f"model '{lm.name}' computes NaN as {lm.dtype}; load it as float32")
    return {i: p for (i, _), p in zip(rows, chances, strict=True)}
