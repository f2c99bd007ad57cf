"""How a backbone is trained, and what may be changed; `settings.toml` holds the defaults."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import field, replace
from importlib.resources import files
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass


@dataclass(frozen=True)
class TrainSettings:
    """How a backbone is trained."""

    epochs: PositiveInt = 100
    "Most epochs to train."
    batch_size: PositiveInt = 4096
    "Triples (user, positive, negative) per step at most."
    min_steps: PositiveInt = 1
    "Steps of an epoch at least; with little data batches are made smaller to reach it."
    max_steps: PositiveInt = 100
    "Steps of an epoch at most; with much data batches are made larger, or time would grow faster."
    learning_rate: PositiveFloat = 0.01
    "Step size of the optimiser, at the start."
    schedule: Literal["constant", "cosine"] = "constant"
    "How the step size changes; the cosine reaches almost nothing with the last of `epochs`."
    optimiser: Literal["adam", "rmsprop_tf1"] = "adam"
    "The second is that of the published code."
    sampler: Literal["edges", "uniform_users"] = "edges"
    "What a batch is drawn from; the second is that of the published code."
    hard_negative_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    "Share of negatives drawn from a user's hard negatives (the model's No answers), if any."
    eval_every: PositiveInt = 5
    "Epochs between two looks at the validation interactions; the last epoch is always looked at."
    patience: PositiveInt = 4
    "Looks without a better nDCG@20 before training stops."
    model: Mapping[str, Any] = field(default_factory=dict)
    "Options of the backbone (for example dim, layers, l2), handed to `build` as its config."


_TABLE = tomllib.loads(files(__package__).joinpath("settings.toml").read_text(encoding="utf-8"))

SETTINGS = {name: TrainSettings(**row) for name, row in _TABLE["default"].items()}
"""Defaults by backbone: the best of what `tools/tune_recommenders.py published` was asked to try.

The data is MovieLens-1M, and validation decides. `benchmarks/recommenders.py` measures them as
they stand.
"""

AUTHORS_MF = TrainSettings(**_TABLE["authors"]["MF-BPR"])
"""MF-BPR as the published code trains it."""

AUTHORS_NMF = TrainSettings(**_TABLE["authors"]["NMF"])
"""NMF as the published code trains it, up to the first time that it looks at the test set."""


def settings_for(dataset: str) -> dict[str, TrainSettings]:
    """Return the defaults of every backbone for a dataset, by its name.

    A dataset without settings of its own gets `SETTINGS`.
    """
    changes = _TABLE.get("book-crossing" if dataset == "published-book" else dataset, {})
    return {name: replace(base, **changes.get(name, {})) for name, base in SETTINGS.items()}
