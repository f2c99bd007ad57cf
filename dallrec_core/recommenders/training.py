"""The training loop: batches, validation, early stopping.

Random numbers of epoch e come from a generator seeded by (seed, e). Training uses one thread: sums
then have one order, and results do not depend on the number of cores.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dallrec_core.errors import UserError
from dallrec_core.recommenders.base import Graph, Recommender
from dallrec_core.recommenders.evaluation import score
from dallrec_core.recommenders.ranking import rank
from dallrec_core.recommenders.sampling import Sampler
from dallrec_core.recommenders.settings import AUTHORS_MF, SETTINGS, TrainSettings, settings_for

__all__ = [
    "AUTHORS_MF", "SETTINGS", "FitResult", "TrainSettings", "fit", "one_thread", "settings_for",
]  # fmt: skip

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
def one_thread() -> Iterator[None]:
    """Let torch use one thread inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
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
        after_epoch: called with the epoch's number and the model; only for looking.

    Raises:
        UserError: when the loss is no longer a number, naming the settings to change.
    """
    started = time.perf_counter()

    def look() -> float:
        return _validated(model, graph, validation, known)

    with one_thread(), torch.random.fork_rng():
        if model.closed_form:
            rows: list[dict[str, Any]] = [{"epoch": 0, "loss": np.nan, "validation": look()}]
        else:
            rows = _train(model, graph, settings, seed, look, after_epoch)
    seconds, history = time.perf_counter() - started, pd.DataFrame(rows)
    looks = history["validation"]
    best = history.loc[looks.idxmax() if looks.notna().any() else len(history) - 1]
    epochs, chosen, value = rows[-1]["epoch"], int(best["epoch"]), float(best["validation"])
    return FitResult(epochs, chosen, value, seconds, history)


def _train(
    model: Recommender,
    graph: Graph,
    settings: TrainSettings,
    seed: int,
    look: Callable[[], float],
    after_epoch: Callable[[int, Recommender], None] | None,
) -> list[dict[str, Any]]:
    """Run epochs until the last or until patience is at its end, and keep the best weights."""
    edges = int((graph.loss_weights > 0).sum())
    size = min(settings.batch_size, max(1, edges // settings.min_steps))
    if settings.sampler == "edges":  # the other one is for parity with published settings
        size = max(size, -(-edges // settings.max_steps))
    sampler = Sampler(graph, settings.sampler, size, hard_share=settings.hard_negative_share)
    kind = TensorFlowRMSProp if settings.optimiser == "rmsprop_tf1" else _adam
    optimiser = kind(model.parameters(), lr=settings.learning_rate)
    kept: dict[str, Any] = {}
    rows, best, patience = [], -np.inf, settings.patience
    for epoch in range(1, settings.epochs + 1):
        loss = _epoch(model, sampler, optimiser, settings, seed, epoch)
        due = epoch % settings.eval_every == 0 or epoch == settings.epochs
        value = look() if due else np.nan
        rows.append({"epoch": epoch, "loss": loss, "validation": value})
        if after_epoch is not None:
            after_epoch(epoch, model)
        if value > best:
            best, kept, patience = value, copy.deepcopy(model.state_dict()), settings.patience
        elif not np.isnan(value):
            patience -= 1
            if not patience:
                break
    if kept:
        model.load_state_dict(kept)
    return rows


def _epoch(
    model: Recommender,
    sampler: Sampler,
    optimiser: torch.optim.Optimizer,
    settings: TrainSettings,
    seed: int,
    epoch: int,
) -> float:
    """Train one epoch and return its mean loss."""
    model.train()
    torch.manual_seed(int(np.random.SeedSequence([seed, epoch, 1]).generate_state(1)[0]))
    total = torch.zeros(())
    for step, batch in enumerate(sampler.epoch(np.random.default_rng([seed, epoch]))):
        if settings.schedule == "cosine":
            progress = (epoch - 1 + step / sampler.steps) / settings.epochs
            rate = settings.learning_rate * (1 + math.cos(math.pi * progress)) / 2
            for group in optimiser.param_groups:
                group["lr"] = rate
        optimiser.zero_grad(set_to_none=True)
        loss = model.loss(*batch)
        loss.backward()
        optimiser.step()
        total += loss.detach()
    mean = float(total) / sampler.steps
    if not np.isfinite(mean):
        raise UserError(
            f"{type(model).__name__}: the loss is no longer a number in epoch {epoch}; "
            f"lower learning_rate (now {settings.learning_rate}) or raise the model's l2"
        )
    return mean


def _validated(
    model: Recommender, graph: Graph, validation: pd.DataFrame | None, known: pd.DataFrame | None
) -> float:
    """Return the validation nDCG@20 of the present weights, NaN without validation data."""
    if validation is None or validation.empty:
        return float("nan")
    if known is None:
        known = pd.DataFrame({"user": graph.users, "item": graph.items})
    model.eval()
    users = np.unique(validation["user"].to_numpy(np.int64))
    ranking = rank(model, known, users, VALIDATION_K)
    table = score(ranking, validation, model.n_items, (VALIDATION_K,))
    return float(table[f"ndcg@{VALIDATION_K}"].mean())


def _adam(parameters: Iterable[Tensor], lr: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=lr, fused=True)


class TensorFlowRMSProp(torch.optim.Optimizer):
    """`tf.train.RMSPropOptimizer` (TF 1) on looked-up embeddings, for parity with published code.

    It differs from `torch.optim.RMSprop` in three ways that change results: the accumulator `a`
    starts at 1, epsilon stands inside the root, and only rows that the batch touched are updated:

        a ← ρ a + (1 - ρ) g²,  ρ = 0.9
        w ← w - η g / √(a + ε),  ε = 1e-10

    A row whose gradient is entirely zero counts as untouched.

    Args:
        parameters: tensors; rows of matrices are embeddings, a vector is one row per entry.
        lr: step size η.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Apply one update to every parameter that has a gradient."""
        group = self.param_groups[0]
        for parameter in group["params"]:
            gradient, state = parameter.grad, self.state[parameter]
            if gradient is None:
                continue
            if not state:
                state["accumulator"] = torch.ones_like(parameter)
            accumulator = state["accumulator"]
            rows = gradient.reshape(len(gradient), -1).any(dim=1).nonzero().squeeze(1)
            touched = gradient.index_select(0, rows)
            kept = accumulator.index_select(0, rows).mul_(0.9).addcmul_(touched, touched, value=0.1)
            accumulator.index_copy_(0, rows, kept)
            update = touched.div_(kept.add_(1e-10).sqrt_())
            parameter.index_add_(0, rows, update, alpha=-group["lr"])
