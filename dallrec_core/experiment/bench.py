"""Where augmentation pays: one backbone, trained on many variants of what is added.

Every variant is compared with training on the same observed data without it, over the same users
and seeds. It is the grid of page 6 with other arms: stored, resumed, run in parallel.

How good must a language model be before what it writes is worth asking for? Where tastes are known
(the embedded dataset), the question has an answer: mix the taste for each asked pair with noise
until the answers tell liked from disliked as well as wanted, and add the surest pairs, as if they
had been written. The quality is the AUC on the very pairs that were asked about; noise-free taste
has 1, a coin .5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import bisect

from dallrec_core.augmentation.candidates import candidates
from dallrec_core.augmentation.interactions import auc_of
from dallrec_core.augmentation.selection import Limits, within
from dallrec_core.augmentation.view import TrainingView, Truth
from dallrec_core.data.splits import thin
from dallrec_core.errors import UserError
from dallrec_core.experiment.arms import Arm
from dallrec_core.experiment.comparison import COLUMNS, as_one_family, compare, compare_groups
from dallrec_core.experiment.grid import run_grid, trainings
from dallrec_core.experiment.scores import Study
from dallrec_core.recommenders import Graph, build, evaluation
from dallrec_core.recommenders.training import TrainSettings


@dataclass(frozen=True)
class Bench:
    """One backbone and its data, to try variants on."""

    study: Study
    "Observed data and test."
    backbone: str
    "A name `recommenders.build` knows."
    seeds: Sequence[int]
    "Of the trainings of each variant."
    folder: Path
    "What is finished is kept in its folder `trainings`."
    settings: Mapping[str, TrainSettings]
    "How to train, by backbone, instead of `training.SETTINGS`."
    metrics: Sequence[str] = ("recall@20",)
    "What is compared: a metric with its K, and preference@K where tastes are known."
    jobs: int = 0
    "Processes that train at the same time; 0 for one per core."

    @property
    def k(self) -> int:
        """Return the length of the list that the metrics read."""
        return int(self.metrics[0].split("@")[1])

    def scores(self, study: Study, arms: Mapping[str, Arm]) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Train what is missing; return scores and runs of `run_grid`."""
        grid, k = trainings([self.backbone], arms, self.seeds, self.settings), self.k
        return run_grid(study, arms, grid, self.folder, jobs=self.jobs, ks=(k,), variants_at=k)[:2]

    def gains(self, variants: Mapping[str, Arm]) -> pd.DataFrame:
        """Compare every variant with nothing added.

        Returns:
            The columns of `comparison.compare`, with variant for arm, and added (edges).
        """
        scores, runs = self.scores(self.study, {"base": Arm()} | dict(variants))
        table = compare(scores, self.metrics).rename(columns={"arm": "variant"})
        return table.assign(added=table["variant"].map(runs.groupby("arm")["added"].first()))

    def by_degree(self, arm: Arm, groups: int = 10) -> pd.DataFrame:
        """Compare an arm with nothing added, by training degree of the user and of the item.

        For groups of users it is the metric of their lists; for groups of items it is recall among
        the test items of the group, over the users who have one there. Cold and warm items are
        those of `evaluation.cold_and_warm`.

        Returns:
            The columns of `comparison.compare`, of ("user", "item" or "warmth") and group (such as
            "4-9", or "cold"), one row per group. Groups with fewer than two users are left out.
        """
        study = self.study
        users = evaluation.degree_groups(study.train["user"], study.n_users, groups)
        items = evaluation.degree_groups(study.train["item"], study.n_items, groups)
        masks = {str(name): (items == name).to_numpy() for name in items.cat.categories}
        arms = {"base": Arm(), "augmented": arm}
        scores, _ = self.scores(replace(study, item_groups=masks), arms)
        tables = [compare_groups(scores, self.metrics[0], users).assign(of="user")]
        for name in (*masks, "cold", "warm"):
            recall = f"recall@{self.k}[{name}]"
            if scores.loc[scores["metric"] == recall, "user"].nunique() > 1:
                of = "item" if name in masks else "warmth"
                labels = {"of": of, "group": name, "metric": f"recall@{self.k}"}
                tables.append(compare(scores, recall).assign(**labels))
        return as_one_family(tables)


def ladder(
    bench: Bench,
    fractions: Sequence[float],
    write: Callable[[pd.DataFrame], pd.DataFrame],
    seed: int = 0,
) -> pd.DataFrame:
    """Compare with and without added edges on thinner and thinner training data, same test.

    Args:
        bench: whose training interactions are thinned, as `01.train_fraction` does.
        fractions: shares of them that are kept, in (0, 1].
        write: from the interactions that are left to the edges to add.
        seed: of the thinning.

    Returns:
        The columns of `Bench.gains`, fraction, and train (interactions left), by fraction; no row
        for no fraction.
    """
    parts = []
    for fraction in fractions:
        train = thin(bench.study.train, fraction, seed)
        level = replace(bench, study=replace(bench.study, train=train))
        table = level.gains({"augmented": Arm(write(train))})
        parts.append(table.assign(fraction=fraction, train=len(train)))
    if not parts:
        return pd.DataFrame(columns=[*COLUMNS, "variant", "added", "fraction", "train"])
    return as_one_family(parts)


