"""What each arm adds: the recipes, and the controls against rules written out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tiny_data import movies

from dallrec_core.augmentation.features import Features, Texts
from dallrec_core.errors import UserError
from dallrec_core.experiment import arms, controls
from dallrec_core.experiment.controls import deal, listed, shortage

TRAIN = pd.DataFrame({"user": [0, 1, 2], "item": [0, 1, 2]})
ANSWERS = pd.DataFrame({"user": [0, 1, 2, 0], "item": [1, 2, 0, 4]})
ANSWERS = ANSWERS.assign(answer=["yes", "no", "yes", "unparsed"], added=[True, False, True, False])
VECTORS = {
    kind: {name: np.full((9, 2), value, np.float32) for name in ("attributes", "summary")}
    for value, kind in enumerate(("given", "written", "given_text", "true_attributes"))
}
TASTE = np.random.default_rng(0).random((3, 9)).astype(np.float32)
WORDS = [f"word{i % 3} and word{i % 2}" for i in range(9)]
LEFT = pd.DataFrame({"user": [0, 0, 2], "item": [7, 8, 8]})  # validation and test
READY = arms.Prepared(
    movies(3, 9),
    arms.Study(TRAIN, LEFT[:1], LEFT[1:], 3, 9, TASTE),
    ANSWERS,
    {"given": Texts({"summary": WORDS}, {})},
    {kind: Features(vectors, {}) for kind, vectors in VECTORS.items()},
    zero_shot=ANSWERS.assign(p_yes=[0.1, 0.9, 0.2, 0.8]),
    asked_of=movies(3, 9),
)


def make(*names: str, seed: int = 0, **options: object) -> dict[str, arms.Arm]:
    return arms.build(names, replace(READY, **options), seed=seed)


def test_every_edge_arm_adds_one_edge_for_the_same_two_users() -> None:
    made = make(*reversed(arms.ARMS))
    assert tuple(made) == arms.ARMS
    adding = [name for name, arm in made.items() if len(arm.edges)]
    edges = ["random", "popular", "self", "text_knn"]
    edges += ["coin", "counting", "counting_written", "zero_shot", "oracle"]
    assert adding == ["dallrec", "interactions", "liked_dallrec", "liked_counting", *edges]
    known = set(zip(TRAIN["user"], TRAIN["item"], strict=True))
    for name in adding:
        edges = made[name].edges
        assert edges["user"].tolist() == [0, 2] and edges["weight"].tolist() == [1, 1]
        assert not known & set(zip(edges["user"], edges["item"], strict=True)), name
    assert made["interactions"].edges.equals(made["dallrec"].edges)
    twice = pd.concat([ANSWERS, ANSWERS[1:2]]).assign(weight=0.25)
    weighted = make("dallrec", answers=twice)["dallrec"]
    assert weighted.edges["weight"].tolist() == [0.25] * 2
    assert weighted.negatives.to_numpy().tolist() == [[1, 2]]
    assert made["zero_shot"].edges["item"].tolist() == [4, 0]  # 0 was sure of 4, and only 0 asked 2
    assert [name for name, arm in made.items() if arm.guesses_of] == ["self"]
    # only dallrec is handed the No answers, with all interactions or with those that were liked
    negatives = [name for name, arm in made.items() if len(arm.negatives)]
    assert negatives == ["dallrec", "liked_dallrec"]
    assert made["dallrec"].negatives.to_numpy().tolist() == [[1, 2]]


def test_oracle_knows_the_taste_and_leaves_validation_and_test_alone() -> None:
    loved = TASTE.copy()
    loved[[0, 2], [0, 2]] = loved[[0, 0, 2], [7, 8, 8]].max() - 9  # in training
    loved[[0, 0, 2], [7, 8, 8]] = -9  # in validation or test
    assert make("oracle")["oracle"].edges["item"].tolist() == loved[[0, 2]].argmax(1).tolist()
    back = pd.DataFrame({"user": [0, 1], "item": [5, 5]})
    unknown = replace(READY.study, taste=None)
    real = make("oracle", study=unknown, held_back=back)["oracle"].edges
    assert real.to_numpy().tolist() == [[0, 5, 1]]


def test_arms_of_what_was_asked_and_of_what_was_liked() -> None:
    # user 0 was asked about items 1 and 4, user 2 about item 0 only
    data = READY.data
    genres = pd.Series(["Drama", "Horror", None, "Horror", "Drama", *[None] * 4])
    history = pd.DataFrame({"user": [0, 0, 1], "item": [0, 3, 2], "rating": [5.0, 1.0, 2.0]})
    likes_drama = replace(data, train=history, items=data.items.assign(attributes=genres))
    likes_horror = replace(likes_drama, train=history.assign(rating=[1.0, 5.0, 2.0]))
    liked = ("liked_only", "liked_dallrec", "liked_counting")
    known = {"data": likes_drama, "asked_of": likes_horror}
    made = make("counting", "counting_written", "coin", *liked, **known)
    assert made["counting"].edges["item"].tolist() == [4, 0]
    assert made["counting_written"].edges["item"].tolist() == [1, 0]
    assert made["liked_counting"].edges.equals(made["counting"].edges)
    for name, added in zip(liked, (0, 2, 2), strict=True):
        assert made[name].left_out.to_numpy().tolist() == [[0, 3], [1, 2]]
        assert len(made[name].edges) == added
    assert made["liked_only"].digest != arms.Arm(features=made["liked_only"].features).digest
    # the coin falls anew for each seed, and on what was asked
    drawn = {tuple(made["coin"].of_seed(seed).edges["item"]) for seed in range(arms.DEALS)}
    assert drawn == {(1, 0), (4, 0)}


def test_features() -> None:
    made = make(*arms.ARMS)
    given, written = VECTORS["given"], VECTORS["written"]
    for name in ("base", "random", "interactions", "popular", "self", "oracle"):
        assert made[name].features is given
    assert made["dallrec"].features is written
    assert made["given_text"].features is VECTORS["given_text"]
    assert made["attributes"].features == given | {"attributes": written["attributes"]}
    assert made["summaries"].features == given | {"summary": written["summary"]}


def test_seeds_matter_to_chance_alone_and_unknown_arms_are_refused() -> None:
    one, two, other = (make("random", "noise", "base", seed=s) for s in (1, 1, 2))
    for name in one:
        assert one[name].digest == two[name].digest
        assert (one[name].digest == other[name].digest) == (name == "base")
    with pytest.raises(UserError, match="arm 'orakel' is unknown; use base, dallrec, interactions"):
        make("base", "orakel")


# ---------------------------------------------------------------- controls


U, N = 12, 20
RANDOM = np.random.default_rng(0)
KNOWN = pd.DataFrame(np.argwhere(RANDOM.random((U, N)) < 0.3), columns=["user", "item"])
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


def test_shortage_counts_who_got_fewer() -> None:
    lists = listed(np.array([0, 3]), np.array([[4, -1, -1], [9, 8, -1]], np.int32))
    made = deal(LIKE, lists)
    assert keys(made) == {(0, 4), (3, 9), (3, 8)}
    assert shortage(LIKE, made) == 2 and shortage(LIKE, LIKE) == 0


def test_popular_items_and_those_of_similar_texts() -> None:
    degree = np.bincount(KNOWN["item"], minlength=N)
    expected = by_hand(np.tile(degree, (U, 1)), keys(KNOWN))
    pd.testing.assert_frame_equal(controls.popular(LIKE, KNOWN, U, N), expected)
    rows = np.random.default_rng(1).standard_normal((N, 5)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    other = np.zeros((N, 2), np.float32)  # nothing is known in the second modality
    score = np.zeros((U, N))
    for user, item in keys(KNOWN):
        score[user] += [float(rows[item] @ row) for row in rows]
    made = controls.text_knn(LIKE, KNOWN, U, {"x": rows, "y": other})
    pd.testing.assert_frame_equal(made, by_hand(score, keys(KNOWN)))


def test_among_pairs_asked_about_the_highest_score_comes_first() -> None:
    asked = pd.DataFrame({"user": [3, 3, 3, 3, 0], "item": [11, 12, 13, 14, 15]})
    made = controls.among_asked(LIKE, asked, [0.1, np.nan, 0.6, 0.4, 0.01])
    assert keys(made) == {(3, 13), (3, 14), (3, 11), (0, 15)}
    assert dict(zip(made["item"], made["weight"], strict=True))[13] == pytest.approx(0.9)


def test_held_back_edges_are_real_ones_drawn_at_random() -> None:
    back = pd.DataFrame({"user": [3] * 9 + [0], "item": [*range(9), 4], "rating": 5.0})
    one, other = (controls.held_back_edges(LIKE, back, seed) for seed in (0, 1))
    assert keys(one) != keys(other)
    assert keys(one) <= keys(back) and len(one) == 4  # none is left for user 7


def test_random_edges_are_uniform_over_free_items_and_weights() -> None:
    users = pd.DataFrame({"user": range(500)})
    like = pd.concat([users.assign(item=0, weight=1.0), users.assign(item=1, weight=0.5)])
    made = controls.random_edges(like, users.assign(item=3), 6, 0)
    counts = np.bincount(made["item"], minlength=6)
    heavy = np.bincount(made.loc[made["weight"] == 1, "item"], minlength=6)
    assert counts[3] == 0 and heavy.sum() == 500
    free = [0, 1, 2, 4, 5]
    assert counts[free] == pytest.approx(200, abs=45) and heavy[free] == pytest.approx(100, abs=40)
    like = pd.DataFrame({"user": 0, "item": range(4)})
    train = pd.DataFrame({"user": [0, 0, 5], "item": [0, 1, 1]})
    assert keys(controls.random_edges(like[:3], train, 5, 0)) == {(0, 2), (0, 3), (0, 4)}
    with pytest.raises(UserError, match="user 0 should get 4 random edges but has only 3"):
        controls.random_edges(like, train, 5, 0)


# ---------------------------------------------------------------- features of controls

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


def test_what_each_control_keeps_of_the_features() -> None:
    shuffled, constant, noise = (controls.features(WRITTEN, kind) for kind in controls.FEATURES)
    assert sorted(map(tuple, shuffled["summary"])) == sorted(map(tuple, ROWS))
    assert np.array_equal(shuffled["summary"][:, :2], shuffled["attributes"])  # items as a whole
    assert (shuffled["summary"] == ROWS).all(axis=1).mean() < 0.2
    assert (constant["summary"] == constant["summary"][0]).all()
    mean = lengths(ROWS).mean()
    assert lengths(constant["summary"])[0] == pytest.approx(mean, rel=1e-5)
    assert lengths(noise["summary"]) == pytest.approx(lengths(ROWS), rel=1e-5)
    assert not np.array_equal(noise["summary"][:, :2], noise["attributes"])
    big = np.random.default_rng(1).standard_normal((3000, 8)).astype(np.float32) + 2
    unlike = controls.features({"x": big}, "noise")["x"]
    assert abs(np.corrcoef(unlike.ravel(), big.ravel())[0, 1]) < 0.03
    assert abs(unlike.mean(axis=0)).max() < 0.2
