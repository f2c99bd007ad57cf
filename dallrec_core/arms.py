"""What is compared: each arm's edges, item features and No answers, from one table of recipes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from dallrec_core import features
from dallrec_core.artifacts import read_table
from dallrec_core.augmentation import controls
from dallrec_core.augmentation.data import load_truth
from dallrec_core.errors import UserError
from dallrec_core.study import Arm


class Recipe(NamedTuple):
    """What an arm is made of."""

    edges: str
    """how the items of added edges are chosen; `none` adds none"""
    features: str
    """`given`, `written`, one written modality (the others as given), or a control"""
    negatives: bool = False
    """whether the pairs that the model answered with No are handed on"""


RECIPES: dict[str, Recipe] = {
    "base": Recipe("none", "given"),
    "dallrec": Recipe("written", "written", negatives=True),
    # parts of dallrec, each alone
    "interactions": Recipe("written", "given"),
    "attributes": Recipe("none", "attributes"),
    "summaries": Recipe("none", "summary"),
    # edges by other means: see `augmentation.controls`
    **{kind: Recipe(kind, "given") for kind in ("random", "popular", "self", "text_knn")},
    **{kind: Recipe(kind, "given") for kind in ("zero_shot", "oracle")},
    # features of the written ones' shapes that say nothing, or nothing new
    **{kind: Recipe("none", kind) for kind in (*controls.FEATURES, "given_text")},
}
"""By name of the arm. Where backbones use no features, several of them are the same."""

ARMS = tuple(RECIPES)
"""Names of the arms."""

Features = Mapping[str, np.ndarray]


class Sources(NamedTuple):
    """What arms are made from beside training data and answers; None where it is not there."""

    given: Features | None = None
    """item features from the dataset, by modality"""
    written: Features | None = None
    """the same modalities from what the language model wrote; without them all have `given`"""
    composed: Features | None = None
    """the same from sentences that a template made (`texts.composed`)"""
    documents: Mapping[str, Sequence[features.Document]] | None = None
    """given texts by modality, for `text_knn`"""
    zero_shot: pd.DataFrame | None = None
    """schema `added`: answers of the untuned model to the same questions"""
    taste: np.ndarray | None = None
    """true tastes [U, N]"""
    held_back: pd.DataFrame | None = None
    """real interactions that thinning took out of training"""
    unused: pd.DataFrame | None = None
    """validation and test pairs, which the `oracle` by taste never adds"""


def check(names: Sequence[str]) -> None:
    """Raise a `UserError` for a name that is no arm's."""
    unknown = [name for name in names if name not in RECIPES]
    if unknown:
        raise UserError(f"arm '{unknown[0]}' is unknown; use {', '.join(ARMS)}")


def sources(data: Path, interactions: Path, **made: Any) -> Sources:
    """Collect what the arms of a run can be made from.

    Args:
        data: folder that notebook 01 wrote.
        interactions: folder that notebook 03 wrote.
        made: features and documents, by the names in `Sources`.

    Raises:
        UserError: when a file does not fit its schema.
    """
    truth, untuned = load_truth(data), interactions / "zero_shot.parquet"
    back = data / "held_back.parquet"
    rest = [read_table(data / f"{name}.parquet", "split") for name in ("validation", "test")]
    return Sources(
        zero_shot=read_table(untuned, "added") if untuned.is_file() else None,
        taste=None if truth is None else truth.taste,
        held_back=read_table(back, "split") if back.is_file() else None,
        unused=pd.concat(rest),
        **made,
    )


def build(
    names: Sequence[str],
    train: pd.DataFrame,
    answers: pd.DataFrame,
    n_users: int,
    n_items: int,
    have: Sources | None = None,
    *,
    seed: int = 0,
) -> dict[str, Arm]:
    """Return the arms by name, in the order of `names`.

    Args:
        names: out of `ARMS`.
        train: columns user, item.
        answers: schema `added`: what the language model said.
        n_users: number of users, U.
        n_items: number of items, N.
        have: what single arms need besides.
        seed: of random edges, of shuffling and of noise.

    Raises:
        UserError: for an unknown name, modalities that do not match, or an arm whose source is
            not there.
    """
    have = have or Sources()
    check(names)
    if have.given and have.written and have.given.keys() != have.written.keys():
        raise UserError(
            f"features are given for {list(have.given)} but written for {list(have.written)}"
        )
    like = controls.written(answers)
    made: dict[str, Arm] = {}
    for name in names:
        recipe = RECIPES[name]
        made[name] = Arm(
            _edges(recipe.edges, like, train, n_users, n_items, have, seed),
            _features(recipe.features, have, seed),
            negatives=controls.no_answers(answers) if recipe.negatives else None,
            guesses_of="base" if recipe.edges == "self" else "",
        )
    return made


def _edges(
    kind: str,
    like: pd.DataFrame,
    train: pd.DataFrame,
    n_users: int,
    n_items: int,
    have: Sources,
    seed: int,
) -> pd.DataFrame:
    choose: dict[str, Callable[[], pd.DataFrame]] = {
        "none": lambda: like.iloc[:0],
        "written": lambda: like,
        "self": lambda: like,  # each training puts its own guesses in their place
        "random": lambda: controls.random_edges(like, train, n_items, seed),
        "popular": lambda: controls.popular(like, train, n_users, n_items),
        "text_knn": lambda: _text_knn(like, train, n_users, have, seed),
        "zero_shot": lambda: _zero_shot(like, have),
        "oracle": lambda: _oracle(like, train, have, seed),
    }
    return choose[kind]()


def _text_knn(
    like: pd.DataFrame, train: pd.DataFrame, n_users: int, have: Sources, seed: int
) -> pd.DataFrame:
    if have.documents is None:
        raise UserError("arm 'text_knn' needs the texts of the items")
    vectors = features.encode(have.documents, "tfidf", seed=seed).vectors
    return controls.text_knn(like, train, n_users, vectors)


def _zero_shot(like: pd.DataFrame, have: Sources) -> pd.DataFrame:
    if have.zero_shot is None:
        raise UserError(
            "arm 'zero_shot' needs the untuned model's answers; ask it: -p 03.ask_untuned=true"
        )
    return controls.zero_shot(like, have.zero_shot)


def has_oracle(have: Sources) -> bool:
    """Tell whether anything is known of what users would like beyond train, validation and test."""
    return have.taste is not None or have.held_back is not None


def _oracle(like: pd.DataFrame, train: pd.DataFrame, have: Sources, seed: int) -> pd.DataFrame:
    """Each user's dearest items where tastes are known, else real interactions held back."""
    if have.taste is not None:
        rest = [] if have.unused is None else [have.unused[["user", "item"]]]
        known = pd.concat([train[["user", "item"]], *rest])
        return controls.best(like, torch.from_numpy(have.taste), known)
    if have.held_back is None:
        raise UserError(
            "arm 'oracle' needs to know what users like: true tastes, or real interactions held "
            "back; leave it out, or thin the training data, for example -p 01.train_fraction=0.8"
        )
    return controls.held_back_edges(like, have.held_back, seed)


def _features(kind: str, have: Sources, seed: int) -> Features | None:
    if kind == "given" or have.given is None or have.written is None:
        return have.given
    if kind == "written":
        return have.written
    if kind in controls.FEATURES:
        return controls.features(have.written, kind, seed=seed)
    if kind == "given_text":
        if have.composed is None:
            raise UserError("arm 'given_text' needs features of the composed sentences")
        return have.composed
    if kind not in have.written:
        raise UserError(f"no features '{kind}' were written; there are {', '.join(have.written)}")
    return {**have.given, kind: have.written[kind]}
