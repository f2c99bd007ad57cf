"""Alpaca examples: checked, put into the model's format, and labelled on the answer only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ValidationError, field_validator

from dallrec_core.errors import UserError
from dallrec_core.llm.load import LanguageModel, render
from dallrec_core.llm.packing import Group, alike, group_rows, pad

Example = Mapping[str, Any]
"""An Alpaca record: `instruction`, optional `input`, and `output`."""

IGNORED = -100
"""Label of a token that the loss leaves out."""


class Record(BaseModel, strict=True):
    """An example in Alpaca form, as it has to be."""

    instruction: str
    input: str = ""
    output: str

    @field_validator("instruction", "output")
    @classmethod
    def _filled(cls, text: str) -> str:
        if not text.strip():
            raise ValueError("it is empty")
        return text

    @field_validator("input", mode="before")
    @classmethod
    def _or_empty(cls, text: Any) -> Any:
        return "" if text is None else text


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
    lm: LanguageModel, examples: Sequence[Example], where: str
) -> list[dict[str, Any]]:
    """Turn examples into token ids and labels, the labels of the prompt being ignored.

    Examples with the same number `alike` begin alike, such as those about one user.

    Raises:
        UserError: naming the first example that is longer than the model can read.
    """
    rows: list[dict[str, Any]] = []
    prompts = lm.encode([render(lm, instruction_text(example)) for example in examples])
    for prompt, example, number in zip(prompts, examples, alike(prompts), strict=True):
        answer = [*lm.encode_answer(example["output"]), lm.tokenizer.eos_token_id]
        labels = [IGNORED] * len(prompt) + answer
        rows.append({"input_ids": prompt + answer, "labels": labels, "alike": number})
    lengths = [len(row["input_ids"]) for row in rows]
    if long := [i for i, length in enumerate(lengths, start=1) if length > lm.max_tokens]:
        raise UserError(f"{where}: shorten example {long[0]} to {lm.max_tokens} tokens")
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

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0, whose order is wanted next."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.rows)

    def __iter__(self) -> Iterator[int]:
        """Positions of all examples, batch behind batch; only the last one is not full."""
        rng, size = np.random.default_rng([self.seed, self.epoch]), self.batch_size
        groups = [row["alike"] for row in self.rows]
        length = {row["alike"]: len(row["input_ids"]) for row in self.rows}
        shuffled = rng.permutation(len(groups)).tolist()
        first: dict[int, int] = {}  # of a group, in that order
        for place, i in enumerate(shuffled):
            first.setdefault(groups[i], place)
        together = sorted(shuffled, key=lambda i: first[groups[i]])
        order: list[int] = []
        for start in range(0, len(together), self.POOL * size):
            pool = together[start : start + self.POOL * size]
            order += sorted(pool, key=lambda i: (length[groups[i]], first[groups[i]]))
        full = len(order) // size
        for batch in [*rng.permutation(full).tolist(), full]:
            yield from order[batch * size : (batch + 1) * size]


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
        labels = [row["alike"] if self.share else i for i, row in enumerate(rows)]
        prompts = [row["input_ids"][: row["labels"].count(IGNORED)] for row in rows]
        made: dict[str, list[list[int]]] = defaultdict(list)
        for part in group_rows(dict(enumerate(prompts)), labels):
            shared, cut = list(part.prefix), len(part.prefix)
            whole = Group(part.prefix, [(i, rows[i]["input_ids"][cut:]) for i, _ in part.rows])
            learnt = [label for i, _ in part.rows for label in rows[i]["labels"][cut:]]
            made["input_ids"].append(shared + whole.tokens)
            made["labels"].append([IGNORED] * cut + learnt)
            made["owners"].append([0] * cut + whole.owners)
            made["position_ids"].append([*range(cut), *whole.places])
        fill = {"input_ids": self.fill, "labels": IGNORED, "owners": -1, "position_ids": 0}
        batch = {name: pad(made[name], fill[name]) for name in fill}
        if len(batch["owners"]) < len(rows):
            return batch
        real = (batch.pop("owners") >= 0).long()
        return {"input_ids": batch["input_ids"], "labels": batch["labels"], "attention_mask": real}
