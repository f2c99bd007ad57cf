"""The arrays that everything is measured on, in one `.npz` that other libraries can read too.

MovieLens-1M in the split that the paper's authors released: their `train.txt`, of which a random
tenth of each user's rows is held out for validation. Their test file is not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmarks.process import say
from dallrec_core import data as datasets
from dallrec_core.augmentation import TrainingView, features
from dallrec_core.data.splits import split
from dallrec_core.recommenders import Graph

_ROWS = ("train_users", "train_items", "valid_users", "valid_items")


@dataclass(frozen=True)
class Data:
    """Training and validation interactions, and item features for the models that take them."""

    n_users: int
    n_items: int
    train: pd.DataFrame
    "Columns user, item (int64), by (user, item)."
    validation: pd.DataFrame
    "The same; empty in synthetic data."
    features: dict[str, Tensor]
    "float32 [N, width] by modality."

    def graph(self) -> Graph:
        """Return the graph of the training interactions."""
        return Graph.from_frame(self.train, self.n_users, self.n_items)


def prepare(path: str, dataset: str = "published", seed: int = 0) -> dict[str, int]:
    """Write a dataset's split and its items' features to `path`, and return the sizes.

    Features are those of the base arm: what the dataset itself says, as TF-IDF vectors.
    """
    data = datasets.load(dataset)
    parts = split(data, "published" if dataset == "published" else "random", seed=seed)
    view = TrainingView(
        data.name,
        data.noun,
        data.attribute,
        data.like_threshold,
        data.n_users,
        data.n_items,
        parts.train,
        data.items,
    )
    vectors = features.encode(features.given(view).documents).vectors
    save(path, data.n_users, data.n_items, parts.train, parts.validation, vectors)
    return {
        "users": data.n_users,
        "items": data.n_items,
        "train": len(parts.train),
        "validation": len(parts.validation),
    }


def save(
    path: str | Path,
    n_users: int,
    n_items: int,
    train: pd.DataFrame,
    validation: pd.DataFrame,
    vectors: dict[str, np.ndarray] | None = None,
) -> None:
    """Write interactions (columns user, item) and features to `path`; rows by (user, item)."""
    columns = []
    for frame in (train, validation):
        users, items = (frame[column].to_numpy(np.int32) for column in ("user", "item"))
        order = np.lexsort((items, users))
        columns += [users[order], items[order]]
    arrays = dict(zip(_ROWS, columns, strict=True))
    arrays |= {f"features_{name}": matrix for name, matrix in (vectors or {}).items()}
    np.savez(path, sizes=np.array([n_users, n_items]), **arrays)


def load(path: str | Path) -> Data:
    """Read what `save` wrote."""
    with np.load(path) as file:
        n_users, n_items = (int(size) for size in file["sizes"])
        columns = [torch.from_numpy(file[name]).long().numpy() for name in _ROWS]
        vectors = {
            name.removeprefix("features_"): torch.from_numpy(file[name])
            for name in file.files
            if name.startswith("features_")
        }
    train, validation = (
        pd.DataFrame({"user": columns[at], "item": columns[at + 1]}) for at in (0, 2)
    )
    return Data(n_users, n_items, train, validation, vectors)


def synthetic(path: str, interactions: int, seed: int = 0) -> dict[str, int]:
    """Write long-tailed training interactions of the asked number to `path`; return the sizes.

    There are 6,000 users and 3,000 items per million interactions, about as in MovieLens-1M.
    Activity of users is log-normal, popularity of items falls with rank to the power -0.8; what
    is drawn twice counts once, so the most popular items are somewhat rarer than that.
    """
    random = np.random.default_rng(seed)
    n_users = max(30, interactions * 6 // 1000)
    # small data needs more items, or all pairs would soon be drawn
    n_items = max(interactions * 3 // 1000, 10 * interactions // n_users)
    activity = np.cumsum(random.lognormal(0.0, 1.0, n_users))
    popularity = np.cumsum((1.0 + np.arange(n_items)) ** -0.8)
    keys = np.empty(0, np.int64)
    while len(keys) < interactions:
        count = int(1.1 * (interactions - len(keys))) + 1000
        users = np.searchsorted(activity, random.random(count) * activity[-1])
        items = np.searchsorted(popularity, random.random(count) * popularity[-1])
        keys = np.union1d(keys, users * n_items + items)
    keys = np.delete(keys, random.choice(len(keys), len(keys) - interactions, replace=False))
    train = pd.DataFrame({"user": keys // n_items, "item": keys % n_items})
    save(path, n_users, n_items, train, train.iloc[:0])
    say(f"synthetic: {interactions:,} interactions, {n_users:,} users, {n_items:,} items")
    return {"users": n_users, "items": n_items, "train": interactions}
