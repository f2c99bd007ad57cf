"""Ask yes/no questions: the probability of *yes* from one forward pass, without generation.

Questions about one user share a long beginning, the history. Its keys and values are computed once,
and what follows it, the questions' own short ends, is packed into few rows (see `packing`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from transformers import Cache, DynamicCache

from dallrec_core.errors import UserError
from dallrec_core.llm import packing
from dallrec_core.llm.cache import AnswerCache, Compute, ask_once, own
from dallrec_core.llm.ledger import usage
from dallrec_core.llm.load import LanguageModel, tokenize
from dallrec_core.llm.served import ServedModel, chance, side_by_side


def p_yes(
    lm: LanguageModel | ServedModel,
    prompts: Sequence[str | tuple[str, str]],
    yes: Sequence[str],
    no: Sequence[str],
    *,
    cache: AnswerCache | None = None,
    batch_tokens: int = 8192,
) -> np.ndarray:
    """Probability that the model answers *yes* rather than *no*.

    It is `P(yes) / (P(yes) + P(no))` at the first answer token, each summed over all spellings.

    Args:
        lm: the model, loaded or served; the chat template or Alpaca form is put around each
            instruction here (by the server, where it is served).
        prompts: `[n]` instructions, whole or as (prefix shared with others, own suffix): each
            different prefix is read once, and the result is that of the whole texts to 1e-4
            (float32).
        yes: spellings of the positive answer.
        no: spellings of the negative answer.
        cache: where answers are kept; questions found there are not asked.
        batch_tokens: rows x tokens per row of one forward pass, the bound on memory.

    Returns:
        `[n]` float32 in [0, 1], in the order of `prompts`; NaN where a served model says neither.

    Raises:
        UserError: when a prompt is too long, or the spellings cannot be told apart.
    """
    pairs = [("", p) if isinstance(p, str) else (p[0], p[1]) for p in prompts]
    texts = [prefix + suffix for prefix, suffix in pairs]
    spellings = [{s.strip() for s in words} - {""} for words in (yes, no)]
    if not all(spellings) or spellings[0] & spellings[1]:
        raise UserError("yes and no need at least one spelling each, and none in common")
    settings: dict[str, Any] = {"task": "p_yes", "yes": sorted(set(yes)), "no": sorted(set(no))}
    if isinstance(lm, ServedModel):
        settings["logprobs"] = lm.logprobs > 0
        compute = _served(lm, texts, spellings)
    else:
        compute = _loaded(lm, pairs, spellings, batch_tokens)
    found = ask_once(texts, lm.fingerprint, settings, cache, compute, desc="asking")
    return np.asarray(found, dtype=np.float32)


def _served(lm: ServedModel, texts: Sequence[str], spellings: list[set[str]]) -> Compute:
    longest = 1 if lm.logprobs else 8  # as text: "The answer is: yes"

    def compute(unique: list[int], missing: set[int]) -> Iterator[dict[int, float | None]]:
        todo = [i for i in own(unique) if i in missing]
        for i, answer in side_by_side(lm, texts, todo, longest, lm.logprobs):
            yield {i: chance(answer, *spellings)}

    return compute


def _loaded(
    lm: LanguageModel,
    pairs: Sequence[tuple[str, str]],
    spellings: list[set[str]],
    batch_tokens: int,
) -> Compute:
    words = first_tokens(lm, spellings[0]), first_tokens(lm, spellings[1])
    if both := set(words[0]) & set(words[1]):
        raise UserError(
            f"model '{lm.name}': a yes and a no spelling begin with the same token "
            f"{lm.decode([min(both)])!r}, so they cannot be told apart; use other answer words"
        )
    texts = [prefix + suffix for prefix, suffix in pairs]

    def compute(unique: list[int], missing: set[int]) -> Iterator[dict[int, float | None]]:
        counts, shared = usage(), packing.can_share(lm)
        rows = tokenize(lm, texts, unique)
        counts.saved_by_cache += sum(len(rows[i]) for i in rows.keys() - missing)
        groups = packing.group_rows(rows, [(shared and pairs[i][0]) or i for i in unique])
        for planned in own(packing.batches(groups, batch_tokens)):
            if batch := packing.only(planned, missing):
                found = _ask(lm, batch, words)
                read = sum(map(len, {g.prefix for g in batch})) + sum(len(g.tokens) for g in batch)
                counts.tokens_in += read
                counts.saved_by_prefix += sum(len(rows[i]) for i in found) - read
                yield found

    return compute


def first_tokens(lm: LanguageModel, spellings: Iterable[str]) -> list[int]:
    """Sorted ids of the tokens that can begin an answer, with and without a leading space."""
    found = set()
    for word in {s.strip() for s in spellings} - {""}:
        for text in (word, " " + word):
            tokens = lm.encode_answer(text)
            # A tokenizer may cut the space off as a token of its own: that says nothing yet.
            if tokens and lm.decode(tokens[:1]).strip():
                found.add(tokens[0])
    return sorted(found)


def _ask(
    lm: LanguageModel, batch: list[packing.Group], words: tuple[list[int], list[int]]
) -> dict[int, float | None]:
    logits = last_logits(lm, batch)
    yes, no = (torch.logsumexp(logits[:, each], dim=-1) for each in words)
    found = torch.sigmoid(yes - no).tolist()
    if not np.isfinite(found).all():
        raise UserError(f"model '{lm.name}' computes NaN as {lm.dtype}; load it as float32")
    positions = [position for group in batch for position, _ in group.rows]
    return dict(zip(positions, found, strict=True))


# ---------------------------------------------------------------- one forward pass


@torch.inference_mode()
def last_logits(lm: LanguageModel, batch: list[packing.Group]) -> torch.Tensor:
    """Float32 logits `[questions, vocabulary]` after the last token of every question.

    A group is one row: its questions stand behind one another. Rows are padded on the right: with
    causal attention no real token ever sees a later one, so results do not depend on the batch.
    """
    ids = packing.pad([group.tokens for group in batch], lm.pad_id, device=lm.device)
    sizes = [[len(tokens) for _, tokens in group.rows] for group in batch]
    ends = [(row, end - 1) for row, each in enumerate(sizes) for end in accumulate(each)]
    options = _behind(lm, batch) if batch[0].prefix else {"use_cache": False}
    with packing.head_on(lm.model, _at(ends)):
        return lm.model(input_ids=ids, **options).logits[:, 0].float()


def _behind(lm: LanguageModel, batch: list[packing.Group]) -> dict[str, Any]:
    """What the model needs to read the rows of a batch behind their prefixes."""
    prefixes = packing.pad([[0] * len(group.prefix) for group in batch], -1)
    owners = packing.pad([group.owners for group in batch], -1)
    places = packing.pad([group.places for group in batch], 0, device=lm.device)
    mask = packing.visible(torch.cat([prefixes, owners], dim=1).to(lm.device), owners.shape[1])
    return {"past_key_values": _prefixes(lm, batch), "attention_mask": mask, "position_ids": places}


def _prefixes(lm: LanguageModel, batch: list[packing.Group]) -> Cache:
    """Keys and values of the rows' prefixes; each is read once, whatever the number of its rows."""
    number = {prefix: i for i, prefix in enumerate(dict.fromkeys(g.prefix for g in batch))}
    past = DynamicCache(config=lm.model.config)
    ids = packing.pad(number, lm.pad_id, device=lm.device)
    with packing.head_on(lm.model, _at([(0, 0)])):
        lm.model(input_ids=ids, past_key_values=past, use_cache=True)
    if len(number) < len(batch):
        owner = torch.tensor([number[group.prefix] for group in batch], device=lm.device)
        past.batch_select_indices(owner)
    return past


def _at(places: Sequence[tuple[int, int]]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Selects the hidden states at (row, position): `[B, T, d]` -> `[places, 1, d]`."""
    rows, positions = torch.tensor(places).T

    def select(hidden: torch.Tensor) -> torch.Tensor:
        return hidden[rows.to(hidden.device), positions.to(hidden.device)].unsqueeze(1)

    return select
