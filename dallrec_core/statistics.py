"""Did it help? Tables of paired comparisons, over base and over the best control.

A single comparison is in `paired`. A table has many of them, and Holm's correction covers them all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from dallrec_core.errors import UserError
from dallrec_core.paired import (
    NO_EFFECT,
    Effect,
    holm,
    minimum_detectable_effect,
    paired_bootstrap,
    wilcoxon,
)

__all__ = [
    "CONTROLS", "NO_EFFECT", "Effect", "best_controls", "compare", "compare_groups", "effects",
    "holm", "minimum_detectable_effect", "paired_bootstrap", "shown", "wilcoxon",
    "without_repeats", "yardsticks",
]  # fmt: skip

CONTROLS = frozenset(
    ("random", "popular", "self", "text_knn", "zero_shot")
    + ("shuffled", "constant", "noise", "given_text")
)
"""Arms that a written one has to beat. The oracle is none: it is a ceiling."""


def yardsticks(scores: pd.DataFrame, metric: str) -> list[str]:
    """Return the metric, and true preference at the same K where tastes are known."""
    second = f"preference@{metric.partition('@')[2]}"
    return [metric, second] if second in scores["metric"].unique() else [metric]


def best_controls(runs: pd.DataFrame) -> dict[str, str]:
    """Return the best control of each backbone: the highest validation nDCG@20, mean over seeds.

    Validation decides, as it does for everything that is chosen. The best of several on the *test*
    would owe part of its place to luck, and `dallrec` would be measured against that luck.

    Args:
        runs: schema `runs`; rows that share an earlier row's training are no candidates.
    """
    known = runs[runs["arm"].isin(CONTROLS)]
    known = known[~known["shared"]] if "shared" in known else known
    means = known.groupby(["backbone", "arm"], sort=False)["validation"].mean().dropna()
    return {str(b): str(of.idxmax()[1]) for b, of in means.groupby("backbone", sort=False)}


def effects(
    scores: pd.DataFrame,
    runs: pd.DataFrame,
    metrics: Sequence[str],
    *,
    of: str = "dallrec",
    base: str = "base",
    controls: Mapping[str, str] | None = None,
    seed: int = 0,
    resamples: int = 2000,
) -> pd.DataFrame:
    """Compare every arm with base, and one arm with the best control, on every yardstick.

    Args:
        scores: schema `scores`.
        runs: schema `runs`.
        metrics: for example from `yardsticks`.
        of: the arm that is compared with the best control.
        base: the arm that the others are compared with.
        controls: control to compare with, by backbone. Default: `best_controls`.
        seed: of the resampling.
        resamples: number of bootstrap samples.

    Returns:
        The columns of `compare`, metric, and over (the name of the arm compared with); p_holm is
        adjusted over the whole table.

    Raises:
        UserError: as `compare` does.
    """
    options = {"seed": seed, "resamples": resamples}
    chosen = best_controls(runs) if controls is None else controls
    scores = without_repeats(scores, runs, keep=(base, of))
    parts = []
    for metric in metrics:
        parts.append(compare(scores, metric, base, **options).assign(metric=metric, over=base))
        for backbone, control in chosen.items():
            pair = scores[(scores["backbone"] == backbone) & scores["arm"].isin((of, control))]
            if pair["arm"].nunique() == 2:
                found = compare(pair, metric, control, **options)
                parts.append(found.assign(metric=metric, over=control))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(p_holm=holm(table["p_value"].to_numpy(float)))


def shown(table: pd.DataFrame, columns: Sequence[str] = ("effect", "p", "finding")) -> pd.DataFrame:
    """Lay out `effects` for readers: a row per comparison, all yardsticks beside each other.

    Args:
        table: from `effects`.
        columns: out of effect (difference and interval), p (after Holm), finding (the verdict),
            relative (in per cent), detectable (the minimum detectable effect).

    Where all rows are about one arm, or all over base, the index does not repeat it. Without
    rows, the one that is returned says so.
    """
    if table.empty:
        return pd.DataFrame({"finding": ["there is nothing to compare"]}, ["none"])
    ends = zip(table["difference"], table["low"], table["high"], strict=True)
    told = table.assign(
        # an interval is not broken over lines
        effect=[f"{mean:+.4f} ({low:+.4f}\u00a0to\u00a0{high:+.4f})" for mean, low, high in ends],
        p=[f"{value:.3f}" if value >= 0.001 else "< 0.001" for value in table["p_holm"]],
        finding=table["verdict"],
        relative=[f"{value:+.1f} %" for value in table["relative"]],
        detectable=[f"{value:.4f}" for value in table["detectable"]],
    )
    keys = ["backbone", "arm", "over"]
    order = told[keys].drop_duplicates()
    wide = told.pivot(index=keys, columns="metric", values=list(columns)).swaplevel(axis=1)
    wide = wide.reindex(index=pd.MultiIndex.from_frame(order))
    for level, said in (
        ("arm", order["arm"].nunique() == 1),
        ("over", set(order["over"]) == {"base"}),
    ):
        wide = wide.droplevel(level) if said else wide
    return wide[[(name, column) for name in told["metric"].unique() for column in columns]]


def compare(
    scores: pd.DataFrame, metric: str, base: str = "base", *, seed: int = 0, resamples: int = 2000
) -> pd.DataFrame:
    """Compare every arm with the base arm, backbone by backbone.

    Args:
        scores: rows backbone, arm, seed, user, metric, value.
        metric: for example "recall@20".
        base: the arm to compare with.
        seed: of the resampling.
        resamples: number of bootstrap samples.

    Returns:
        One row per backbone and other arm: backbone, arm, the fields of `Effect`, p_holm (adjusted
        over all rows) and verdict. Empty when there is only one arm.

    Raises:
        UserError: when the metric or the base arm is not there, or arms have different users.
    """
    chosen = scores[scores["metric"] == metric]
    if chosen.empty:
        known = ", ".join(sorted(scores["metric"].unique())) or "nothing to compare"
        raise UserError(f"metric '{metric}' is not among the scores; they have {known}")
    rows = []
    for backbone, of_backbone in chosen.groupby("backbone", sort=False):
        arms = dict(iter(of_backbone.groupby("arm", sort=False)))
        if base not in arms:
            raise UserError(f"{backbone} has no arm '{base}'; it has {', '.join(map(str, arms))}")
        for arm, values in arms.items():
            if arm != base:
                pair = _paired(arms[base], values, f"{backbone}, arm '{arm}'")
                effect = paired_bootstrap(*pair, seed, resamples=resamples)
                row = {"backbone": backbone, "arm": arm} | vars(effect)
                rows.append(row | {"verdict": effect.verdict})
    table = pd.DataFrame(rows, columns=None if rows else _COLUMNS)
    return table.assign(p_holm=holm(table["p_value"].to_numpy(float)))[_COLUMNS]


_COLUMNS = [
    "backbone", "arm", "base", "other", "difference", "relative", "low", "high", "p_value",
    "p_holm", "detectable", "users", "seeds", "verdict",
]  # fmt: skip


def without_repeats(
    scores: pd.DataFrame,
    runs: pd.DataFrame,
    keep: Collection[str] = ("base", "dallrec"),
) -> pd.DataFrame:
    """Leave out arms that a backbone could not tell from an earlier one.

    Arms that differ only in features which a backbone does not read are one training under several
    names. Comparing each of them would say the same thing twice (or compare base with itself), and
    Holm's correction would pay for it.

    Args:
        scores: rows with the column run, among others.
        runs: columns run, arm, shared: whether an earlier run is the same training.
        keep: arms that stay in any case.
    """
    repeats = runs.loc[runs["shared"] & ~runs["arm"].isin(keep), "run"]
    return scores[~scores["run"].isin(repeats)]


def compare_groups(
    scores: pd.DataFrame,
    metric: str,
    groups: pd.Series,
    base: str = "base",
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> pd.DataFrame:
    """Compare arms inside groups of users; p-values are adjusted over all groups together.

    Args:
        scores: rows backbone, arm, seed, user, metric, value.
        metric: for example "recall@20".
        groups: group of each user, indexed by user code; a category keeps its order.
        base: the arm to compare with.
        seed: of the resampling.
        resamples: number of bootstrap samples.

    Returns:
        The columns of `compare` and `group`.
    """
    scores = scores[scores["metric"] == metric]
    group_of = scores["user"].map(groups.astype(str))
    names = dict.fromkeys(str(name) for name in groups.sort_values().unique())
    parts = [
        compare(scores[group_of == name], metric, base, seed=seed, resamples=resamples).assign(
            group=name
        )
        for name in names
        if (group_of == name).any()
    ]
    table = pd.concat(parts, ignore_index=True)
    table["p_holm"] = holm(table["p_value"].to_numpy(float))
    return table.sort_values(["backbone", "arm"], kind="stable", ignore_index=True)


def _paired(base: pd.DataFrame, other: pd.DataFrame, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Return two [S, U] arrays over the seeds both arms have."""
    wide = [part.pivot(index="seed", columns="user", values="value") for part in (base, other)]
    seeds = wide[0].index.intersection(wide[1].index)
    if seeds.empty or not wide[0].columns.equals(wide[1].columns):
        raise UserError(f"{what} has other seeds or users than the base arm; run both alike")
    return wide[0].loc[seeds].to_numpy(), wide[1].loc[seeds].to_numpy()
