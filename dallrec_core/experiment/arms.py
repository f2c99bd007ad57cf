"""What is compared: each arm's edges, item features and No answers, from one table of recipes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
import pandas as pd
import torch

from dallrec_core.augmentation import TrainingView, features, load_data, load_truth
from dallrec_core.augmentation.candidates import counting_scores
from dallrec_core.chain.artefacts import read_json, read_table
from dallrec_core.errors import UserError
from dallrec_core.experiment import controls
from dallrec_core.experiment.scores import Study, frame_bytes

Features = Mapping[str, np.ndarray]
"""Item features by modality, each float32 [N, width]."""


def _no_pairs() -> pd.DataFrame:
    return pd.DataFrame({"user": [], "item": []}, dtype=np.int32)


@dataclass(frozen=True, eq=False)
class Arm:
    """What an arm adds to the study's data."""

    edges: pd.DataFrame = field(default_factory=_no_pairs)
    "Added edges: columns user, item [, weight in (0, 1]]."
    features: Features = field(default_factory=dict)
    "What the models that read features are given."
    insertion: str = "both"
    "Where the edges enter; see `recommenders.graph.INSERTIONS`."
    negatives: pd.DataFrame = field(default_factory=_no_pairs)
    "Pairs to prefer as negatives, columns user, item; how often, `TrainSettings` says."
    left_out: pd.DataFrame = field(default_factory=_no_pairs)
    "Observed pairs that are not trained on, columns user, item; they can be drawn as negatives."
    deals: tuple[pd.DataFrame, ...] = ()
    """Dealings of `edges`, where chance chose them: training seed s takes number s, so that the
    differences between seeds hold the luck of the dealing too."""
    guesses_of: str = ""
    """Name of an arm. The items of `edges` are then replaced by the best guesses of the same
    backbone, trained on that arm with the same seed; so each training has edges of its own."""

    def of_seed(self, seed: int) -> Arm:
        """Return the arm as the training with a seed sees it."""
        if not self.deals:
            return self
        return replace(self, edges=self.deals[seed % len(self.deals)], deals=())

    @cached_property
    def digest(self) -> str:
        """Hash of the content; row order and an empty frame do not count."""
        pairs = [frame_bytes(part[["user", "item"]]) for part in (self.negatives, self.left_out)]
        how = self.insertion if len(self.edges) else ""
        return str(joblib.hash([how, frame_bytes(self.edges), *pairs, dict(self.features)]))


class Recipe(NamedTuple):
    """What an arm is made of."""

    edges: str
    """how the items of added edges are chosen; `none` adds none"""
    features: str
    """`given`, `written`, one written modality (the others as given), or a control"""
    negatives: bool = False
    """whether the pairs that the model answered with No are handed on"""
    liked_only: bool = False
    """whether observed pairs that the user disliked are left out of training"""


_FREE = ("random", "popular", "self", "text_knn")
_ASKED = ("coin", "counting", "counting_written", "zero_shot")
_FEATURES = (*controls.FEATURES, "given_text")

CONTROLS = frozenset((*_FREE, *_ASKED, *_FEATURES, "liked_only"))
"""Arms that `dallrec` has to beat: none of them needs what the fine-tuned model says of a pair.

The oracle and `true_attributes` are ceilings and no controls.
"""

RECIPES: dict[str, Recipe] = {
    "base": Recipe("none", "given"),
    "dallrec": Recipe("written", "written", negatives=True),
    # parts of dallrec, each alone
    "interactions": Recipe("written", "given"),
    "attributes": Recipe("none", "attributes"),
    "summaries": Recipe("none", "summary"),
    # no edge, but what prompts read and the other arms do not: which pairs were liked
    "liked_only": Recipe("none", "given", liked_only=True),
    "liked_dallrec": Recipe("written", "written", negatives=True, liked_only=True),
    "liked_counting": Recipe("counting", "given", liked_only=True),
    # edges by other means: from all items, or among the pairs that the model was asked about
    **{kind: Recipe(kind, "given") for kind in (*_FREE, *_ASKED, "oracle")},
    # features of the written ones' shapes that say nothing, or nothing new; and the true ones
    **{kind: Recipe("none", kind) for kind in (*_FEATURES, "true_attributes")},
}
"""By name of the arm. Where backbones use no features, several of them are the same."""

