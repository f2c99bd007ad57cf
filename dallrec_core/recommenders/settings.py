"""How each backbone is trained by default, and what may be changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
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
    threads: PositiveInt = 1
    "CPU threads. With one, results do not depend on the number of cores."
    device: str = "cpu"
    "Torch device. Results are reproducible seed for seed on the CPU only."
    model: Mapping[str, Any] = field(default_factory=dict)
    "Options of the backbone (for example dim, layers, l2), handed to `build` as its config."


# each step of a graph model propagates over the whole graph, so few large ones
_GRAPH = TrainSettings(
    batch_size=32768, min_steps=20, max_steps=30, learning_rate=0.05, schedule="cosine"
)

SETTINGS: dict[str, TrainSettings] = {
    "MF-BPR": TrainSettings(
        epochs=40,
        batch_size=16384,
        min_steps=40,
        max_steps=60,
        learning_rate=0.02,
        schedule="cosine",
    ),
    "NMF": TrainSettings(
        epochs=80,
        batch_size=8192,
        min_steps=40,
        learning_rate=0.02,
        schedule="cosine",
        model={"dropout": 0.3, "prior": 1.0, "init_std": 0.3},
    ),
    "NGCF": replace(
        _GRAPH,
        epochs=50,
        learning_rate=0.03,
        model={"layers": 1, "dropout": 0.0, "prior": 1.0},
    ),
    "LightGCN": replace(_GRAPH, epochs=50, model={"layers": 2}),
    "MMGCN": replace(
        _GRAPH,
        epochs=90,
        batch_size=16384,
        max_steps=60,
        learning_rate=0.02,
        model={"final_weight": 9.0},
    ),
    "GRCN": replace(_GRAPH, epochs=60, model={"prior": 0.5, "final_weight": 1.0}),
    "MMSSL": replace(
        _GRAPH,
        epochs=60,
        learning_rate=0.1,
        model={"prior": 0.12, "attention_weight": 0.1, "feature_weight": 0.1, "contrast": 0.001},
    ),
}
"""Defaults by backbone: the best of what `tools/tune_recommenders.py published` was asked to try.

The data is MovieLens-1M, and validation decides. `benchmarks/recommenders.py` measures them as
they stand.
"""

# 25,000 users and 52,000 books: a step of a graph model costs ten times that on MovieLens-1M, and
# NMF needs minutes to rank everything once
_BOOKS: dict[str, dict[str, Any]] = {
    "MF-BPR": {"epochs": 20, "model": {"prior": 0.3}},
    "NMF": {"epochs": 10, "eval_every": 10},
    "NGCF": {"epochs": 10},
    "LightGCN": {"epochs": 10},
    "MMGCN": {"epochs": 6, "batch_size": 32768, "eval_every": 3, "model": {}},
    "GRCN": {"epochs": 6, "eval_every": 3, "model": {"prior": 0.5}},
    "MMSSL": {"epochs": 6, "eval_every": 3},
}

BY_DATASET: dict[str, dict[str, dict[str, Any]]] = {
    "published-book": _BOOKS,
    "book-crossing": _BOOKS,
    "ml-100k": {"MF-BPR": {"learning_rate": 0.01}},
    "released-edges": {
        "MF-BPR": {"epochs": 20, "model": {"prior": 0.3}},
        "LightGCN": {"epochs": 12},
    },
    "matinee": {
        "MF-BPR": {"epochs": 30, "batch_size": 4096, "min_steps": 20, "learning_rate": 0.012},
        "NMF": {"epochs": 20, "min_steps": 20, "learning_rate": 0.007}
        | {"model": {"dropout": 0.2, "prior": 2.0}},
        "NGCF": {"epochs": 20, "min_steps": 10, "learning_rate": 0.05, "eval_every": 2},
        "LightGCN": {"epochs": 20, "min_steps": 10, "learning_rate": 0.05, "eval_every": 2}
        | {"model": {"layers": 3}},
        "MMGCN": {"epochs": 16, "min_steps": 10, "learning_rate": 0.01, "eval_every": 2},
        "GRCN": {"epochs": 12, "min_steps": 5, "learning_rate": 0.02, "eval_every": 2}
        | {"model": {}},
        "MMSSL": {"epochs": 12, "min_steps": 5, "learning_rate": 0.02, "eval_every": 2}
        | {"model": {"contrast_users": 256}},
    },
}
"""What is different for a dataset: backbone → setting → value.

The best of a few that the same tool tried on the dataset's own validation interactions; for the
dear models on books it is what an hour allows. `model` replaces the whole `model` of `SETTINGS`.
"""


def settings_for(dataset: str) -> dict[str, TrainSettings]:
    """Return the defaults of every backbone for a dataset, by its name.

    A dataset without settings of its own gets `SETTINGS`.
    """
    changes = BY_DATASET.get(dataset, {})
    return {name: replace(base, **changes.get(name, {})) for name, base in SETTINGS.items()}


AUTHORS_MF = TrainSettings(
    epochs=10,
    batch_size=1024,
    learning_rate=0.01,
    optimiser="rmsprop_tf1",
    sampler="uniform_users",
    model={"dim": 64, "l2": 1e-5},
)
"""MF-BPR as the published code trains it."""

AUTHORS_NMF = replace(
    AUTHORS_MF,
    model={"dim": 64, "widths": (64,), "dropout": 0.5, "l2": 1e-2},
)
"""NMF as the published code trains it, up to the first time that it looks at the test set."""
