"""Did it help? Paired comparisons of two arms, and tables of many with Holm's correction.

The unit is the user: the same person is ranked for by both arms, so differences are paired. Seeds
are paired by number too. The interval resamples users and, where there are several, seeds (a
hierarchical bootstrap), because another seed is as arbitrary as another sample of people.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from dallrec_core.errors import UserError

NO_EFFECT = "no detectable effect"
"""The verdict where the 95 % interval contains zero."""

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


def effect_table(
    table: pd.DataFrame, columns: Sequence[str] = ("effect", "p", "finding")
) -> pd.DataFrame:
    """Lay out `effects` for readers: a row per comparison and yardstick.

    Args:
        table: from `effects`.
        columns: out of effect (difference and interval), p (after Holm), finding (the verdict),
            relative (in per cent), detectable (the minimum detectable effect).

    What is the same in all rows is not repeated in the index. Without rows, the one that is
    returned says so.
    """
    if table.empty:
        return pd.DataFrame({"finding": ["there is nothing to compare"]}, ["none"])
    rows = table.assign(
        effect=interval_texts(table),
        p=[f"{value:.3f}" if value >= 0.001 else "<\u00a00.001" for value in table["p_holm"]],
        finding=table["verdict"],
        relative=[f"{value:+.1f} %" for value in table["relative"]],
        detectable=[f"{value:.4f}" for value in table["detectable"]],
        yardstick=table["metric"],
    )
    keys = ["backbone", "arm", "over", "yardstick"]
    rows = rows.sort_values(keys, key=lambda key: pd.factorize(key)[0], kind="stable")
    same = {"arm": rows["arm"].nunique() == 1, "over": set(rows["over"]) == {"base"}}
    same |= {"yardstick": rows["metric"].nunique() == 1}
    shown = [key for key in keys if not same.get(key)]
    return rows.set_index(shown)[list(columns)]


def headline(table: pd.DataFrame, metrics: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the effects of one arm by backbone, yardstick and side, for `headline.json`.

    Args:
        table: rows of `effects` about one arm, over base and over the best control.
        metrics: the yardsticks.
    """
    fields = ["difference", "low", "high", "p_holm", "detectable", "verdict", "users", "seeds"]
    found: dict[str, dict[str, Any]] = {}
    for row in table.to_dict("records"):
        side = "over base" if row["over"] == "base" else "over best control"
        of_backbone = found.setdefault(row["backbone"], {metric: {} for metric in metrics})
        of_backbone[row["metric"]][side] = {field: row[field] for field in fields}
    return found


def interval_texts(table: pd.DataFrame, digits: int = 4) -> list[str]:
    """Return difference and interval of each row in words that are not broken over lines."""
    ends = zip(table["difference"], table["low"], table["high"], strict=True)
    return [
        f"{mean:+.{digits}f} ({low:+.{digits}f}\u00a0to\u00a0{high:+.{digits}f})"
        for mean, low, high in ends
    ]


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


def user_quarters(train: pd.DataFrame, n_users: int) -> pd.Series:
    """Return the quarter of each user [U] by number of training interactions, fewest to most."""
    degree = train["user"].value_counts().reindex(range(n_users), fill_value=0)
    return pd.qcut(degree.rank(method="first"), 4, labels=["fewest", "few", "many", "most"])


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


# ---------------------------------------------------------------- one comparison


_CHUNK = 2_000_000  # resampled values held at a time


@dataclass(frozen=True)
class Effect:
    """The difference between two arms on one metric."""

    base: float
    "Mean of the base arm over users and seeds."
    other: float
    "Mean of the other arm."
    difference: float
    "other - base."
    relative: float
    "The difference in per cent of the base arm's mean; NaN when that is 0."
    low: float
    "Lower end of the 95 % bootstrap interval of the difference."
    high: float
    "Upper end."
    p_value: float
    "Wilcoxon signed-rank test on the users' seed-averaged differences, two-sided."
    detectable: float
    "Minimum detectable effect: the true difference found with 80 % power at the 5 % level."
    users: int
    "Number of users compared."
    seeds: int
    "Number of seeds averaged."

    @property
    def verdict(self) -> str:
        """Return "higher", "lower", or `NO_EFFECT` where the interval contains zero."""
        if self.low > 0:
            return "higher"
        return "lower" if self.high < 0 else NO_EFFECT


def paired_bootstrap(
    base: np.ndarray,
    other: np.ndarray,
    seed: int = 0,
    *,
    resamples: int = 2000,
    resample_seeds: bool = True,
) -> Effect:
    """Compare two arms measured on the same users with the same seeds.

    Args:
        base: metric of the base arm, [S, U] (seeds, users), or [U].
        other: metric of the other arm, same shape.
        seed: of the resampling.
        resamples: number of bootstrap samples.
        resample_seeds: also draw seeds with replacement (no effect with one seed). Without it the
            interval is for these very seeds, and narrower.

    Raises:
        UserError: when the shapes differ, a value is NaN, or there are fewer than two users.
    """
    base, other = np.atleast_2d(base).astype(float), np.atleast_2d(other).astype(float)
    if base.shape != other.shape or base.shape[1] < 2:
        raise UserError(
            f"arms of shape {base.shape} and {other.shape} cannot be paired; "
            "the same seeds and at least two users are needed in both"
        )
    differences = other - base
    if np.isnan(differences).any():
        raise UserError("a metric is missing (NaN) for some users; compare users that have it")
    means = _bootstrap_means(differences, np.random.default_rng(seed), resamples, resample_seeds)
    low, high = np.quantile(means, [0.025, 0.975])
    difference, reference = float(differences.mean()), float(base.mean())
    return Effect(
        reference,
        float(other.mean()),
        difference,
        100 * difference / reference if reference else float("nan"),
        float(low),
        float(high),
        wilcoxon(differences.mean(axis=0)),
        minimum_detectable_effect(float(means.std())),
        base.shape[1],
        base.shape[0],
    )


def _bootstrap_means(
    differences: np.ndarray, random: np.random.Generator, resamples: int, resample_seeds: bool
) -> np.ndarray:
    n_seeds, n_users = differences.shape
    by_user = differences.mean(axis=0)
    means = np.empty(resamples)
    step = max(1, _CHUNK // n_users)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        users = random.integers(0, n_users, (count, n_users))
        if resample_seeds and n_seeds > 1:
            drawn = random.integers(0, n_seeds, (count, n_seeds))
            # mean over the drawn seeds, then over the drawn users of each sample
            rows = differences[drawn].mean(axis=1)
            means[start : start + count] = np.take_along_axis(rows, users, axis=1).mean(axis=1)
        else:
            means[start : start + count] = by_user[users].mean(axis=1)
    return means


def wilcoxon(differences: np.ndarray) -> float:
    """Return the two-sided p-value of the signed-rank test; 1.0 when nothing differs."""
    if not np.any(differences):
        return 1.0
    return float(stats.wilcoxon(differences, zero_method="wilcox").pvalue)


def minimum_detectable_effect(
    standard_error: float, level: float = 0.05, power: float = 0.8
) -> float:
    """Return the true difference that a two-sided normal test would find with that power.

    `(z_{1 - level/2} + z_power) · standard error`, 2.80 standard errors by default.
    """
    return float((stats.norm.ppf(1 - level / 2) + stats.norm.ppf(power)) * standard_error)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return p-values adjusted for their number after Holm (1979)."""
    if not len(p_values):
        return np.empty(0)
    return np.asarray(multipletests(p_values, method="holm")[1])
