"""Control edges, user by user as many as asked for, against counting by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dallrec_core.augmentation.matched import (
    edges_per_user,
    knn_edges,
    popular_edges,
    top_edges,
)
from dallrec_core.recommenders import Graph, build

# item 0: three users, item 1: two, item 2: one, item 3: one, item 4: nobody
TRAIN = pd.DataFrame({"user": [0, 0, 1, 1, 2, 2, 3], "item": [0, 1, 0, 1, 0, 2, 3]})
WANTED = np.array([2, 0, 1, 9])


def pairs(frame: pd.DataFrame) -> list[tuple[int, int]]:
    return list(zip(frame["user"], frame["item"], strict=True))


def test_popular_items_that_the_user_lacks() -> None:
    added = popular_edges(TRAIN, WANTED, 4, 5)
    # ties (items 2 and 3) go to the lower code; user 3 lacks only four items
    assert pairs(added) == [(0, 2), (0, 3), (2, 1), (3, 0), (3, 1), (3, 2), (3, 4)]
    assert added.dtypes.astype(str).to_dict() == {
        "user": "int32",
        "item": "int32",
        "weight": "float32",
    }
    assert (added["weight"] == 1).all()
    assert edges_per_user(added, 4).tolist() == [2, 0, 1, 4]


def test_neighbours_come_from_who_has_both() -> None:
    # user 2 has items 0 and 2; item 1 is had together with item 0 by two users, others by none
    assert pairs(knn_edges(TRAIN, pd.Series([0, 0, 1, 0]), 4, 5)) == [(2, 1)]


def test_any_trained_model_and_nobody_to_serve() -> None:
    model = build("Popularity", Graph.from_frame(TRAIN, 4, 5))
    known = pd.concat([TRAIN, pd.DataFrame({"user": [2], "item": [1]})])
    assert pairs(top_edges(model, known, WANTED))[2] == (2, 3)
    none = top_edges(model, known, np.zeros(4))
    assert none.empty and list(none) == ["user", "item", "weight"]
