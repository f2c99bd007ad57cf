"""The recipes: which edges, features and No answers each arm has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tiny_data import movies

from dallrec_core.augmentation.features import Features, Texts
from dallrec_core.errors import UserError
from dallrec_core.experiment import arms

TRAIN = pd.DataFrame({"user": [0, 1, 2], "item": [0, 1, 2]})
ANSWERS = pd.DataFrame(
    {
        "user": [0, 1, 2, 0],
        "item": [1, 2, 0, 4],
        "answer": ["yes", "no", "yes", "unparsed"],
        "added": [True, False, True, False],
    }
)
VECTORS = {
    kind: {name: np.full((9, 2), value, np.float32) for name in ("attributes", "summary")}
    for value, kind in enumerate(("given", "written", "composed"))
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
)


def make(*names: str, seed: int = 0, **options: object) -> dict[str, arms.Arm]:
    return arms.build(names, replace(READY, **options), seed=seed)


def test_every_edge_arm_adds_one_edge_for_the_same_two_users() -> None:
    made = make(*reversed(arms.ARMS))
    assert tuple(made) == arms.ARMS
    adding = [name for name, arm in made.items() if len(arm.edges)]
    edges = ["random", "popular", "self", "text_knn", "zero_shot", "oracle"]
    assert adding == ["dallrec", "interactions", *edges]
    known = set(zip(TRAIN["user"], TRAIN["item"], strict=True))
    for name in adding:
        edges = made[name].edges
        assert edges["user"].tolist() == [0, 2] and edges["weight"].tolist() == [1, 1]
        assert not known & set(zip(edges["user"], edges["item"], strict=True)), name
    assert made["interactions"].edges.equals(made["dallrec"].edges)
    assert made["zero_shot"].edges["item"].tolist() == [4, 0]  # 0 was sure of 4, and only 0 asked 2
    assert [name for name, arm in made.items() if arm.guesses_of] == ["self"]
    # only dallrec is handed the No answers
    assert [name for name, arm in made.items() if len(arm.negatives)] == ["dallrec"]
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


def test_features() -> None:
    made = make(*arms.ARMS)
    given, written = VECTORS["given"], VECTORS["written"]
    for name in ("base", "random", "interactions", "popular", "self", "oracle"):
        assert made[name].features is given
    assert made["dallrec"].features is written
    assert made["given_text"].features is VECTORS["composed"]
    assert made["attributes"].features == given | {"attributes": written["attributes"]}
    assert made["summaries"].features == given | {"summary": written["summary"]}


def test_seed() -> None:
    one, two, other = (make("random", "noise", "base", seed=s) for s in (1, 1, 2))
    for name in one:
        assert one[name].digest == two[name].digest
        assert (one[name].digest == other[name].digest) == (name == "base")


def test_an_arm_that_does_not_exist() -> None:
    with pytest.raises(UserError, match="arm 'orakel' is unknown; use base, dallrec, interactions"):
        make("base", "orakel")
