"""Alpaca examples: checked, put into the model's format, and labelled on the answer only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ValidationError, field_validator

from dallrec_core.errors import UserError
from dallrec_core.llm.load import LanguageModel, pad, render
from dallrec_core.llm.packing import Group, alike, group_rows

Example = Mapping[str, Any]
"""An Alpaca record: `instruction`, optional `input`, and `output`."""

IGNORED = -100
"""Label of a token that the loss leaves out."""


class Record(BaseModel, strict=True):
    """An example in Alpaca form, as it has to be."""

    instruction: str
    input: str = ""
    output: str

    @field_validator("input", mode="before")
    @classmethod
    def _none_is_empty(cls, text: object) -> object:
        return "" if text is None else text

    @field_validator("instruction", "output")
    @classmethod
    def _filled(cls, text: str) -> str:
        if not text.strip():
            raise ValueError("it is empty")
        return text


def fault(error: ValidationError) -> str:
    """Say what is wrong with a record, to be put behind the place where it stands."""
    first = error.errors()[0]
    return "".join(f", field '{name}'" for name in first["loc"]) + f": {first['msg']}"


def check_examples(examples: Sequence[Example], where: str) -> None:
    """Refuse records that are not Alpaca examples.

    Raises:
        UserError: naming the record (counted from 1) and the field.
    """
    for number, example in enumerate(examples, start=1):
        try:
            Record.model_validate(example)
        except ValidationError as error:
            raise UserError(f"{where}: example {number}{fault(error)}") from error


def instruction_text(example: Example) -> str:
    """The instruction, followed by the input on its own line where there is one."""
    given = (example.get("input") or "").strip()
    return f"{example['instruction']}\n{given}" if given else example["instruction"]


def encode_examples(
    lm: LanguageModel, examples: Sequence[Example], max_length: int, where: str
) -> list[dict[str, Any]]:
    """Turn examples into token ids and labels, the labels of the prompt being ignored.

    Examples with the same number `alike` begin alike, such as those about one user.

    Raises:
        UserError: when examples are longer than the model (or `max_length`) allows, naming the
            first, or the tokenizer has no end token.
    """
    end = lm.tokenizer.eos_token_id
    if end is None:
        raise UserError(f"model '{lm.name}': its tokenizer has no end token to learn")
    rows = []
    prompts = lm.encode([render(lm, instruction_text(example)) for example in examples])
    for prompt, example, number in zip(prompts, examples, alike(prompts), strict=True):
        answer = [*lm.encode_answer(example["output"]), end]
        labels = [IGNORED] * len(prompt) + answer
        rows.append({"input_ids": prompt + answer, "labels": labels, "alike": number})
    limit = min(max_length or lm.max_tokens, lm.max_tokens)
    long = [i for i, row in enumerate(rows) if len(row["input_ids"]) > limit]
    if long:
        raise UserError(
            f"{where}: {len(long)} of {len(rows)} examples are longer than {limit} tokens; the "
            f"first is example {long[0] + 1} with {len(rows[long[0]]['input_ids'])}. Shorten them, "
            "or raise max_length if the model can read more"
        )
    return rows


class Buckets(torch.utils.data.Sampler[int]):
    """An order of examples in which those of one batch begin alike, or are about equally long.

    Examples are shuffled, those that are alike are put together, pools of a few batches are sorted
    by length, and the batches shuffled, so that much is shared, little is padded, and yet every
    epoch has other batches. The order is drawn from seed and epoch alone: a continued run finds it
    again.

    Args:
        rows: the examples, as `encode_examples` makes them.
        batch_size: examples per batch.
        seed: of the order.
    """

    POOL = 4
    """Batches that are sorted together."""

    def __init__(self, rows: Sequence[dict[str, Any]], batch_size: int, seed: int) -> None:
        self.rows, self.batch_size, self.seed, self.epoch = rows, batch_size, seed, 0
        longest: dict[int, int] = {}
        for row in rows:
            length = len(row["input_ids"])
            longest[row["alike"]] = max(length, longest.get(row["alike"], 0))
        self.longest = longest

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0, whose order is wanted next."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.rows)

    def __iter__(self) -> Iterator[int]:
        """Positions of all examples, batch behind batch; only the last one is not full."""
        rng = np.random.default_rng([self.seed, self.epoch])
        groups = [row["alike"] for row in self.rows]
        order = rng.permutation(len(groups)).tolist()
        drawn = {group: rank for rank, group in enumerate(dict.fromkeys(groups[i] for i in order))}
        order.sort(key=lambda i: drawn[groups[i]])
        pool = self.POOL * self.batch_size
        for start in range(0, len(order), pool):
            order[start : start + pool] = sorted(
                order[start : start + pool],
                key=lambda i: (self.longest[groups[i]], drawn[groups[i]]),
            )
        full = len(order) // self.batch_size
        for batch in [*rng.permutation(full).tolist(), full]:
            yield from order[batch * self.batch_size : (batch + 1) * self.batch_size]


@dataclass(frozen=True)
class Collate:
    """Makes tensors `[B, T]` of examples: `input_ids`, `labels`, and what a token may see.

    Each example is a row, padded on the right, with its `attention_mask`. Where examples share a
    beginning they share a row, which has `position_ids` and `owners` (see `packing.visible`)
    instead.
    """

    fill: int
    """Token id to fill rows with."""
    share: bool = False
    """Whether the model can read packed rows."""

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Make tensors of `rows`."""
        labels = [row["alike"] if self.share else "" for row in rows]
        prompts = [row["input_ids"][: row["labels"].count(IGNORED)] for row in rows]
        groups = [
            Group(g.prefix, [(i, rows[i]["input_ids"][len(g.prefix) :]) for i, _ in g.rows])
            for g in group_rows(list(enumerate(prompts)), labels)
        ]
        learnt = [[t for i, own in g.rows for t in rows[i]["labels"][-len(own) :]] for g in groups]
        owners = pad([[0] * len(g.prefix) + g.owners for g in groups], -1)
        batch = {
            "input_ids": pad([[*g.prefix, *g.tokens] for g in groups], self.fill),
            "labels": pad(
                [[IGNORED] * len(g.prefix) + own for g, own in zip(groups, learnt, strict=True)],
                IGNORED,
            ),
        }
        if not any(group.prefix for group in groups):
            return batch | {"attention_mask": (owners >= 0).long()}
        places = pad([[*range(len(g.prefix)), *g.places] for g in groups], 0)
        return batch | {"owners": owners, "position_ids": places}