DEALT = ("random", "coin")
"""Edges that chance chooses."""
DEALS = 10
"""Times that they are dealt; more seeds than that begin anew."""

ARMS = tuple(RECIPES)
"""Names of the arms, in the order of tables."""


@dataclass(frozen=True)
class Prepared:
    """Everything that the recommenders of a run are trained on, and what it was made from."""

    data: TrainingView
    "The training view, with the items as the dataset gives them."
    study: Study
    "The split."
    answers: pd.DataFrame
    "Schema `added`: what the language model said about unseen pairs."
    texts: Mapping[str, features.Texts]
    """Documents of the items, with counts: `given` by the dataset, `written` by the language model,
    and, each for an arm of its own, `given_text` by a template and `true_attributes`."""
    features: Mapping[str, features.Features]
    "The same as vectors, with counts."
    zero_shot: pd.DataFrame | None = None
    "Schema `added`: answers of the untuned model to the same questions; None: not asked."
    asked_of: TrainingView | None = None
    "The same with the items as the questions name them; None: not known."
    held_back: pd.DataFrame | None = None
    "Real interactions that thinning took out of training; None without thinning."
    arms: Mapping[str, Arm] = field(default_factory=dict)
    "In the order of the table of recipes."


def prepare(
    folder_of: Callable[[str], Path], names: Sequence[str], *, encoder: str = "tfidf", seed: int = 0
) -> Prepared:
    """Read what pages 01 to 05 of a run left, and build the arms.

    Args:
        folder_of: from a page's name to the folder of its artefacts.
        names: of the arms. Left out, and said so, are those that need what is not there: known
            tastes, answers of the untuned model, attributes, ratings.
        encoder: how item texts become vectors, see `features.open_encoder`.
        seed: of the encoder, random edges, shuffling and noise.

    Raises:
        UserError: when a file does not fit its schema, or for an unknown name.
    """
    first, asked = folder_of("01_data"), folder_of("03_interactions")
    data, truth = load_data(first), load_truth(first)
    validation, test = (read_table(first / f"{n}.parquet", "split") for n in ("validation", "test"))
    taste = None if truth is None else truth.taste
    hides = read_json(first / "dataset.json").get("split") == "hidden_items"
    hidden = data.item_degree == 0 if hides else None
    written = [
        read_table(folder_of("04_attributes") / "attributes.parquet", "attributes"),
        read_table(folder_of("05_summaries") / "summaries.parquet", "summaries"),
    ]
    said = {"given": features.given(data), "written": features.written(data, *written)}
    if "given_text" in names:
        said["given_text"] = features.composed(data)
    if "true_attributes" in names and truth is not None:
        said["true_attributes"] = features.known(data, truth.items)
    encode = features.open_encoder(encoder, seed=seed)
    named = _if_there(asked / "items.parquet", "items")
    about = (data.n_users, data.n_items, taste, data.like_threshold)
    ready = Prepared(
        data,
        Study(data.train, validation, test, *about, hidden=hidden),
        read_table(asked / "interactions.parquet", "added"),
        said,
        {kind: features.encode(made.documents, encode) for kind, made in said.items()},
        _if_there(asked / "zero_shot.parquet", "added"),
        None if named is None else replace(data, items=named),
        _if_there(first / "held_back.parquet", "split"),
    )
    lacking = _lacking(ready)
    for name in [name for name in lacking if name in names]:
        print(f"{name} is left out: {lacking[name]}.")
    names = [name for name in names if name not in lacking]
    return replace(ready, arms=build(names, ready, seed=seed))


