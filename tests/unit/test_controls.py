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


def test_no_answers_are_those_and_only_those() -> None:
    answers = pd.DataFrame(
        {
            "user": [2, 0, 0, 1, 2],
            "item": [1, 3, 3, 0, 0],
            "answer": ["no", "no", "no", "yes", "unparsed"],
            "p_yes": 0.1,
        }
    )
    assert controls.no_answers(answers).to_numpy().tolist() == [[0, 3], [2, 1]]
    assert controls.no_answers(answers[:0]).empty


# ---------------------------------------------------------------- features

ROWS = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
ROWS[3] = 0  # an item about which nothing is known
WRITTEN = {"summary": ROWS, "attributes": ROWS[:, :2].copy()}


def lengths(matrix: np.ndarray) -> np.ndarray:
    return np.linalg.norm(matrix, axis=1)


@pytest.mark.parametrize("kind", controls.FEATURES)
def test_controls_keep_names_shapes_and_kind_and_are_seeded(kind: str) -> None:
    made = controls.features(WRITTEN, kind, seed=1)
    assert list(made) == list(WRITTEN)
    for name, matrix in made.items():
        assert matrix.shape == WRITTEN[name].shape and matrix.dtype == np.float32
        assert matrix.flags.c_contiguous and not np.array_equal(matrix, WRITTEN[name])
    again, other = (controls.features(WRITTEN, kind, seed=s)["summary"] for s in (1, 2))
    assert np.array_equal(made["summary"], again)
    assert np.array_equal(made["summary"], other) == (kind == "constant")
    assert np.array_equal(WRITTEN["summary"], ROWS)  # what was handed in stays as it was


def test_shuffled_moves_an_item_as_a_whole() -> None:
    made = controls.features(WRITTEN, "shuffled", seed=0)
    assert sorted(map(tuple, made["summary"])) == sorted(map(tuple, ROWS))
    assert np.array_equal(made["summary"][:, :2], made["attributes"])
    assert (made["summary"] == ROWS).all(axis=1).mean() < 0.2


def test_constant_has_the_mean_length() -> None:
    made = controls.features(WRITTEN, "constant")["summary"]
    assert (made == made[0]).all()
    assert lengths(made)[0] == pytest.approx(lengths(ROWS).mean(), rel=1e-5)


def test_noise_has_the_length_of_each_row_and_nothing_else_of_it() -> None:
    made = controls.features(WRITTEN, "noise", seed=0)
    assert lengths(made["summary"]) == pytest.approx(lengths(ROWS), rel=1e-5)
    assert not np.array_equal(made["summary"][:, :2], made["attributes"])
    big = np.random.default_rng(1).standard_normal((3000, 8)).astype(np.float32) + 2
    noise = controls.features({"x": big}, "noise")["x"]
    assert abs(np.corrcoef(noise.ravel(), big.ravel())[0, 1]) < 0.03
    assert abs(noise.mean(axis=0)).max() < 0.2


def test_unknown_feature_control_and_no_features() -> None:
    with pytest.raises(UserError, match="'zeros' is unknown; use shuffled, constant, noise"):
        controls.features(WRITTEN, "zeros")
    for kind in controls.FEATURES:
        assert controls.features({}, kind) == {}
        assert controls.features({"x": ROWS[:0]}, kind)["x"].shape == (0, 4)
