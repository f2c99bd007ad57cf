"""The data of an experiment, ranked lists on disk, and the conventions by which arms are scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import joblib
import numpy as np
import pandas as pd

from dallrec_core.chain.artefacts import atomic, read_json
from dallrec_core.data.base import likes
from dallrec_core.errors import UserError
from dallrec_core.recommenders import evaluation
from dallrec_core.recommenders.ranking import Pairs, Ranking, coverage

if TYPE_CHECKING:
    from dallrec_core.experiment.arms import Arm
    from dallrec_core.experiment.grid import Training


HIDDEN = ".hidden"
"""Suffix of the file with the hidden items alone, ranked for the test users."""


@dataclass(frozen=True, eq=False)
class Study:
    """The data that all cells share."""

    train: pd.DataFrame
    "Observed interactions to train on, columns user, item."
    validation: pd.DataFrame
    "Decides when to stop and is left out of the final ranking like `train`."
    test: pd.DataFrame
    "Read once, for the scores."
    n_users: int
    "Number of users, U."
    n_items: int
    "Number of items, N."
    taste: np.ndarray | None = None
    "True tastes [U, N] where they are known; adds the metric preference@K."
    like_threshold: float | str = float("nan")
    "Of likes, as `data.base.likes` takes it; NaN: what users like is not told apart."
    item_groups: Mapping[str, np.ndarray] = field(default_factory=dict)
    "Masks [N] of groups of items by name; each adds the metric recall@K[name]."
    hidden: np.ndarray | None = None
    "Mask [N] of the items that a split hides from training; they are ranked among themselves, too."

    @property
    def seen(self) -> pd.DataFrame:
        """Return the pairs that are not ranked for the test: training and validation."""
        return pd.concat([self.train[["user", "item"]], self.validation[["user", "item"]]])

    @property
    def test_users(self) -> np.ndarray:
        """Return the users that are ranked for, int64 [n]."""
        return np.unique(self.test["user"].to_numpy(np.int64))

    @cached_property
    def liked(self) -> pd.DataFrame | None:
        """Return the test pairs that the user liked; None where likes are not told apart."""
        if not isinstance(self.like_threshold, str) and np.isnan(self.like_threshold):
            return None
        liked = likes(self.test, self.like_threshold, self.train)
        return self.test[liked] if liked.any() and not liked.all() else None

    @cached_property
    def digest(self) -> str:
        """Hash of all that can change a ranking; which items are in the test cannot."""
        frames = frame_bytes(self.train), frame_bytes(self.validation)
        return str(joblib.hash([self.n_users, self.n_items, *frames, self.test_users]))


def inside(frame: pd.DataFrame, pairs: pd.DataFrame, n_items: int) -> np.ndarray:
    """Tell which rows of a frame are among some pairs (columns user, item of both), bool [n]."""
    return Pairs(pairs, n_items).contains(frame["user"].to_numpy(), frame["item"].to_numpy())


def score_arm(
    study: Study,
    ranking: Ranking,
    added: pd.DataFrame,
    direct: pd.DataFrame,
    ks: Sequence[int] = (10, 20, 50),
    variants_at: int = 20,
    hidden: Ranking | None = None,
) -> pd.DataFrame:
    """Return all metrics of one cell, one row per user, one column per metric.

    Besides the standard metrics (added edges stay rankable), at K = `variants_at`:

    - `recall@K[cold]`, `recall@K[warm]` (at every K): test items with at most ten training
      interactions, and the others; counted in the observed data, alike for all arms; and the same
      for the study's groups of items;
    - `recall@K|masked`, `ndcg@K|masked`: the user's added items are not ranked either;
    - `recall@K|no-direct-hits`, `ndcg@K|no-direct-hits`: test pairs that some arm added are taken
      out of the ranking and of the test, for every arm alike;
    - `recall@K[liked]`: recall among the test items that the user liked, where ratings tell;
    - `recall@K|hidden`, `ndcg@K|hidden`: hidden items alone are ranked and looked for; and
      `recall@K[hidden]` (at every K) is how many of them stand in the lists of all items;
    - `preference@K`: see `evaluation.preference_at_k`, where tastes are known.

    Args:
        study: the shared data.
        ranking: lists without the training and validation pairs.
        added: the arm's edges.
        direct: the test pairs that are among the edges some arm added.
        ks: lengths K of the list.
        variants_at: the K of the variants.
        hidden: lists of the study's hidden items, where it has some.

    Raises:
        UserError: when so many edges were added for a user that the stored list is too short.
    """
    groups = evaluation.cold_and_warm(study.train, study.n_items) | dict(study.item_groups)
    if study.hidden is not None:
        groups["hidden"] = study.hidden
    table = evaluation.score(ranking, study.test, study.n_items, ks, item_groups=groups)
    test_left = study.test[~inside(study.test, direct, study.n_items)]
    variants = {
        "masked": (_shortened(ranking, added, study.n_items, variants_at), study.test),
        "no-direct-hits": (_shortened(ranking, direct, study.n_items, variants_at), test_left),
    }
    if hidden is not None and study.hidden is not None:
        variants["hidden"] = hidden, study.test[study.hidden[study.test["item"]]]
    recall, ndcg = f"recall@{variants_at}", f"ndcg@{variants_at}"
    for name, (part, test) in variants.items():
        found = evaluation.score(part, test, study.n_items, (variants_at,)).set_index("user")
        for metric in (recall, ndcg):
            table[f"{metric}|{name}"] = table["user"].map(found[metric])
    if study.liked is not None:
        found = evaluation.score(ranking, study.liked, study.n_items, (variants_at,))
        table[f"{recall}[liked]"] = table["user"].map(found.set_index("user")[recall])
    if study.taste is not None:
        liked = evaluation.preference_at_k(ranking, study.taste, study.seen, variants_at)
        by_user = pd.Series(liked, ranking.users)
        table[f"preference@{variants_at}"] = table["user"].map(by_user)
    return table


def _shortened(ranking: Ranking, taken_out: pd.DataFrame, n_items: int, k: int) -> Ranking:
    """Return the ranking without some pairs, still correct to rank k."""
    pairs = Pairs(taken_out, n_items)
    removed = pairs.contains(ranking.users[:, None], ranking.items).sum(axis=1)
    depth = ranking.items.shape[1]
    # a list that has run out is complete; a full one loses its tail
    if (depth < n_items) and (removed > depth - k)[ranking.items[:, -1] >= 0].any():
        raise UserError(
            f"a user was given more than {depth - k} of the {depth} items of the stored list; "
            f"lower the number of edges added per user, or K"
        )
    return ranking.without(pairs)


def frame_bytes(frame: pd.DataFrame) -> bytes:
    """Return the pairs and weights as bytes that do not depend on the order of rows."""
    table = frame[["user", "item"]].assign(weight=frame.get("weight", 1.0)).to_numpy(np.float64)
    return table[np.lexsort(table.T[::-1])].tobytes()


# ---------------------------------------------------------------- ranked lists, and their tables


def save_lists(ranking: Ranking, path: Path) -> None:
    """Write ranked lists in NumPy's format."""
    with atomic(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, users=ranking.users, items=ranking.items)


