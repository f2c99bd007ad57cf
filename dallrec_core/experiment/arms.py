"""What is compared: each arm's edges, item features and No answers, from one table of recipes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from dallrec_core.augmentation import TrainingView, features, load_data, load_truth
from dallrec_core.chain.artefacts import read_table
from dallrec_core.errors import UserError
from dallrec_core.experiment import controls
from dallrec_core.experiment.scores import Study, frame_bytes


@dataclass(frozen=True, eq=False)
class Arm:
    """What an arm adds to the study's data."""

    edges: pd.DataFrame | None = None
    "Added edges: columns user, item [, weight in (0, 1]]."
    features: Mapping[str, np.ndarray] | None = None
    "Item features by modality, each float32 [N, width]."
    insertion: str = "both"
    "Where the edges enter; see `recommenders.graph.INSERTIONS`."
    negatives: pd.DataFrame | None = None
    "Pairs to prefer as negatives, columns user, item; how often, `TrainSettings` says."
    guesses_of: str = ""
    """Name of an arm. The items of `edges` are then replaced by the best guesses of the same
    backbone, trained on that arm with the same seed; so each training has edges of its own."""

    @cached_property
    def digest(self) -> str:
        """Hash of the content; row order and an empty frame do not count."""
        digest = hashlib.sha256()
        if self.edges is not None and len(self.edges):
            digest.update(self.insertion.encode() + frame_bytes(self.edges))
        for name, matrix in sorted((self.features or {}).items()):
            digest.update(f"{name}{matrix.shape}{matrix.dtype}".encode() + matrix.tobytes())
        if self.negatives is not None and len(self.negatives):
            digest.update(b"negatives" + frame_bytes(self.negatives[["user", "item"]]))
        return digest.hexdigest()


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
    # edges by other means
    **{kind: Recipe(kind, "given") for kind in ("random", "popular", "self", "text_knn")},
    **{kind: Recipe(kind, "given") for kind in ("zero_shot", "oracle")},
    # features of the written ones' shapes that say nothing, or nothing new
    **{kind: Recipe("none", kind) for kind in (*controls.FEATURES, "given_text")},
}
"""By name of the arm. Where backbones use no features, several of them are the same."""

ARMS = tuple(RECIPES)
"""Names of the arms, in the order of tables."""

Features = Mapping[str, np.ndarray]


class Sources(NamedTuple):
    """What arms are made from beside training data and answers; None where it is not there."""

    given: Features | None = None
    """item features from the dataset, by modality"""
    written: Features | None = None
    """the same modalities from what the language model wrote; without them all have `given`"""
    composed: Features | None = None
    """the same from sentences that a template made (`features.composed`)"""
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


