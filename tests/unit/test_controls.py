"""Random edges: new, distinct, uniform, reproducible."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dallrec_core.augmentation import controls
from dallrec_core.augmentation.controls import random_edges
from dallrec_core.errors import UserError

TRAIN = pd.DataFrame({"user": [0, 0, 1, 3], "item": [0, 1, 1, 4]})


def keys(frame: pd.DataFrame) -> set[tuple[int, int]]:
    return set(zip(frame["user"].tolist(), frame["item"].tolist(), strict=True))


def test_edges_are_new_and_distinct():
    edges = random_edges(TRAIN, 12, seed=0)
    assert len(keys(edges)) == 12 and not keys(edges) & keys(TRAIN)
    assert edges["item"].max() <= 4 and (edges["weight"] == 1).all()


def test_all_free_pairs_can_be_drawn():
    edges = random_edges(TRAIN, 16, seed=0)  # 4 users x 5 items - 4 known
    assert len(keys(edges) | keys(TRAIN)) == 20
    with pytest.raises(UserError, match="only 16 pairs are free"):
        random_edges(TRAIN, 17, seed=0)


def test_seeded():
    one, two, other = (random_edges(TRAIN, 8, seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(one, two)
    assert keys(one) != keys(other)


def test_uniform_over_free_pairs():
    counts: dict[tuple[int, int], int] = {}
    for seed in range(300):
        for pair in keys(random_edges(TRAIN, 2, seed, n_items=6)):
            counts[pair] = counts.get(pair, 0) + 1
    assert len(counts) == 20  # 4 x 6 - 4; the cold item 5 included
    assert min(counts.values()) > 10 and max(counts.values()) < 55  # expected 30


def test_matched_users_keep_their_number_of_edges():
    users = np.array([2, 2, 2, 0, 0, 3])
    edges = random_edges(TRAIN, 6, seed=0, users=users, weight=0.5)
    assert edges["user"].value_counts().to_dict() == {2: 3, 0: 2, 3: 1}
    assert not keys(edges) & keys(TRAIN) and len(keys(edges)) == 6


def test_user_without_enough_free_items():
    with pytest.raises(UserError, match="user 0 should get 4 random edges but has only 3"):
        random_edges(TRAIN, 4, seed=0, users=np.zeros(4, int))
    with pytest.raises(UserError, match="users were given for 2"):
        random_edges(TRAIN, 4, seed=0, users=np.zeros(2, int))


def test_arms_add_equally_many_edges_and_refuse_unknown_names() -> None:
    train = pd.DataFrame({"user": [0, 1, 2], "item": [0, 1, 2]})
    answers = pd.DataFrame({"user": [0, 1, 2], "item": [1, 2, 0], "added": [True, False, True]})
    made = controls.edges(["base", "dallrec", "random"], train, answers, 3, 9, seed=1)
    assert {arm: len(frame) for arm, frame in made.items()} == {
        "base": 0,
        "dallrec": 2,
        "random": 2,
    }
    assert made["dallrec"][["user", "item"]].to_numpy().tolist() == [[0, 1], [2, 0]]
    with pytest.raises(UserError, match="arm 'oracle' is unknown; use base, dallrec, random"):
        controls.edges(["oracle"], train, answers, 3, 9)
