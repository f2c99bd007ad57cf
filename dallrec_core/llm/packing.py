"""Texts packed behind a beginning that they share, which is then read once.

What follows the beginning, such as the questions behind a user's history, stands side by side in
one row. Each sees the beginning and itself, and counts its positions from there on, so that what is
computed for it is what it would be alone. Asking and fine-tuning both pack so.
"""

from __future__ import annotations

import os.path
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from dallrec_core.llm.load import LanguageModel

_ROW = 192  # tokens of questions per row; more would mostly attend to what is hidden from them


@dataclass(frozen=True)
class Group:
    """Texts that share a prefix and a row behind it; without a prefix each has its own row."""

    prefix: tuple[int, ...]
    rows: list[tuple[int, list[int]]]
    """(position of the text, its tokens after the prefix)."""

    @property
    def tokens(self) -> list[int]:
        """All that stands behind the prefix."""
        return [token for _, tokens in self.rows for token in tokens]

    @property
    def owners(self) -> list[int]:
        """Of each of `tokens` the number of its text in the group, from 1 on."""
        return [i for i, (_, tokens) in enumerate(self.rows, start=1) for _ in tokens]

    @property
    def places(self) -> list[int]:
        """Of each of `tokens` the place that it has in its own text."""
        return [len(self.prefix) + i for _, tokens in self.rows for i in range(len(tokens))]


def can_share(lm: LanguageModel) -> bool:
    """Tell whether texts may be packed: rotary positions, plain caches, and masks of any form.

    Windows, states and biases by distance (ALiBi) are computed from a text's place in its row,
    which packing changes.
    """
    config = lm.model.config.get_text_config(decoder=True)
    rotary = any(name.endswith("rotary_emb") for name, _ in lm.model.named_modules())
    masked = getattr(config, "_attn_implementation", "") == "sdpa"
    layers = DynamicCache(config=config).layers
    plain = all(type(layer).__name__ == "DynamicLayer" for layer in layers)
    return rotary and masked and plain and not getattr(config, "alibi", False)


def visible(owners: torch.Tensor, width: int) -> torch.Tensor:
    """Tell which tokens the last `width` ones of each row see; bool `[B, 1, width, K]`.

    Args:
        owners: `[B, K]`, 0 where all may look (a prefix), else the number of a text; -1 is padding.
        width: how many of the K tokens are computed.
    """
    here, keys = owners[:, -width:, None], owners[:, None]
    earlier = torch.ones(owners.shape[1], owners.shape[1], dtype=torch.bool).tril()[-width:]
    return (((here == keys) | (keys == 0)) & earlier.to(owners.device))[:, None]


# ---------------------------------------------------------------- one forward pass


def pad(
    rows: Collection[Sequence[int]],
    fill: int,
    *,
    side: str = "right",
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Return rows of tokens as a tensor `[B, T]`, filled up with `fill` at one side."""
    return pad_sequence([torch.tensor(row) for row in rows], True, fill, side).to(device)


def head_on(
    model: torch.nn.Module, select: Callable[[torch.Tensor], torch.Tensor]
) -> AbstractContextManager[Any]:
    """Show the output layer only the hidden states that `select` takes from `[B, T, d]`.

    Logits for a vocabulary of 100,000 at every position are most of the memory and, in small
    models, of the time; a few positions are wanted. A hook before the layer leaves whatever the
    model does after it (soft caps, scaling) in place. It is removed when the `with` block ends.
    """
    head: Any = model.get_output_embeddings()  # type: ignore[operator]
    return head.register_forward_pre_hook(lambda _, given: (select(given[0]), *given[1:]))


# ---------------------------------------------------------------- who shares


def alike(rows: Sequence[list[int]]) -> list[int]:
    """Number rows of tokens: those that have the first half or more in common get one number."""
    numbers, last = [0] * len(rows), 0
    for before, i in pairwise(sorted(range(len(rows)), key=lambda i: rows[i])):
        last += 2 * len(os.path.commonprefix([rows[before], rows[i]])) < len(rows[i])
        numbers[i] = last
    return numbers


def group_rows(rows: Mapping[int, list[int]], labels: Sequence[str | int]) -> list[Group]:
    """Group rows of tokens, by position, with the same label; one with its own label is alone.

    What their tokens have in common is shared, but for each row's last token, which must be read.
    """
    members: dict[str | int, list[tuple[int, list[int]]]] = defaultdict(list)
    for row, label in zip(rows.items(), labels, strict=True):
        members[label].append(row)
    groups = []
    for together in members.values():
        texts = [tokens for _, tokens in together]
        most = min(map(len, texts)) - 1 if len(texts) > 1 else 0
        size = min(most, len(os.path.commonprefix(texts)))
        ends = [(position, tokens[size:]) for position, tokens in together]
        prefix = tuple(texts[0][:size])
        groups += [Group(prefix, ends)] if prefix else [Group((), [end]) for end in ends]
    return groups


# ---------------------------------------------------------------- batches


def batches(groups: list[Group], budget: int) -> Iterator[list[Group]]:
    """Fill batches with rows of similar width up to `budget` = rows x tokens per row.

    The rows of one prefix stay together as far as they fit.
    """
    batch: list[Group] = []
    wide = 0
    ordered = sorted(groups, key=lambda g: (-len(g.prefix), -len(g.tokens), g.rows[0][0]))
    for row in (part for group in ordered for part in _split(group, budget)):
        wider = max(wide, len(row.tokens))
        # Sorted by prefix, so the first is the longest; padded apart, so widths add up.
        cost = (len(batch) + 1) * (len((batch or [row])[0].prefix) + wider)
        if batch and (cost > budget or bool(row.prefix) != bool(batch[0].prefix)):
            yield batch
            batch, wider = [], len(row.tokens)
        batch.append(row)
        wide = wider
    if batch:
        yield batch


def _split(group: Group, budget: int) -> Iterator[Group]:
    """Cut a group into rows of nearly equal width, about `_ROW` tokens each."""
    longest = max(len(tokens) for _, tokens in group.rows)
    count = -(-len(group.tokens) // max(min(_ROW, budget - len(group.prefix)), longest))
    size = -(-len(group.rows) // count)
    for start in range(0, len(group.rows), size):
        yield Group(group.prefix, group.rows[start : start + size])


def only(batch: list[Group], wanted: set[int]) -> list[Group]:
    """The batch without the texts at other positions."""
    kept = [Group(g.prefix, [row for row in g.rows if row[0] in wanted]) for g in batch]
    return [group for group in kept if group.rows]
