"""What is compared: each arm's edges, item features and No answers, from one table of recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from dallrec_core.augmentation import controls
from dallrec_core.errors import UserError
from dallrec_core.study import Arm


class Recipe(NamedTuple):
    """What an arm is made of."""

    edges: str
    """whose edges are added: an arm of `controls.edges`; `base` adds none"""
    features: str
    """`given`, `written`, one written modality (the others as given), or a control"""
    negatives: bool = False
    """whether the pairs that the model answered with No are handed on"""


RECIPES: dict[str, Recipe] = {
    "base": Recipe("base", "given"),
    "dallrec": Recipe("dallrec", "written", negatives=True),
    "random": Recipe("random", "given"),
    # parts of dallrec, each alone
    "interactions": Recipe("dallrec", "given"),
    "attributes": Recipe("base", "attributes"),
    "summaries": Recipe("base", "summary"),
    # features of the written ones' shapes that say nothing
    **{kind: Recipe("base", kind) for kind in controls.FEATURES},
}
"""By name of the arm. Where backbones use no features, several of them are the same."""

ARMS = tuple(RECIPES)
"""Names of the arms."""

Features = Mapping[str, np.ndarray]


def build(
    names: Sequence[str],
    train: pd.DataFrame,
    answers: pd.DataFrame,
    n_users: int,
    n_items: int,
    *,
    given: Features | None = None,
    written: Features | None = None,
    seed: int = 0,
) -> dict[str, Arm]:
    """Return the arms by name, in the order of `names`.

    Args:
        names: out of `ARMS`.
        train: columns user, item.
        answers: schema `added`: what the language model said.
        n_users: number of users, U.
        n_items: number of items, N.
        given: item features from the dataset, by modality.
        written: the same modalities from what the language model wrote. Without them every arm has
            the given ones (or none).
        seed: of random edges, of shuffling and of noise.

    Raises:
        UserError: for an unknown name, or modalities that do not match.
    """
    unknown = [name for name in names if name not in RECIPES]
    if unknown:
        raise UserError(f"arm '{unknown[0]}' is unknown; use {', '.join(ARMS)}")
    if given and written and given.keys() != written.keys():
        raise UserError(f"features are given for {list(given)} but written for {list(written)}")
    recipes = {name: RECIPES[name] for name in names}
    kinds = sorted({recipe.edges for recipe in recipes.values()})
    edges = controls.edges(kinds, train, answers, n_users, n_items, seed=seed)
    no = controls.no_answers(answers) if any(r.negatives for r in recipes.values()) else None
    return {
        name: Arm(
            edges[recipe.edges],
            _features(recipe.features, given, written, seed),
            negatives=no if recipe.negatives else None,
        )
        for name, recipe in recipes.items()
    }


def _features(
    kind: str, given: Features | None, written: Features | None, seed: int
) -> Features | None:
    if kind == "given" or given is None or written is None:
        return given
    if kind == "written":
        return written
    if kind in controls.FEATURES:
        return controls.features(written, kind, seed=seed)
    if kind not in written:
        raise UserError(f"no features '{kind}' were written; there are {', '.join(written)}")
    return {**given, kind: written[kind]}
