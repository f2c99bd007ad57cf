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
) -> list[dict[str, list[int]]]:
    """Turn examples into token ids and labels, the labels of the prompt being ignored.

    Raises:
        UserError: when examples are longer than the model (or `max_length`) allows, naming the
            first, or the tokenizer has no end token.
    """
    end = lm.tokenizer.eos_token_id
    if end is None:
        raise UserError(f"model '{lm.name}': its tokenizer has no end token to learn")
    rows = []
    prompts = lm.encode([render(lm, instruction_text(example)) for example in examples])
    for prompt, example in zip(prompts, examples, strict=True):
        answer = [*lm.encode_answer(example["output"]), end]
        rows.append({"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer})
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
    """An order of examples in which those of one batch are about equally long.

    Examples are shuffled, sorted by length in pools of a few batches, and the batches shuffled, so
    that little is padded and yet every epoch has other batches. The order is drawn from seed and
    epoch alone: a continued run finds it again.

    Args:
        lengths: of the examples, in tokens.
        batch_size: examples per batch.
        seed: of the order.
    """

    POOL = 4
    """Batches that are sorted together."""

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0, whose order is wanted next."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        """Positions of all examples, batch behind batch; only the last one is not full."""
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self.lengths)).tolist()
        pool = self.POOL * self.batch_size
        for start in range(0, len(order), pool):
            order[start : start + pool] = sorted(
                order[start : start + pool], key=lambda i: self.lengths[i]
            )
        full = len(order) // self.batch_size
        for batch in [*rng.permutation(full).tolist(), full]:
            yield from order[batch * self.batch_size : (batch + 1) * self.batch_size]


@dataclass(frozen=True)
class Collate:
    """Pads a batch on the right: `input_ids`, `labels` and `attention_mask`, each `[B, T]`."""

    fill: int
    """Token id to fill rows with."""

    def __call__(self, rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        """Make tensors of `rows`."""
        return {
            "input_ids": pad([row["input_ids"] for row in rows], self.fill),
            "labels": pad([row["labels"] for row in rows], IGNORED),
            "attention_mask": pad([[1] * len(row["labels"]) for row in rows], 0),
        }
