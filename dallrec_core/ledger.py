"""The cost ledger of a stage: what each task took, in questions, tokens, seconds and memory."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pandas as pd

from dallrec_core.llm.usage import Usage, metered
from dallrec_core.memory import device, peak_mib

COUNTS = ("questions", "from_cache", "tokens_in", "tokens_out", "saved_by_prefix", "saved_by_cache")
"""Columns of whole numbers."""


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
        start = time.monotonic()
        with metered(counts):
            yield counts
        self.tasks[name] = counts, before + time.monotonic() - start, _peak_mib()

    def frame(self) -> pd.DataFrame:
        """Return the ledger by schema `ledger`, one row per task."""
        rows = [
            {"stage": self.stage, "task": name, "device": device()}
            | {column: getattr(counts, column) for column in COUNTS}
            | {"seconds": seconds, "peak_mib": peak}
            for name, (counts, seconds, peak) in self.tasks.items()
        ]
        columns = ["stage", "task", "device", *COUNTS, "seconds", "peak_mib"]
        return pd.DataFrame(rows, columns=columns)


def shown(ledger: pd.DataFrame) -> pd.DataFrame:
    """Return a ledger as a page shows it: rounded, with thousands marked and words for names."""
    out = ledger[["task"]].copy()
    for column in COUNTS:
        out[column.replace("_", " ")] = [f"{value:,}" for value in ledger[column]]
    out["seconds"] = [f"{value:.1f}" for value in ledger["seconds"]]
    out["peak MiB"] = [f"{value:,.0f}" for value in ledger["peak_mib"]]
    return out.assign(device=ledger["device"]).set_index("task")


def _peak_mib() -> float:
    """Largest memory so far: of the GPU where one is used, else of this process."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated() / 2**20)
    return peak_mib()