def _lacking(ready: Prepared) -> dict[str, str]:
    """Say by name which arms cannot be made, and why."""
    lacking = {}
    if ready.study.taste is None and ready.held_back is None:
        lacking["oracle"] = "nothing is known of what users like beyond the split"
    if ready.zero_shot is None:
        lacking["zero_shot"] = "page 3 did not ask the untuned model (ask_untuned)"
    if ready.study.taste is None:  # they are known together
        lacking["true_attributes"] = "nothing is known of the items beyond what is given"
    if ready.data.vocabulary is None:
        counted = ("counting", "liked_counting")
        lacking |= dict.fromkeys(counted, f"no {ready.data.noun} has {ready.data.attribute}")
    if ready.asked_of is None or ready.asked_of.vocabulary is None:
        lacking["counting_written"] = "nothing is known that the questions said of the items"
    if ready.data.disliked.empty:
        alike = [name for name, recipe in RECIPES.items() if recipe.liked_only]
        lacking |= dict.fromkeys(alike, "no training interaction is known to be disliked")
    return lacking


def _if_there(path: Path, schema: str) -> pd.DataFrame | None:
    return read_table(path, schema) if path.is_file() else None


def build(names: Sequence[str], ready: Prepared, *, seed: int = 0) -> dict[str, Arm]:
    """Return the arms by name, in the order of the table of recipes.

    Args:
        names: out of `ARMS`.
        ready: what they are made from; the sources of all these arms are there.
        seed: of random edges, of shuffling and of noise.

    Raises:
        UserError: for an unknown name.
    """
    unknown = [name for name in names if name not in RECIPES]
    if unknown:
        raise UserError(f"arm '{unknown[0]}' is unknown; use {', '.join(ARMS)}")
    made = {}
    for name, recipe in RECIPES.items():
        if name in names:
            times = DEALS if recipe.edges in DEALT else 1
            deals = tuple(_edges(recipe.edges, ready, seed + deal) for deal in range(times))
            made[name] = Arm(
                deals[0],
                _features(recipe.features, ready, seed),
                negatives=controls.no_answers(ready.answers) if recipe.negatives else _no_pairs(),
                left_out=ready.data.disliked if recipe.liked_only else _no_pairs(),
                deals=deals,
                guesses_of="base" if recipe.edges == "self" else "",
            )
    return made


def _edges(kind: str, ready: Prepared, seed: int) -> pd.DataFrame:
    added, study = controls.written(ready.answers), ready.study
    if kind == "none":
        return added.iloc[:0]
    if kind == "random":
        return controls.random_edges(added, study.train, study.n_items, seed)
    if kind == "popular":
        return controls.popular(added, study.train, study.n_users, study.n_items)
    if kind == "text_knn":
        encoder = features.open_encoder("tfidf", seed)
        vectors = features.encode(ready.texts["given"].documents, encoder).vectors
        return controls.text_knn(added, study.train, study.n_users, vectors)
    if kind == "zero_shot":
        assert ready.zero_shot is not None  # else `prepare` has left the arm out
        return controls.among_asked(added, ready.zero_shot, ready.zero_shot["p_yes"])
    if kind == "coin":
        drawn = np.random.default_rng([seed, 32]).random(len(ready.answers))
        return controls.among_asked(added, ready.answers, drawn)
    if kind in ("counting", "counting_written"):
        data = ready.data if kind == "counting" else ready.asked_of
        assert data is not None  # else `prepare` has left the arm out
        return controls.among_asked(added, ready.answers, counting_scores(data, ready.answers))
    if kind == "oracle":  # the dearest items where tastes are known, else real interactions
        if study.taste is not None:
            known = pd.concat([study.seen, study.test[["user", "item"]]])
            return controls.best(added, torch.from_numpy(study.taste), known)
        assert ready.held_back is not None
        return controls.held_back_edges(added, ready.held_back, seed)
    return added  # written; and self, where each training puts its own guesses in their place


def _features(kind: str, ready: Prepared, seed: int) -> Features:
    made = {name: each.vectors for name, each in ready.features.items()}
    if kind in controls.FEATURES:
        return controls.features(made["written"], kind, seed=seed)
    if kind in ("attributes", "summary"):
        return {**made["given"], kind: made["written"][kind]}
    return made[kind]