def load_lists(path: Path) -> Ranking:
    """Read what `save_lists` wrote."""
    with np.load(path) as stored:
        return Ranking(**stored)


def collect(
    study: Study,
    finished: Sequence[tuple[Training, Arm, Path]],
    ks: Sequence[int],
    variants_at: int,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Score what was trained; return the tables of `grid.run_grid`.

    Args:
        study: the shared data.
        finished: each training with its arm and the file of its ranked lists; trainings that share
            a file are the same.
        ks: lengths K of the list.
        variants_at: the K of the variants.
    """
    added = pd.concat([arm.edges for _, arm, _ in finished])
    direct = study.test[inside(study.test, added, study.n_items)]
    scores, runs, curves, seen = [], [], [], set[Path]()
    for one, arm, path in finished:
        ranking, record = load_lists(path), read_json(path.with_suffix(".json"))
        names = {"run": one.run, "backbone": one.backbone, "arm": one.arm, "seed": one.seed}
        hidden = None if study.hidden is None else load_lists(path.with_suffix(HIDDEN))
        table = score_arm(study, ranking, arm.edges, direct, ks, variants_at, hidden)
        scores.append(evaluation.to_long(table).assign(**names))
        measured = ("epochs", "best_epoch", "validation", "edges", "seconds", "peak_mib")
        row = names | {name: record[name] for name in measured} | {"added": len(arm.edges)}
        row["coverage"] = coverage(ranking, variants_at, study.n_items)
        runs.append(row | {"shared": path in seen})
        seen.add(path)
        looks = pd.DataFrame(record["history"]).rename(columns={"validation": "value"})
        # models in closed form look once, at epoch 0
        curves.append(looks.loc[looks["epoch"] > 0, ["epoch", "value"]].dropna().assign(**names))
    columns = [*names, "user", "metric", "value"]
    every = pd.concat(scores, ignore_index=True)[columns].astype({"seed": np.int32})
    kinds = dict.fromkeys(("seed", "epochs", "best_epoch", "edges", "added"), np.int32)
    floats = dict.fromkeys(("validation", "seconds", "peak_mib", "coverage"), np.float32)
    looks = pd.concat(curves, ignore_index=True)[["backbone", "arm", "seed", "epoch", "value"]]
    return every, pd.DataFrame(runs).astype(kinds | floats), looks
