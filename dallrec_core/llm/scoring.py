"""Ask yes/no questions: the probability of *yes* from one forward pass, without generation.

Questions share long beginnings, such as a user's history. Its keys and values are computed once.
What follows it, the questions' own short ends, is packed into few rows: a mask hides the
neighbours, so that neither the history is copied for each question nor the ends are padded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from dallrec_core.errors import UserError
from dallrec_core.llm.batching import Group, Question, batches, group_rows, only, tokenize
from dallrec_core.llm.cache import AnswerCache, ask_once
from dallrec_core.llm.models import LanguageModel, head_on, quiet
from dallrec_core.llm.processes import own
from dallrec_core.llm.served import ServedModel, chances
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
        batch_tokens: rows x tokens per row of one forward pass, the bound on memory.
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
        logits = _last_logits(lm, batch)
    except torch.OutOfMemoryError as error:
        raise UserError("the device's memory is full; lower batch_tokens") from error
    yes, no = (torch.logsumexp(logits[:, w.to(logits.device)], dim=-1) for w in words)
    chances = torch.sigmoid(yes - no).tolist()
    if not np.isfinite(chances).all():
        raise UserError(f"model '{lm.name}' computes NaN as {lm.dtype}; load it as float32")
    return {i: p for (i, _), p in zip(rows, chances, strict=True)}


@torch.inference_mode()
def _last_logits(lm: LanguageModel, batch: list[Group]) -> torch.Tensor:
    """Float32 logits `[questions, vocabulary]` after the last token of every question.

    A group is one row: its questions stand behind one another. Rows are padded on the right: with
    causal attention no real token ever sees a later one, so results do not depend on the batch.
    """
    ids = _pad(lm, [[t for _, tokens in group.rows for t in tokens] for group in batch], lm.pad_id)
    sizes = [[len(tokens) for _, tokens in group.rows] for group in batch]
    ends = [(row, end - 1) for row, each in enumerate(sizes) for end in accumulate(each)]
    options = _behind(lm, batch, sizes, ids) if batch[0].prefix else {"use_cache": False}
    with head_on(lm.model, _at(ends)):
        return lm.model(input_ids=ids, **options).logits[:, 0].float()


def _behind(
    lm: LanguageModel, batch: list[Group], sizes: list[list[int]], ids: torch.Tensor
) -> dict[str, Any]:
    """What the model needs to read rows `ids` `[B, W]` behind their prefixes.

    Each prefix is read once, whatever the number of its rows. A question sees the prefix and
    itself, not its neighbours in the row, and counts its positions from the prefix on.
    """
    number = {prefix: i for i, prefix in enumerate(dict.fromkeys(g.prefix for g in batch))}
    prefixes = _pad(lm, number, lm.pad_id)
    with head_on(lm.model, _at([(row, 0) for row in range(len(number))])):
        past = lm.model(input_ids=prefixes, use_cache=True).past_key_values
    owner = torch.tensor([number[group.prefix] for group in batch], device=ids.device)
    if len(number) < len(batch):
        past.batch_select_indices(owner)
    own = _pad(lm, [[i for i, n in enumerate(each) for _ in range(n)] for each in sizes], -1)
    place = _pad(lm, [[i for n in each for i in range(n)] for each in sizes], 0)
    causal = torch.ones(2 * ids.shape[1:], dtype=torch.bool, device=ids.device).tril()
    start = torch.tensor([[len(group.prefix)] for group in batch], device=ids.device)
    real = (torch.arange(prefixes.shape[1], device=ids.device) < start)[:, None]
    seen = torch.cat([real.expand(-1, ids.shape[1], -1),
                      (own[:, :, None] == own[:, None]) & causal], dim=-1)  # fmt: skip
    mask = torch.zeros(seen.shape, dtype=lm.dtype, device=ids.device)
    mask.masked_fill_(~seen, torch.finfo(mask.dtype).min)
    return {"past_key_values": past, "attention_mask": mask[:, None], "position_ids": start + place}


def _pad(lm: LanguageModel, rows: Collection[Sequence[int]], fill: int) -> torch.Tensor:
    """Rows padded on the right with `fill`: `[B, T]`."""
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows], device=lm.device)


def _at(places: Sequence[tuple[int, int]]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Selects the hidden states at (row, position): `[B, T, d]` -> `[places, 1, d]`."""
    rows, positions = torch.tensor(places).T

    def select(hidden: torch.Tensor) -> torch.Tensor:
        return hidden[rows.to(hidden.device), positions.to(hidden.device)].unsqueeze(1)

    return select
