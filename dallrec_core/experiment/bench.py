"""Where augmentation pays: one backbone, trained on many variants of what is added.

Every variant is compared with training on the same observed data without it, over the same users
and seeds. It is the grid of page 6 with other arms: stored, resumed, run in parallel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from dallrec_core.data.splits import thin
from dallrec_core.experiment import comparison
from dallrec_core.experiment.arms import Arm
from dallrec_core.experiment.grid import Training, load_lists, path_of, run_grid, trainings
from dallrec_core.experiment.scores import Study
from dallrec_core.recommenders import evaluation
from dallrec_core.recommenders.training import TrainSettings

GAIN = ["metric", "base", "difference", "low", "high", "relative", "verdict"]
RULE = ["se", "df", "family", "p_corrected"]
"""Columns of every table of gains; see `comparison.COLUMNS`."""


@dataclass(frozen=True)
class Bench:
    """One backbone and its data, to try variants on."""

    study: Study
    "Observed data and test; tastes add the second yardstick."
    backbone: str
    "A name `recommenders.build` knows."
    seeds: Sequence[int]
    "Of the trainings of each variant."
    folder: Path
    "What is finished is kept in its folder `trainings`."
    settings: Mapping[str, TrainSettings] | None = None
    "How to train, by backbone; None for `training.SETTINGS`."
    metric: str = "recall@20"
    "What is compared, with its K; where tastes are known, preference@K too."
    jobs: int = 0
    "Processes that train at the same time; 0 for one per core."

    @property
    def metrics(self) -> list[str]:
        """Return the yardsticks: the metric, and true preference where it is known."""
        second = [f"preference@{self.k}"] if self.study.taste is not None else []
        return [self.metric, *second]

    @property
    def k(self) -> int:
        """Return the length of the list that the metric reads."""
        return int(self.metric.split("@")[1])

    def _grid(self, arms: Mapping[str, Arm]) -> list[Training]:
        return trainings([self.backbone], arms, self.seeds, self.settings)

    def scores(self, arms: Mapping[str, Arm]) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Train what is missing; return scores and runs of `run_grid`."""
        grid, k = self._grid(arms), self.k
        return run_grid(
            self.study, arms, grid, self.folder, jobs=self.jobs, ks=(k,), variants_at=k
        )[:2]

    def gains(self, variants: Mapping[str, Arm]) -> pd.DataFrame:
        """Compare every variant with nothing added.

        Returns:
            One row per variant and yardstick: variant, added (edges), and the columns `GAIN`.
        """
        scores, runs = self.scores({"base": Arm()} | dict(variants))
        table = comparison.compare(scores, self.metrics).rename(columns={"arm": "variant"})
        added = table["variant"].map(runs.groupby("arm")["added"].first())
        return table.assign(added=added)[["variant", "added", *GAIN, *RULE]]

    def by_degree(self, arm: Arm, groups: int = 10) -> pd.DataFrame:
        """Compare an arm with nothing added, by training degree of the user and of the item.

        For groups of users it is the metric of their lists; for groups of items it is recall among
        the test items of the group, over the users who have one there. Cold and warm items are
        those of `evaluation.cold_and_warm`.

        Returns:
            One row per group: of ("user", "item" or "warmth"), group (such as "4-9", or "cold"),
            users (compared), and the columns `GAIN`. Groups with fewer than two users are left out.
        """
        arms = {"base": Arm(), "augmented": arm}
        every, _ = self.scores(arms)
        study = self.study
        users = evaluation.degree_groups(study.train["user"], study.n_users, groups)
        items = evaluation.degree_groups(study.train["item"], study.n_items, groups)
        scores = every[every["metric"] == self.metric]
        group = scores["user"].map(users)
        parts = [("user", name, scores[group == name]) for name in _names(users)]
        masks = {name: (items == name).to_numpy() for name in _names(items)}
        found = self._item_scores(arms, masks)
        for name in masks:
            part = found[found["metric"] == f"recall@{self.k}[{name}]"]
            parts.append(("item", name, part))
        for name in ("cold", "warm"):
            part = every[every["metric"] == f"recall@{self.k}[{name}]"]
            parts.append(("warmth", name, part))
        rows = []
        for of, name, part in parts:
            if part["user"].nunique() > 1:
                metric = part["metric"].iloc[0]
                row = comparison.compare(part, metric)
                rows.append(row.assign(of=of, group=name, metric=metric.split("[")[0]))
        table = comparison.judged(pd.concat(rows, ignore_index=True))
        return table[["of", "group", "users", *GAIN, *RULE]]

    def _item_scores(
        self, arms: Mapping[str, Arm], masks: Mapping[str, np.ndarray]
    ) -> pd.DataFrame:
        """Return recall among the test items of each mask, in the long form of the scores."""
        parts = []
        for one in self._grid(arms):
            ranking = load_lists(path_of(self.study, (one, arms[one.arm]), self.folder))
            test, n_items = self.study.test, self.study.n_items
            table = evaluation.score(ranking, test, n_items, (self.k,), item_groups=masks)
            names = {"backbone": one.backbone, "arm": one.arm, "seed": one.seed}
            parts.append(evaluation.to_long(table).assign(**names))
        return pd.concat(parts, ignore_index=True)


def _names(groups: pd.Series) -> list[str]:
    return [str(name) for name in groups.cat.categories]


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
    parts = [pd.DataFrame(columns=["variant", "added", *GAIN, *RULE, "fraction", "train"])]
    for fraction in fractions:
        train = thin(bench.study.train, fraction, seed)
        level = replace(bench, study=replace(bench.study, train=train))
        table = level.gains({"augmented": Arm(write(train))})
        parts.append(table.assign(fraction=fraction, train=len(train)))
    return comparison.judged(pd.concat(parts[1:] or parts, ignore_index=True))


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
    total = pd.Series(
        {
            "questions": costs["questions"].sum(),
            "tokens": costs[["tokens_in", "tokens_out", "saved_by_cache"]].to_numpy().sum(),
            "seconds": costs["seconds"].sum(),
        }
    )
    gain = effects["relative"].where(effects["verdict"] == "higher")
    table = {"backbone": effects["backbone"], "gain in %": gain}
    table |= {f"{name} per 1 %": value / gain for name, value in total.items()}
    return pd.DataFrame(table).reset_index(drop=True)
