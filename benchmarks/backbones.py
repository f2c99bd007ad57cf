"""What a backbone reaches on validation interactions, and what its training costs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks import data as arrays
from benchmarks.process import peak_mib, say
from dallrec_core.recommenders import Recommender, build, model_class
from dallrec_core.recommenders.evaluation import score
from dallrec_core.recommenders.ranking import rank
from dallrec_core.recommenders.training import SETTINGS, TrainSettings, fit

REFERENCES = ("Popularity", "ItemKNN", "EASE")
"""Computed at once, without epochs."""
TRAINED = ("MF-BPR", "NMF", "NGCF", "LightGCN", "MMGCN", "GRCN", "MMSSL")
LIGHTGCN = 0.295
TARGETS: dict[str, tuple[float, ...]] = {
    "MF-BPR": (0.261, 0.273),  # where Cornac's BPR and RecBole's BPR stand
    "NMF": (0.265,),
    "NGCF": (0.275,),
    "LightGCN": (LIGHTGCN,),
    "MMGCN": (LIGHTGCN - 0.01,),
    "GRCN": (LIGHTGCN - 0.01,),
    "MMSSL": (LIGHTGCN,),
}
"""Validation Recall@20 to be reached; the first of each counts as *the* target."""
K = 20


class Stopwatch:
    """CPU seconds that a model spends in training epochs, validation left out.

    `fit` switches the model to training at the start of an epoch and to evaluation before it looks
    at validation; the watch goes with that switch. Drawing an epoch's triples is inside.
    """

    def __init__(self, model: Recommender) -> None:
        self.seconds, self.epochs = 0.0, 0
        self.started: float | None = None
        self._switch = model.train
        model.train = self._switched  # type: ignore[method-assign]

    def _switched(self, mode: bool = True) -> Recommender:
        model = self._switch(mode)
        self.stop()
        if mode:
            self.epochs += 1
            self.started = time.process_time()
        return model

    def stop(self) -> None:
        """Stop the watch; nothing happens when it does not run."""
        if self.started is not None:
            self.seconds += time.process_time() - self.started
            self.started = None


def measure(
    file: str,
    name: str,
    *,
    epochs: int | None = None,
    targets: Sequence[float] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Train one backbone with its default settings and return quality, time and memory.

    Args:
        file: from `data.prepare`.
        name: of a backbone.
        epochs: at most so many instead of the default number; quality is then not final.
        targets: values of Recall@20 to be timed; `TARGETS` of the backbone when absent.
        seed: of initial values and sampling.
    """
    data = arrays.load(file)
    settings = SETTINGS.get(name, TrainSettings())
    if epochs is not None:
        settings = replace(settings, epochs=min(epochs, settings.epochs))
    if targets is None:
        targets = TARGETS.get(name, ())
    started = time.process_time()
    graph = data.graph()
    features = data.features if model_class(name).uses_features else None
    model = build(name, graph, features, settings.model, seed=seed)
    setup = time.process_time() - started
    watch, looks = Stopwatch(model), [{"epoch": 0, "cpu_seconds": 0.0} | quality(model, data)]

    def look(epoch: int, model: Recommender) -> None:
        watch.stop()
        if epoch % settings.eval_every and epoch != settings.epochs:
            return
        looks.append({"epoch": epoch, "cpu_seconds": watch.seconds} | quality(model, data))
        say(
            f"{name}: epoch {epoch}, {watch.seconds:.1f} CPU s, Recall@{K} "
            f"{looks[-1][f'recall@{K}']:.4f}"
        )

    result = fit(model, graph, data.validation, settings, seed, after_epoch=look)
    if model.closed_form:
        looks = [looks[0] | {"cpu_seconds": setup}]
    best = next(look for look in looks if look["epoch"] == result.best_epoch)
    return {
        f"valid_recall@{K}": best[f"recall@{K}"],
        "seconds_per_epoch": watch.seconds / watch.epochs if watch.epochs else None,
        "cpu_seconds_to_target": reached(looks, targets[0]) if targets else None,
        "peak_mib": peak_mib(),
        "targets": {f"{target:.3f}": reached(looks, target) for target in targets},
        "setup_seconds": setup,
        "epochs": result.epochs,
        "best_epoch": result.best_epoch,
        "looks": looks,
    }


def quality(model: Recommender, data: arrays.Data) -> dict[str, float]:
    """Return Recall@20 and nDCG@20 on the validation interactions, training ones left out."""
    model.eval()
    users = np.unique(data.validation["user"].to_numpy())
    table = score(rank(model, data.train, users, K), data.validation, data.n_items, (K,))
    return {name: float(table[name].mean()) for name in (f"recall@{K}", f"ndcg@{K}")}


def reached(looks: Sequence[dict[str, Any]], target: float) -> float | None:
    """Return the training CPU seconds at the first look with the target's Recall@20, or None."""
    return next((look["cpu_seconds"] for look in looks if look[f"recall@{K}"] >= target), None)
