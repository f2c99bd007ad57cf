"""Edges that a recommender would add, as many for each user as another arm adds.

With them a comparison is fair person by person: whoever is given two edges by a language model is
given two by the control too, and only the choice of items differs.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from dallrec_core.recommenders import Graph, build
from dallrec_core.recommenders.base import Recommender
from dallrec_core.recommenders.ranking import rank


def edges_per_user(edges: pd.DataFrame, n_users: int) -> np.ndarray:
    """Return how many edges each user is given, int64 [U]."""
    return np.bincount(edges["user"].to_numpy(np.int64), minlength=n_users)


def top_edges(
    model: Recommender, known: pd.DataFrame, per_user: pd.Series | np.ndarray
) -> pd.DataFrame:
    """Return the best items of a recommender as edges; users who have every item get fewer.

    Args:
        model: a trained recommender.
        known: columns user, item: pairs that are not to be added.
        per_user: number of edges of each user, [U].

    Returns:
        Rows user, item (int32), weight (float32, all 1), sorted by user, then best first.
    """
    counts = np.asarray(per_user, np.int64)
    users = np.flatnonzero(counts)
    if not len(users):
        return _frame(users, users)
    model.eval()
    items = rank(model, known, users, int(counts.max())).items
    kept = (np.arange(items.shape[1]) < counts[users, None]) & (items >= 0)
    return _frame(np.repeat(users, kept.sum(axis=1)), items[kept])


def popular_edges(
    train: pd.DataFrame, per_user: pd.Series | np.ndarray, n_users: int, n_items: int
) -> pd.DataFrame:
    """Return the most popular items that each user does not have; see `top_edges`."""
    return _of("Popularity", train, per_user, n_users, n_items)


def knn_edges(
    train: pd.DataFrame, per_user: pd.Series | np.ndarray, n_users: int, n_items: int
) -> pd.DataFrame:
    """Return the items most like the user's own by who has them (ItemKNN); see `top_edges`."""
    return _of("ItemKNN", train, per_user, n_users, n_items)


def _of(
    name: str, train: pd.DataFrame, per_user: pd.Series | np.ndarray, n_users: int, n_items: int
) -> pd.DataFrame:
    model = build(name, Graph.from_frame(train, n_users, n_items))
    return top_edges(model, train, per_user)


def _frame(users: np.ndarray, items: np.ndarray) -> pd.DataFrame:
    columns = {"user": users.astype(np.int32), "item": items.astype(np.int32)}
    return pd.DataFrame(columns).assign(weight=np.float32(1))
