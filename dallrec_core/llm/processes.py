"""Several processes that ask together, as `accelerate launch` or `torchrun` start them.

Every process plans the same batches, asks its share of them, and receives all the answers. A batch
is asked in the same company wherever that happens, so the answers are those of one process.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import islice
from typing import Any, TypeVar

T = TypeVar("T")

_PATIENCE = timedelta(days=1)
"""How long a process that is done waits for the others."""


def place() -> tuple[int, int]:
    """Return this process's number, from 0, and how many ask together; (0, 1) when alone."""
    if "LOCAL_RANK" not in os.environ:
        return 0, 1
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def own(batches: Iterable[T]) -> Iterator[T]:
    """Yield the batches that are this process's share: every n-th of n processes."""
    rank, count = place()
    return islice(batches, rank, None, count)


def gather(answers: dict[str, Any]) -> dict[str, Any]:
    """Return the answers of all processes; each must call this, in the same order."""
    if place()[1] == 1:
        return answers
    from accelerate import PartialState
    from accelerate.utils import gather_object

    PartialState(timeout=_PATIENCE)  # connects the processes, unless they are connected already
    together: dict[str, Any] = {}
    for part in gather_object([answers]):
        together |= part
    return together
