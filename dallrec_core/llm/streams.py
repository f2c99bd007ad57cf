"""Several forward passes at a time, for models too small to keep the cores busy with one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import replace
from itertools import chain, islice
from queue import SimpleQueue
from typing import TypeVar

import torch

from dallrec_core.llm.models import LanguageModel

Job = TypeVar("Job")
Result = TypeVar("Result")

_NARROW = 192  # width of hidden states; from 256 on, cores work as well together on each operation
_MOST = 4  # passes at a time: a killed run loses those


def streamed(
    work: Callable[[LanguageModel, Job], Result], lm: LanguageModel, jobs: Sequence[Job]
) -> Iterator[Result]:
    """Yield `work(model, job)` of all jobs as they end.

    A narrow model on the processor works on several jobs at a time, each on a thread of its own;
    any other on one after the other. A narrow model's results are the same to the last bit however
    many threads there are; their order is not.

    Args:
        work: what to do with one job; `model` is `lm`, or a twin that shares its weights.
        lm: the model.
        jobs: what is to be done.
    """
    threads = torch.get_num_threads()
    if not jobs or not _can_stream(lm):
        yield from (work(lm, job) for job in jobs)
        return
    count = min(threads, _MOST, len(jobs))
    idle: SimpleQueue[LanguageModel] = SimpleQueue()
    for model in [lm, *(_twin(lm) for _ in range(count - 1))]:
        idle.put(model)

    def on_idle(job: Job) -> Result:
        model = idle.get()
        try:
            return work(model, job)
        finally:
            idle.put(model)

    waiting = iter(jobs)
    try:
        with ThreadPoolExecutor(count, "asking", torch.set_num_threads, (1,)) as pool:
            # The next job begins when the caller is done with a result (has stored it): whenever
            # it stops, no more than `count` results are lost, and nothing runs on.
            running = {pool.submit(on_idle, job) for job in islice(waiting, count)}
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for each in done:
                    yield each.result()
                    running |= {pool.submit(on_idle, job) for job in islice(waiting, 1)}
    finally:
        torch.set_num_threads(threads)  # threads begun from now on would have one only


def _can_stream(lm: LanguageModel) -> bool:
    """Tell whether the model is narrow, on the processor, and made of plain modules.

    A `forward` that was replaced (by accelerate, for instance) belongs to the first model, so twins
    would share its hooks.
    """
    config = lm.model.config.get_text_config(decoder=True)
    width = getattr(config, "hidden_size", _NARROW + 1)
    replaced = any("forward" in vars(module) for module in lm.model.modules())
    return lm.device.type == "cpu" and width <= _NARROW and not replaced


def _twin(lm: LanguageModel) -> LanguageModel:
    """The same weights in modules of their own, as hooks of one pass must not touch another's."""
    shared = {id(tensor): tensor for tensor in chain(lm.model.parameters(), lm.model.buffers())}
    return replace(lm, model=copy.deepcopy(lm.model, shared))