def breaks_even(table: pd.DataFrame, x: str) -> float | None:
    """Return the lowest `x` from which on every interval lies above zero; None where none does.

    Args:
        table: rows of one metric with the columns low and `x`.
        x: the column that grows, such as the AUC.
    """
    table = table.sort_values(x)
    pays = (table["low"] > 0).to_numpy()[::-1].cumprod()[::-1].astype(bool)
    return float(table.loc[pays, x].iloc[0]) if pays.any() else None


def price(effects: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """Return what one per cent more of the metric cost, by backbone.

    Args:
        effects: from `comparison.compare`, one row per backbone; relative is in per cent of base.
        costs: rows of the ledgers of all stages that asked the model.

    Returns:
        backbone, gain in %, and questions, tokens and seconds per 1 %; NaN where no gain was
        detected, because a price of nothing is no price. Tokens are those that would be read and
        written without a cache; seconds are what these runs took, with the cache they had.
    """
    tokens = costs[["tokens_in", "tokens_out", "saved_by_cache"]].sum(axis=1)
    total = costs.assign(tokens=tokens)[["questions", "tokens", "seconds"]].sum()
    gain = effects["relative"].where(effects["verdict"] == "higher")
    table = {"backbone": effects["backbone"], "gain in %": gain}
    table |= {f"{name} per 1 %": value / gain for name, value in total.items()}
    return pd.DataFrame(table).reset_index(drop=True)


# ---------------------------------------------------------------- models of a chosen quality


def asked_auc(asked: pd.DataFrame, score: np.ndarray, truth: Truth) -> float:
    """Return how well scores `[n]` of asked pairs (user, item) tell those really liked, as AUC.

    Pairs without a score (NaN) count as in the middle. NaN where all pairs or none are liked.
    """
    liked = truth.taste[asked["user"], asked["item"]] >= truth.liked_from
    return auc_of(liked, np.where(np.isnan(score), np.nanmedian(score), score))


def degraded(asked: pd.DataFrame, truth: Truth, auc: float, seed: int = 0) -> np.ndarray:
    """Return scores of asked pairs (user, item) that reach this AUC against true liking.

    `cos(a) * taste + sin(a) * noise`, both standardised, with the angle a found by bisection. The
    noise is the same for every AUC, so that a better model corrects errors and makes no new ones.

    Args:
        asked: the pairs, columns user, item.
        truth: the tastes.
        auc: from .5 (noise alone, whatever its AUC happens to be) to 1 (the taste itself).
        seed: of the noise.

    Returns:
        float64 `[n]`, higher means surer of a yes.

    Raises:
        UserError: for another AUC, or where all pairs or none are liked.
    """
    if not 0.5 <= auc <= 1:
        raise UserError(f"the AUC of simulated answers is {auc}; it must be from 0.5 to 1")
    taste = truth.taste[asked["user"], asked["item"]].astype(float)
    taste = (taste - taste.mean()) / (taste.std() or 1)
    noise = np.random.default_rng([seed, 60]).standard_normal(len(taste))

    def mixed(angle: float) -> np.ndarray:
        return np.cos(angle) * taste + np.sin(angle) * noise

    def short(angle: float) -> float:
        return asked_auc(asked, mixed(angle), truth) - auc

    if np.isnan(short(0)):
        raise UserError("of the pairs asked about, all or none are really liked: no AUC exists")
    if auc == 1:
        return mixed(0)
    return mixed(np.pi / 2 if short(np.pi / 2) >= 0 else bisect(short, 0, np.pi / 2, xtol=1e-4))


def surest(
    asked: pd.DataFrame,
    score: np.ndarray,
    n: int,
    max_per_user: int = 0,
    limits: Limits | None = None,
    weight: float = 1.0,
) -> pd.DataFrame:
    """Return the `n` pairs with the highest scores that no limit forbids.

    It is the rule of page 3 with the threshold that lets n pairs pass. Pairs without a score (NaN)
    are never chosen.

    Args:
        asked: columns user, item.
        score: one of each pair, `[n]`.
        n: number of pairs.
        max_per_user: at most so many of each user; 0 for any.
        limits: as for `selection.within`.
        weight: of every pair.

    Returns:
        user, item, weight, at most n rows, the surest first.
    """
    frame = asked[["user", "item"]].assign(score=score).dropna(subset="score")
    frame = within(frame.sort_values("score", ascending=False, kind="stable"), max_per_user, limits)
    return frame.head(n)[["user", "item"]].assign(weight=np.float32(weight)).reset_index(drop=True)


def proposed(data: TrainingView, train: pd.DataFrame, budget: int) -> pd.DataFrame:
    """Return the pairs (user, item) that EASE would ask about, had it seen only `train`.

    Args:
        data: sizes and items; its own training interactions are not looked at.
        train: columns user, item, rating: what is left to learn from.
        budget: most pairs.
    """
    base = build("EASE", Graph.from_frame(train, data.n_users, data.n_items))
    return candidates(replace(data, train=train), base, budget=budget)
