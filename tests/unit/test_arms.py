"""The recipes: which edges, features and No answers each arm has."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dallrec_core import arms
from dallrec_core.errors import UserError

TRAIN = pd.DataFrame({"user": [0, 1, 2], "item": [0, 1, 2]})
ANSWERS = pd.DataFrame(
    {
        "user": [0, 1, 2, 0],
        "item": [1, 2, 0, 4],
        "answer": ["yes", "no", "yes", "unparsed"],
        "added": [True, False, True, False],
    }
)
GIVEN = {name: np.full((9, 2), 1, np.float32) for name in ("attributes", "summary")}
WRITTEN = {name: np.arange(18, dtype=np.float32).reshape(9, 2) for name in GIVEN}


def make(*names: str, **options: object) -> dict[str, arms.Arm]:
    features = {"given": GIVEN, "written": WRITTEN} | options
    return arms.build(names, TRAIN, ANSWERS, 3, 9, **features)


def test_edges() -> None:
    made = make(*arms.ARMS)
    assert tuple(made) == arms.ARMS
    assert {name: len(arm.edges) for name, arm in made.items() if len(arm.edges)} == {
        "dallrec": 2,
        "random": 2,
        "interactions": 2,
    }
    assert made["interactions"].edges.equals(made["dallrec"].edges)
    assert not made["random"].edges.equals(made["dallrec"].edges)


def test_features() -> None:
    made = make(*arms.ARMS)
    for name in ("base", "random", "interactions"):
        assert made[name].features is GIVEN
    assert made["dallrec"].features is WRITTEN
    for name, own, other in (
        ("attributes", "attributes", "summary"),
        ("summaries", "summary", "attributes"),
    ):
        assert made[name].features[own] is WRITTEN[own]
        assert made[name].features[other] is GIVEN[other]
    for name in ("shuffled", "constant", "noise"):
        shapes = {key: value.shape for key, value in made[name].features.items()}
        assert shapes == {"attributes": (9, 2), "summary": (9, 2)}
    assert len({made[name].digest() for name in arms.ARMS}) == len(arms.ARMS)


def test_only_dallrec_is_handed_the_no_answers() -> None:
    made = make(*arms.ARMS)
    assert [name for name, arm in made.items() if arm.negatives is not None] == ["dallrec"]
    assert made["dallrec"].negatives.to_numpy().tolist() == [[1, 2]]


def test_seed_and_order() -> None:
    one, two, other = (make("random", "noise", "base", seed=s) for s in (1, 1, 2))
    assert list(one) == ["random", "noise", "base"]
    for name in one:
        assert one[name].digest() == two[name].digest()
        assert (one[name].digest() == other[name].digest()) == (name == "base")


def test_without_written_features_every_arm_has_the_given_ones() -> None:
    for arm in make(*arms.ARMS, written=None).values():
        assert arm.features is GIVEN
    for arm in make(*arms.ARMS, written=None, given=None).values():
        assert arm.features is None


def test_mistakes() -> None:
    with pytest.raises(UserError, match="arm 'oracle' is unknown; use base, dallrec, random, inte"):
        make("base", "oracle")
    with pytest.raises(UserError, match=r"given for \['attributes', 'summary'\] but written for"):
        make("base", written={"attributes": WRITTEN["attributes"]})
    plots = {"plot": GIVEN["summary"]}
    with pytest.raises(UserError, match="no features 'summary' were written; there are plot"):
        make("summaries", given=plots, written=plots)
