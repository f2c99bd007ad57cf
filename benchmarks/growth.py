"""How training time and memory grow with the data.

On synthetic long-tailed data (`data.synthetic`) one real `fit` is started with the default
settings. Drawing the triples of the whole epoch is timed in full; of the training steps only some
are done, and their mean without the first, which also sets up the optimiser, stands for the rest.
What a random row of a table of that size costs is measured beside it: the machine's own growth.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from torch import Tensor

from benchmarks import data as arrays
from benchmarks.backbones import Stopwatch
from benchmarks.limits import row_seconds
from benchmarks.process import peak_mib, say
from dallrec_core.recommenders import Recommender, build
from dallrec_core.recommenders.training import SETTINGS, fit

BACKBONES = ("MF-BPR", "LightGCN")
SIZES = (1_000_000, 10_000_000, 25_000_000)


class _Enough(Exception):  # noqa: N818 - not an error
    """Ends `fit` once enough steps are timed."""


class Probe:
    """Notes the CPU time at the start of each step, and ends training when it has enough.

    Args:
        model: about to be trained; its loss is watched.
        steps: number of steps to time.
        seconds: end earlier when the steps took this long, but not before two are timed.
    """

    def __init__(self, model: Recommender, steps: int, seconds: float) -> None:
        self.marks: list[float] = []
        self.batch = 0
        self.steps, self.seconds = steps, seconds
        self._loss = model.loss
        model.loss = self._watched  # type: ignore[method-assign]

    def _watched(self, users: Tensor, *rest: Any) -> Tensor:
        self.batch = max(self.batch, len(users))
        self.marks.append(time.process_time())
        done = len(self.marks) - 1
        if done > self.steps or (done > 2 and self.marks[-1] - self.marks[0] > self.seconds):
            raise _Enough
        return self._loss(users, *rest)

    @property
    def step_seconds(self) -> float:
        """Mean seconds of a step, without the first one."""
        return (self.marks[-1] - self.marks[1]) / (len(self.marks) - 2)


def measure(file: str, name: str, *, steps: int = 20, seconds: float = 45.0) -> dict[str, Any]:
    """Return the time of an epoch of training and the peak memory, graph included.

    Args:
        file: from `data.synthetic`.
        name: of a backbone.
        steps: see `Probe`.
        seconds: see `Probe`.
    """
    data = arrays.load(file)
    started = time.process_time()
    graph = data.graph()
    model = build(name, graph, config=SETTINGS[name].model)
    setup = time.process_time() - started
    watch, probe = Stopwatch(model), Probe(model, steps, seconds)
    before = time.process_time()
    try:
        fit(model, graph, None, replace(SETTINGS[name], epochs=1))
    except _Enough:
        total = -(-len(data.train) // probe.batch)
        sampling = probe.marks[0] - (watch.started or before)
        epoch, timed = sampling + total * probe.step_seconds, len(probe.marks) - 2
    else:  # so few steps that the whole epoch was done
        total = timed = len(probe.marks)
        sampling = probe.marks[0] - before
        watch.stop()
        epoch = watch.seconds
    memory = peak_mib()
    say(f"growth: {name}, {len(data.train):,} interactions: {epoch:.1f} s per epoch")
    return {
        "seconds_per_interaction": epoch / len(data.train),
        "seconds_per_epoch": epoch,
        "sampling_seconds": sampling,
        "steps_per_epoch": total,
        "steps_timed": timed,
        "setup_seconds": setup,
        "row_seconds": row_seconds(data.n_users + data.n_items),
        "peak_mib": memory,
    }


def ratios(points: dict[str, dict[str, Any]]) -> None:
    """Add to each point its times, per interaction and per row, relative to those of the first."""
    first = next(iter(points.values()))
    for point in points.values():
        point["ratio"] = point["seconds_per_interaction"] / first["seconds_per_interaction"]
        point["row_ratio"] = point["row_seconds"] / first["row_seconds"]
