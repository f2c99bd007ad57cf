"""Several processes that work together, as `accelerate launch` or `torchrun` start them.

In asking, every process plans the same batches, asks its share of them, and receives all the
answers. A batch is asked in the same company wherever that happens, so the answers are those of one
process. In fine-tuning, the trainer shares out the examples of each step.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import islice
from typing import Any, TypeVar

from dallrec_core.errors import UserError

T = TypeVar("T")

_PATIENCE = timedelta(days=1)
"""How long a process that is done waits for the others."""


def place() -> tuple[int, int]:
    """Return this process's number, from 0, and how many work together; (0, 1) when alone."""
    if "LOCAL_RANK" not in os.environ:
        return 0, 1
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def own(batches: Iterable[T]) -> Iterator[T]:
    """Yield the batches that are this process's share: every n-th of n processes."""
    rank, count = place()
    return islice(batches, rank, None, count)


def gather(answers: dict[str, Any]) -> dict[str, Any]:
    """Return the answers of all processes; each must call this, in the same order.

    Raises:
        UserError: when the processes do not know of each other.
    """
    count = place()[1]
    if count == 1:
        return answers
    import torch
    from accelerate import PartialState
    from accelerate.utils import gather_object

    # connects the processes, unless they are connected already
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE)
    if state.num_processes != count:
        raise UserError(
            f"{count} processes were started, but accelerate sees {state.num_processes}; start "
            "them with `accelerate launch`, or unset LOCAL_RANK and WORLD_SIZE"
        )
    together: dict[str, Any] = {}
    for part in gather_object([answers]):
        together |= part
    return together