def build(
    names: Sequence[str],
    train: pd.DataFrame,
    answers: pd.DataFrame,
    n_users: int,
    n_items: int,
    sources: Sources | None = None,
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
        sources: what single arms need besides.
        seed: of random edges, of shuffling and of noise.

    Raises:
        UserError: for an unknown name, or an arm whose source is not there.
    """
    sources = sources or Sources()
    check_names(names)
    added = controls.written(answers)
    makers: dict[str, Callable[[], pd.DataFrame]] = {
        "none": lambda: added.iloc[:0],
        "written": lambda: added,
        "self": lambda: added,  # each training puts its own guesses in their place
        "random": lambda: controls.random_edges(added, train, n_items, seed),
        "popular": lambda: controls.popular(added, train, n_users, n_items),
        "text_knn": lambda: _text_knn(added, train, n_users, sources, seed),
        "zero_shot": lambda: _zero_shot(added, sources),
        "oracle": lambda: _oracle(added, train, sources, seed),
    }
    return {
        name: Arm(
            makers[RECIPES[name].edges](),
            _features(RECIPES[name].features, sources, seed),
            negatives=controls.no_answers(answers) if RECIPES[name].negatives else None,
            guesses_of="base" if RECIPES[name].edges == "self" else "",
        )
        for name in names
    }


def check_names(names: Sequence[str]) -> None:
    """Raise a `UserError` for a name that is no arm's."""
    unknown = [name for name in names if name not in RECIPES]
    if unknown:
        raise UserError(f"arm '{unknown[0]}' is unknown; use {', '.join(ARMS)}")


def _text_knn(
    added: pd.DataFrame, train: pd.DataFrame, n_users: int, sources: Sources, seed: int
) -> pd.DataFrame:
    if sources.documents is None:
        raise UserError("arm 'text_knn' needs the texts of the items")
    encoder = features.open_encoder("tfidf", seed)
    vectors = features.encode(sources.documents, encoder).vectors
    return controls.text_knn(added, train, n_users, vectors)


def _zero_shot(added: pd.DataFrame, sources: Sources) -> pd.DataFrame:
    if sources.zero_shot is None:
        raise UserError(
            "arm 'zero_shot' needs the untuned model's answers; ask it: -p 03.ask_untuned=true"
        )
    return controls.zero_shot(added, sources.zero_shot)


def _oracle(added: pd.DataFrame, train: pd.DataFrame, sources: Sources, seed: int) -> pd.DataFrame:
    """Each user's dearest items where tastes are known, else real interactions held back."""
    if sources.taste is not None:
        rest = [] if sources.unused is None else [sources.unused[["user", "item"]]]
        known = pd.concat([train[["user", "item"]], *rest])
        return controls.best(added, torch.from_numpy(sources.taste), known)
    if sources.held_back is None:
        raise UserError(
            "arm 'oracle' needs to know what users like: true tastes, or real interactions held "
            "back; leave it out, or thin the training data, for example -p 01.train_fraction=0.8"
        )
    return controls.held_back_edges(added, sources.held_back, seed)


def _features(kind: str, sources: Sources, seed: int) -> Features | None:
    if kind == "given" or sources.given is None or sources.written is None:
        return sources.given
    if kind == "written":
        return sources.written
    if kind in controls.FEATURES:
        return controls.features(sources.written, kind, seed=seed)
    if kind == "given_text":
        if sources.composed is None:
            raise UserError("arm 'given_text' needs features of the composed sentences")
        return sources.composed
    return {**sources.given, kind: sources.written[kind]}


# ---------------------------------------------------------------- from the pages of a run


class Prepared(NamedTuple):
    """Everything that the recommenders of a run are trained on."""

    data: TrainingView
    """the training view"""
    study: Study
    """the split"""
    answers: pd.DataFrame
    """schema `added`: what the language model said about unseen pairs"""
    arms: dict[str, Arm]
    """in the order of the table of recipes"""
    texts: dict[str, features.Texts]
    """`given` and `written` documents of the items, with counts"""
    features: dict[str, features.Features]
    """the same as vectors, with counts"""


def prepare(
    folder_of: Callable[[str], Path],
    names: Sequence[str],
    *,
    encoder: str = "tfidf",
    seed: int = 0,
) -> Prepared:
    """Read what pages 01 to 05 of a run left, and build the arms.

    Args:
        folder_of: from a page's name to the folder of its artefacts.
        names: of the arms. `oracle` is left out, and said so, where nothing is known of what users
            like beyond the split.
        encoder: how item texts become vectors, see `features.open_encoder`.
        seed: of the encoder, random edges, shuffling and noise.

    Raises:
        UserError: when a file does not fit its schema, or an arm's source is not there.
    """
    place = {name[:2]: folder_of(name) for name in PAGES}
    data, truth = load_data(place["01"]), load_truth(place["01"])
    parts = {n: read_table(place["01"] / f"{n}.parquet", "split") for n in ("validation", "test")}
    answers = read_table(place["03"] / "interactions.parquet", "added")
    written = [
        read_table(place["04"] / "attributes.parquet", "attributes"),
        read_table(place["05"] / "summaries.parquet", "summaries"),
    ]
    said = {"given": features.given(data), "written": features.written(data, *written)}
    if "given_text" in names:
        said["composed"] = features.composed(data)
    encode = features.open_encoder(encoder, seed=seed)
    vectors = {kind: features.encode(made.documents, encode) for kind, made in said.items()}
    sources = Sources(
        **{kind: made.vectors for kind, made in vectors.items()},
        documents=said["given"].documents,
        zero_shot=_if_there(place["03"] / "zero_shot.parquet", "added"),
        taste=None if truth is None else truth.taste,
        held_back=_if_there(place["01"] / "held_back.parquet", "split"),
        unused=pd.concat(parts.values()),
    )
    ordered = [name for name in ARMS if name in names]
    if "oracle" in ordered and sources.taste is None and sources.held_back is None:
        ordered.remove("oracle")
        print("oracle is left out: nothing is known of what users like beyond the split.")
    shape = data.n_users, data.n_items
    check_names(names)
    arms = build(ordered, data.train, answers, *shape, sources, seed=seed)
    study = Study(data.train, parts["validation"], parts["test"], *shape, sources.taste)
    return Prepared(data, study, answers, arms, said, vectors)


PAGES = ("01_data", "03_interactions", "04_attributes", "05_summaries")
"""Pages whose artefacts `prepare` reads."""


def _if_there(path: Path, schema: str) -> Any:
    return read_table(path, schema) if path.is_file() else None
