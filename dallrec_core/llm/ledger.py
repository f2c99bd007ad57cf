"""What asking and tuning cost: questions, tokens, seconds and memory, task by task."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import astuple, dataclass, field, fields

import pandas as pd
import torch

from dallrec_core.chain.notebook import device, peak_mib


@dataclass
class Usage:
    """Questions and tokens since the counting began."""

    questions: int = 0
    """Questions to be answered, or examples to be learnt."""
    from_cache: int = 0
    """Of these questions, those that were not put to the model: stored before, or asked twice."""
    tokens_in: int = 0
    """Tokens of prompts and examples that the model read, padding left out, or a server reports."""
    tokens_out: int = 0
    """Tokens that it wrote."""
    saved_by_prefix: int = 0
    """Tokens that it need not read because questions share a beginning; a server keeps its own."""
    saved_by_cache: int = 0
    """Tokens, read and written, of the different questions that were stored before."""


COUNTS = tuple(column.name for column in fields(Usage))
"""Columns of whole numbers."""

_counting: ContextVar[Usage | None] = ContextVar("usage", default=None)


def usage() -> Usage:
    """Return the counts to add to; outside of `Ledger.task` they are thrown away."""
    return _counting.get() or Usage()


@dataclass
class Ledger:
    """Costs of one stage, task by task."""

    stage: str
    """Name of the stage."""
    tasks: dict[str, tuple[Usage, float, float]] = field(default_factory=dict)
    """By name of the task: counts, seconds, and the largest memory so far in MiB."""

    @contextmanager
    def task(self, name: str) -> Iterator[Usage]:
        """Count what happens inside this block for the task; the same name adds up."""
        counts, before, _ = self.tasks.get(name, (Usage(), 0.0, 0.0))
        start, token = time.monotonic(), _counting.set(counts)
        try:
            yield counts
        finally:
            _counting.reset(token)
        self.tasks[name] = counts, before + time.monotonic() - start, _peak_mib()

    def frame(self) -> pd.DataFrame:
        """Return the ledger by schema `ledger`, one row per task."""
        rows = [
            (self.stage, name, device(), *astuple(counts), seconds, peak)
            for name, (counts, seconds, peak) in self.tasks.items()
        ]
        columns = ["stage", "task", "device", *COUNTS, "seconds", "peak_mib"]
        return pd.DataFrame(rows, columns=columns)


def ledger_table(ledger: pd.DataFrame) -> pd.DataFrame:
    """Return a ledger as a page shows it: rounded, with thousands marked and words for names."""
    out = ledger[["task"]].copy()
    for column in COUNTS:
        out[column.replace("_", " ")] = [f"{value:,}" for value in ledger[column]]
    out["seconds"] = [f"{value:.1f}" for value in ledger["seconds"]]
    out["peak MiB"] = [f"{value:,.0f}" for value in ledger["peak_mib"]]
    return out.assign(device=ledger["device"]).set_index("task")


def _peak_mib() -> float:
    """Largest memory so far: of the GPU where one is used, else of this process."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated() / 2**20)
    return peak_mib()
