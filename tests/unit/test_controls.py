"""Control arms against rules written out by hand: same users, same numbers, other items."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dallrec_core.errors import UserError
from dallrec_core.experiment import controls
from dallrec_core.experiment.controls import deal, listed, shortage

U, N = 12, 20
RANDOM = np.random.default_rng(0)
TRAIN = pd.DataFrame(np.argwhere(RANDOM.random((U, N)) < 0.3), columns=["user", "item"])
LIKE = pd.DataFrame(
    {"user": [3, 3, 3, 0, 7], "item": [0, 1, 2, 5, 9], "weight": [0.2, 0.9, 0.5, 1.0, 0.7]}
)


def keys(frame: pd.DataFrame) -> set[tuple[int, int]]:
    return set(zip(frame["user"].tolist(), frame["item"].tolist(), strict=True))


def by_hand(score: np.ndarray, known: set[tuple[int, int]]) -> pd.DataFrame:
    """Each user's best unknown items, ties to the lower code; the best get the largest weights."""
    rows = []
    for user, mine in LIKE.groupby("user"):
        weights = sorted(mine["weight"], reverse=True)
        order = sorted(range(N), key=lambda i: (-score[user, i], i))
        free = [i for i in order if (user, i) not in known]
        rows += [(user, i, w) for i, w in zip(free, weights, strict=False)]
    made = pd.DataFrame(sorted(rows), columns=["user", "item", "weight"])
    return made.astype({"user": "int32", "item": "int32", "weight": "float32"})


def test_written_are_the_added_answers_and_their_weights() -> None:
    answers = pd.DataFrame({"user": [1, 0], "item": [2, 3], "added": [True, False]})
    assert controls.written(answers).to_numpy().tolist() == [[1, 2, 1]]
    weighted = controls.written(answers.assign(weight=0.25))
    assert weighted.to_numpy().tolist() == [[1, 2, 0.25]] and weighted["weight"].dtype == "float32"


def test_deal_keeps_users_numbers_and_weights_and_counts_who_is_short() -> None:
    choices = pd.DataFrame({"user": [3, 7, 3, 3, 3, 7], "item": [8, 4, 6, 7, 1, 2]})
    made = deal(LIKE, choices)
    expected = [[3, 6, 0.5], [3, 7, 0.2], [3, 8, 0.9], [7, 4, 0.7]]
    assert made.to_numpy() == pytest.approx(np.array(expected))
    assert shortage(LIKE, made) == 1  # user 0 has no choice
    lists = listed(np.array([0, 3]), np.array([[4, -1, -1], [9, 8, -1]], np.int32))
    made = deal(LIKE, lists)
    assert keys(made) == {(0, 4), (3, 9), (3, 8)} and shortage(LIKE, made) == 2
    assert shortage(LIKE, LIKE) == 0
    assert len(deal(LIKE[:0], choices)) == 0


def test_popular() -> None:
    degree = np.bincount(TRAIN["item"], minlength=N)
    expected = by_hand(np.tile(degree, (U, 1)), keys(TRAIN))
    pd.testing.assert_frame_equal(controls.popular(LIKE, TRAIN, U, N), expected)


def test_text_knn() -> None:
    rows = np.random.default_rng(1).standard_normal((N, 5)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    other = np.zeros((N, 2), np.float32)  # nothing is known in the second modality
    score = np.zeros((U, N))
    for user, item in keys(TRAIN):
        score[user] += [float(rows[item] @ row) for row in rows]
    made = controls.text_knn(LIKE, TRAIN, U, {"x": rows, "y": other})
    pd.testing.assert_frame_equal(made, by_hand(score, keys(TRAIN)))


def test_zero_shot_has_the_surest_answers_first() -> None:
    untuned = pd.DataFrame({"user": [3, 3, 3, 3, 0], "item": [11, 12, 13, 14, 15]})
    untuned["p_yes"] = [0.1, np.nan, 0.6, 0.4, 0.01]
    made = controls.zero_shot(LIKE, untuned)
    assert keys(made) == {(3, 13), (3, 14), (3, 11), (0, 15)}
    assert dict(zip(made["item"], made["weight"], strict=True))[13] == pytest.approx(0.9)


def test_held_back_edges_are_real_ones_drawn_at_random() -> None:
    back = pd.DataFrame({"user": [3] * 9 + [0], "item": [*range(9), 4], "rating": 5.0})
    made = [controls.held_back_edges(LIKE, back, seed) for seed in (0, 0, 1)]
    pd.testing.assert_frame_equal(made[0], made[1])
    assert keys(made[0]) != keys(made[2])
    assert keys(made[0]) <= keys(back) and len(made[0]) == 4  # none is left for user 7


def test_random_edges_are_uniform_over_free_items_and_weights() -> None:
    users = pd.DataFrame({"user": range(500)})
    like = pd.concat([users.assign(item=0, weight=1.0), users.assign(item=1, weight=0.5)])
    made = controls.random_edges(like, users.assign(item=3), 6, 0)
    counts = np.bincount(made["item"], minlength=6)
    heavy = np.bincount(made.loc[made["weight"] == 1, "item"], minlength=6)
    assert counts[3] == 0 and heavy.sum() == 500
    free = [0, 1, 2, 4, 5]
    assert counts[free] == pytest.approx(200, abs=45) and heavy[free] == pytest.approx(100, abs=40)


def test_random_edges_of_a_user_without_enough_free_items() -> None:
    like = pd.DataFrame({"user": 0, "item": range(4)})
    train = pd.DataFrame({"user": [0, 0, 5], "item": [0, 1, 1]})
    assert keys(controls.random_edges(like[:3], train, 5, 0)) == {(0, 2), (0, 3), (0, 4)}
    with pytest.raises(UserError, match="user 0 should get 4 random edges but has only 3"):
        controls.random_edges(like, train, 5, 0)


def test_no_answers_are_those_and_only_those() -> None:
    rows = [(2, 1, "no"), (0, 3, "no"), (0, 3, "no"), (1, 0, "yes"), (2, 0, "unparsed")]
    answers = pd.DataFrame(rows, columns=["user", "item", "answer"])
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


def test_unknown_feature_control() -> None:
    with pytest.raises(UserError, match="'zeros' is unknown; use shuffled, constant, noise"):
        controls.features(WRITTEN, "zeros")
