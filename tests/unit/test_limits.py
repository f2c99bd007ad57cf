"""Limits of parameters: they belong to parameters that exist, and leave the usual values alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from dallrec_core.errors import UserError
from dallrec_core.layout import STAGES, Stage
from dallrec_core.limits import LIMITS, Choice, Form, Number, check
from dallrec_core.parameters import fits, read_parameters

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_limits_fit_the_notebooks(stage: Stage) -> None:
    known = read_parameters(NOTEBOOKS / stage.notebook)
    assert set(LIMITS.get(stage.name, {})) <= set(known)
    for name, parameter in known.items():
        check(stage.name, name, parameter.default)
    assert set(stage.quick) <= set(known)
    for name, value in stage.quick.items():
        assert fits(value, known[name].kind)
        check(stage.name, name, value)


@pytest.mark.parametrize(
    ("limit", "value", "problem"),
    [
        (Number(0), 0, ""),
        (Number(0, above=True), 0, "above 0 and finite"),
        (Number(0, 1), 1.5, "at least 0 and at most 1"),
        (Number(0), math.nan, "at least 0 and finite"),
        (Number(0), math.inf, "at least 0 and finite"),
        (Number(2), [], ""),
        (Number(2), [16, 64], ""),
        (Number(2), [16, 1], "at least 2 and finite"),
        (Choice(("a", "b")), "b", ""),
        (Choice(("a", "b")), "c", "one of a, b"),
        (Choice(("alpha", "beta")), ["alpah"], "a list out of alpha, beta (did you mean 'alpha'?)"),
        (Choice(("a", "b")), ["a", "a"], "a list without repetitions"),
        (Choice(("a", "b")), [], "a list of at least 1 out of a, b"),
        (Choice(("a", "b"), least=0), [], ""),
        (Choice(("a", "b"), must="a"), ["b"], "a list with 'a'"),
        (Choice("prompts:WORDINGS"), "paper", ""),
        (Choice("recommenders:names"), ["EASE"], ""),
        (Choice("arms:ARMS", must="base"), ["base", "shuffled"], ""),
        (Form("features:problem"), "tfidf", ""),
        (Form("features:problem"), "sentence-transformers/all-MiniLM-L6-v2", ""),
    ],
)
def test_problems(limit: Number | Choice | Form, value: Any, problem: str) -> None:
    assert limit.problem(value) == problem


def test_lists_of_something_else_are_told() -> None:
    with pytest.raises(UserError, match=r"06_recommenders.arms should be a list .*, but is \[1\]"):
        check("06_recommenders", "arms", [1])


def test_an_encoder_that_cannot_be_meant_is_refused_before_anything_runs() -> None:
    with pytest.raises(UserError, match="06_recommenders.encoder should be 'tfidf', 'lm:' and a l"):
        check("06_recommenders", "encoder", "tf-idf")
    with pytest.raises(UserError, match="hard_negatives should be at least 0 and at most 1"):
        check("06_recommenders", "hard_negatives", 2.0)
