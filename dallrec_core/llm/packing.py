"""Texts packed behind a beginning that they share, which is then read once.

What follows the beginning, such as the questions behind a user's history, stands side by side in
one row. Each sees the beginning and itself, and counts its positions from there on, so that what is
computed for it is what it would be alone. Asking and fine-tuning both pack so.
"""

from __future__ import annotations

import os.path
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
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
    def width(self) -> int:
        """Tokens of all that stands behind the prefix."""
        return sum(len(tokens) for _, tokens in self.rows)

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


# ---------------------------------------------------------------- who shares


def alike(rows: Sequence[list[int]]) -> list[int]:
    """Number rows of tokens: those that have the first half or more in common get one number."""
    numbers, last = [0] * len(rows), 0
    for before, i in pairwise(sorted(range(len(rows)), key=lambda i: rows[i])):
        last += 2 * _common([rows[before], rows[i]]) < len(rows[i])
        numbers[i] = last
    return numbers


def _common(rows: list[list[int]]) -> int:
    return len(os.path.commonprefix(rows))


def group_rows(rows: list[tuple[int, list[int]]], labels: Sequence[str | int]) -> list[Group]:
    """Group (position, tokens) rows with the same label; those labelled "" stand alone.

    What their tokens have in common is shared, but for each row's last token, which must be read.
    """
    members: dict[str | int, list[tuple[int, list[int]]]] = defaultdict(list)
    for row, label in zip(rows, labels, strict=True):
        members[label].append(row)
    groups = [Group((), [row]) for row in members.pop("", [])]
    for together in members.values():
        most = min(len(tokens) for _, tokens in together) - 1
        size = min(most, _common([tokens for _, tokens in together])) if len(together) > 1 else 0
        ends = [(position, tokens[size:]) for position, tokens in together]
        groups += (
            [Group(tuple(together[0][1][:size]), ends)] if size else [Group((), [e]) for e in ends]
        )
    return groups


# ---------------------------------------------------------------- batches


def batches(groups: list[Group], budget: int) -> Iterator[list[Group]]:
    """Fill batches with rows of similar width up to `budget` = rows x tokens per row.

    The rows of one prefix stay together as far as they fit.
    """
    batch: list[Group] = []
    wide = 0
    ordered = sorted(groups, key=lambda g: (-len(g.prefix), -g.width, g.rows[0][0]))
    for row in (part for group in ordered for part in _split(group, budget)):
        wider = max(wide, row.width)
        # Sorted by prefix, so the first is the longest; padded apart, so widths add up.
        cost = (len(batch) + 1) * (len((batch or [row])[0].prefix) + wider)
        if batch and (cost > budget or bool(row.prefix) != bool(batch[0].prefix)):
            yield batch
            batch, wider = [], row.width
        batch.append(row)
        wide = wider
    if batch:
        yield batch


def _split(group: Group, budget: int) -> Iterator[Group]:
    """Cut a group into rows of nearly equal width, about `_ROW` tokens each."""
    longest = max(len(tokens) for _, tokens in group.rows)
    count = -(-group.width // max(min(_ROW, budget - len(group.prefix)), longest))
    size = -(-len(group.rows) // count)
    for start in range(0, len(group.rows), size):
        yield Group(group.prefix, group.rows[start : start + size])


def only(batch: list[Group], wanted: set[int]) -> list[Group]:
    """The batch without the texts at other positions."""
    kept = [Group(g.prefix, [row for row in g.rows if row[0] in wanted]) for g in batch]
    return [group for group in kept if group.rows]
