"""The training loop: batches, validation, early stopping, checkpoints.

Random numbers of epoch e come from a generator seeded by (seed, e), so a run that was interrupted
continues exactly as it would have gone on, and nothing depends on how long it slept. Training uses
one thread unless told otherwise: sums then have one order, and results do not depend on the
number of cores.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from dallrec_core.chain.artefacts import atomic
from dallrec_core.errors import UserError
from dallrec_core.recommenders.base import Graph, Recommender
from dallrec_core.recommenders.evaluation import score
from dallrec_core.recommenders.optimisers import TensorFlowRMSProp
from dallrec_core.recommenders.ranking import rank
from dallrec_core.recommenders.sampling import Sampler
from dallrec_core.recommenders.settings import AUTHORS_MF, SETTINGS, TrainSettings, settings_for

__all__ = ["AUTHORS_MF", "SETTINGS", "FitResult", "TrainSettings", "fit", "settings_for", "threads"]

VALIDATION_K = 20
"""Models are selected by nDCG at this K on the validation interactions."""


@dataclass(frozen=True)
class FitResult:
    """What training came to. The model itself holds its best weights."""

    epochs: int
    "Epochs trained; 0 for a model in closed form."
    best_epoch: int
    "Epoch whose weights were kept; the last one without validation interactions."
    validation: float
    "Validation nDCG@20 of the kept weights; NaN without validation interactions."
    seconds: float
    "Wall time, without what an interrupted run had spent before."
    history: pd.DataFrame
    "Rows epoch (int), loss (mean over the epoch), validation (NaN where it was not read)."


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fit(
    model: Recommender,
    graph: Graph,
    validation: pd.DataFrame | None,
    settings: TrainSettings,
    seed: int = 0,
    *,
    known: pd.DataFrame | None = None,
    checkpoint: Path | None = None,
    after_epoch: Callable[[int, Recommender], None] | None = None,
) -> FitResult:
    """Train `model` in place and leave its best weights in it.

    Args:
        model: from `build`, with the same graph.
        graph: the training interactions, added edges included.
        validation: columns user, item; without it the last epoch is kept.
        settings: how to train.
        seed: of sampling and dropout; initial values have their own in `build`.
        known: pairs not ranked in validation. Default: all edges of the graph. Give the observed
            training interactions alone to keep added edges rankable.
        checkpoint: file to continue from if it exists; rewritten at each look at validation and
            removed at the end. One made with other settings or data is ignored.
        after_epoch: called with the epoch's number and the model; only for looking.

    Raises:
        UserError: when the loss is no longer a number, naming the settings to change.
    """
    started = time.perf_counter()
    with threads(settings.threads), torch.random.fork_rng():
        run = _Run(model, graph, validation, settings, seed, known, checkpoint)
        if model.closed_form:
            run.history.append({"epoch": 0, "loss": np.nan, "validation": run.validate()})
        else:
            run.train(after_epoch)
    seconds, history = time.perf_counter() - started, pd.DataFrame(run.history)
    looks = history["validation"]
    best = history.loc[looks.idxmax() if looks.notna().any() else len(history) - 1]
    epochs, chosen, value = run.history[-1]["epoch"], int(best["epoch"]), float(best["validation"])
    return FitResult(epochs, chosen, value, seconds, history)


class _Run:
    """One training in progress: everything a checkpoint holds, and what it is made from."""

    def __init__(
        self,
        model: Recommender,
        graph: Graph,
        validation: pd.DataFrame | None,
        settings: TrainSettings,
        seed: int,
        known: pd.DataFrame | None,
        checkpoint: Path | None,
    ) -> None:
        self.model = model.to(settings.device)
        self.graph, self.settings, self.seed, self.checkpoint = graph, settings, seed, checkpoint
        self.validation = validation if validation is not None and len(validation) else None
        if known is None:
            known = pd.DataFrame({"user": graph.users.numpy(), "item": graph.items.numpy()})
        self.known = known
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None
        self.looks_since_best = 0

    def train(self, after_epoch: Callable[[int, Recommender], None] | None) -> None:
        """Run epochs until the last or until patience is at its end."""
        settings = self.settings
        edges = int((self.graph.loss_weights > 0).sum())
        size = min(settings.batch_size, max(1, edges // settings.min_steps))
        if settings.sampler == "edges":  # the other one is for parity with published settings
            size = max(size, -(-edges // settings.max_steps))
        share = settings.hard_negative_share
        sampler = Sampler(self.graph, settings.sampler, size, hard_share=share)
        self.optimiser = _optimiser(self.model, settings)
        self._resume()
        for epoch in range(len(self.history) + 1, settings.epochs + 1):
            if self.looks_since_best >= settings.patience:
                break
            loss = self._epoch(sampler, epoch)
            look = epoch % settings.eval_every == 0 or epoch == settings.epochs
            value = self.validate() if look else np.nan
            self.history.append({"epoch": epoch, "loss": loss, "validation": value})
            if after_epoch is not None:
                after_epoch(epoch, self.model)
            if look and self.validation is not None:
                self._remember(value)
                self._save()
        if self.best is not None:
            self.model.load_state_dict(self.best["weights"])
        if self.checkpoint is not None:
            self.checkpoint.unlink(missing_ok=True)

    def _epoch(self, sampler: Sampler, epoch: int) -> float:
        """Train one epoch and return its mean loss."""
        self.model.train()
        torch.manual_seed(int(np.random.SeedSequence([self.seed, epoch, 1]).generate_state(1)[0]))
        total = torch.zeros((), device=self.settings.device)
        for step, batch in enumerate(sampler.epoch(np.random.default_rng([self.seed, epoch]))):
            self._set_learning_rate((epoch - 1 + step / sampler.steps) / self.settings.epochs)
            self.optimiser.zero_grad(set_to_none=True)
            loss = self.model.loss(*batch.to(self.settings.device))
            loss.backward()
            self.optimiser.step()
            total += loss.detach()
        mean = float(total) / sampler.steps
        if not np.isfinite(mean):
            raise UserError(
                f"{type(self.model).__name__}: the loss is no longer a number in epoch {epoch}; "
                f"lower learning_rate (now {self.settings.learning_rate}) or raise the model's l2"
            )
        return mean

    def _set_learning_rate(self, progress: float) -> None:
        """Set the step size for the share of all epochs that is done, in [0, 1)."""
        if self.settings.schedule == "cosine":
            rate = self.settings.learning_rate * (1 + math.cos(math.pi * progress)) / 2
            for group in self.optimiser.param_groups:
                group["lr"] = rate

    def validate(self) -> float:
        """Return the validation nDCG@20 of the present weights, NaN without validation data."""
        if self.validation is None:
            return float("nan")
        self.model.eval()
        users = np.unique(self.validation["user"].to_numpy(np.int64))
        ranking = rank(self.model, self.known, users, VALIDATION_K)
        table = score(ranking, self.validation, self.model.n_items, (VALIDATION_K,))
        return float(table[f"ndcg@{VALIDATION_K}"].mean())

    def _remember(self, value: float) -> None:
        if self.best is None or value > self.best["value"]:
            self.best = {"value": value, "weights": copy.deepcopy(self.model.state_dict())}
            self.looks_since_best = 0
        else:
            self.looks_since_best += 1

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        state = {
            "key": self._key(),
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "history": self.history,
            "best": self.best,
            "looks_since_best": self.looks_since_best,
        }
        with atomic(self.checkpoint) as partial:
            torch.save(state, partial)

    def _resume(self) -> None:
        if self.checkpoint is None or not self.checkpoint.is_file():
            return
        try:
            state = torch.load(
                self.checkpoint, map_location=self.settings.device, weights_only=True
            )
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError):
            return  # a damaged checkpoint costs time, not correctness
        if state.get("key") != self._key():
            return
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.history, self.best = state["history"], state["best"]
        self.looks_since_best = state["looks_since_best"]

    def _key(self) -> str:
        """Identify data, settings and seed, so that a checkpoint continues only its own run."""
        digest = hashlib.sha256(json.dumps([asdict(self.settings), self.seed]).encode())
        for field in fields(self.graph):
            value = np.asarray(getattr(self.graph, field.name))
            digest.update(value.tobytes())
        if self.validation is not None:
            digest.update(self.validation[["user", "item"]].to_numpy(np.int64).tobytes())
        return digest.hexdigest()


def _optimiser(model: Recommender, settings: TrainSettings) -> torch.optim.Optimizer:
    if settings.optimiser == "rmsprop_tf1":
        return TensorFlowRMSProp(model.parameters(), lr=settings.learning_rate)
    return torch.optim.Adam(model.parameters(), lr=settings.learning_rate, fused=True)
