"""Did it help? Paired comparisons of two arms, and tables of many with Holm's correction.

The unit is the user: the same person is ranked for by both arms, so differences are paired. Seeds
are paired by number too. The interval resamples users and, where there are several, seeds (a
hierarchical bootstrap), because another seed is as arbitrary as another sample of people.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from dallrec_core.errors import UserError
from dallrec_core.experiment.arms import CONTROLS

NO_EFFECT = "no detectable effect"
"""The verdict where the 95 % interval contains zero."""


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
    known = runs[runs["arm"].isin(CONTROLS) & ~runs["shared"]]
    means = known.groupby(["backbone", "arm"], sort=False)["validation"].mean().dropna()
    return {str(b): str(of.idxmax()[1]) for b, of in means.groupby("backbone", sort=False)}


def effects(
    scores: pd.DataFrame,
    runs: pd.DataFrame,
    metrics: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> pd.DataFrame:
    """Compare every arm with base, and `dallrec` with the best control, on every yardstick.

    Args:
        scores: schema `scores`.
        runs: schema `runs`.
        metrics: for example from `yardsticks`.
        seed: of the resampling.
        resamples: number of bootstrap samples.

    Returns:
        The columns of `compare`, metric, and over (the name of the arm compared with); p_holm is
        adjusted over the whole table.

    Raises:
        UserError: as `compare` does.
    """
    scores = without_repeats(scores, runs)
    parts = []
    for metric in metrics:
        parts.append(Part(scores, metric, "base", {"metric": metric, "over": "base"}))
        for backbone, control in best_controls(runs).items():
            of_backbone = scores[scores["backbone"] == backbone]
            pair = of_backbone[of_backbone["arm"].isin(("dallrec", control))]
            if pair["arm"].nunique() == 2:
                parts.append(Part(pair, metric, control, {"metric": metric, "over": control}))
    return compare_parts(parts, seed=seed, resamples=resamples)


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
        One row per backbone and other arm: backbone, arm, what `paired_bootstrap` returns, and
        p_holm (adjusted over all rows). Empty when there is only one arm.

    Raises:
        UserError: when the metric or the base arm is not there, or arms have different users.
    """
    chosen = scores[scores["metric"] == metric]
    if chosen.empty:
        known = ", ".join(sorted(scores["metric"].unique())) or "nothing to compare"
        raise UserError(f"metric '{metric}' is not among the scores; they have {known}")
    rows = []
    for backbone, of_backbone in chosen.groupby("backbone", sort=False):
        # [S, U] by arm
        arms = {
            arm: values.pivot(index="seed", columns="user", values="value")
            for arm, values in of_backbone.groupby("arm", sort=False)
        }
        if base not in arms:
            raise UserError(f"{backbone} has no arm '{base}'; it has {', '.join(map(str, arms))}")
        of_base = arms.pop(base)
        for arm, other in arms.items():
            seeds = of_base.index.intersection(other.index)
            if seeds.empty or not of_base.columns.equals(other.columns):
                raise UserError(
                    f"{backbone}, arm '{arm}' has other seeds or users than the base arm; "
                    "run both alike"
                )
            pair = of_base.loc[seeds].to_numpy(), other.loc[seeds].to_numpy()
            effect = paired_bootstrap(*pair, seed, resamples=resamples)
            rows.append({"backbone": backbone, "arm": arm} | effect)
    table = pd.DataFrame(rows, columns=_COLUMNS)
    return table.assign(p_holm=holm(table["p_value"]))


_COLUMNS = [
    "backbone", "arm", "base", "other", "difference", "relative", "low", "high", "p_value",
    "p_holm", "detectable", "users", "seeds", "verdict",
]  # fmt: skip


class Part(NamedTuple):
    """One of several comparisons that make a table."""

    scores: pd.DataFrame
    """as for `compare`"""
    metric: str
    """what is compared"""
    base: str
    """the arm to compare with"""
    labels: dict[str, str]
    """columns of its rows, and what they say"""


def compare_parts(parts: Iterable[Part], *, seed: int = 0, resamples: int = 2000) -> pd.DataFrame:
    """Return `compare` of every part, labelled; p_holm is adjusted over all rows together."""
    tables = [
        compare(*part[:3], seed=seed, resamples=resamples).assign(**part.labels) for part in parts
    ]
    table = pd.concat(tables, ignore_index=True)
    return table.assign(p_holm=holm(table["p_value"]))


def without_repeats(
    scores: pd.DataFrame, runs: pd.DataFrame, keep: Collection[str] = ("base", "dallrec")
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
        Part(scores[group_of == name], metric, base, {"group": name})
        for name in names
        if (group_of == name).any()
    ]
    table = compare_parts(parts, seed=seed, resamples=resamples)
    return table.sort_values(["backbone", "arm"], kind="stable", ignore_index=True)


# ---------------------------------------------------------------- one comparison


_CHUNK = 2_000_000  # resampled values held at a time

# in standard errors: z_{.975} + z_{.8}, what a two-sided test at 5 % finds with 80 % power
_DETECTABLE = stats.norm.ppf(1 - 0.05 / 2) + stats.norm.ppf(0.8)


def paired_bootstrap(
    base: np.ndarray, other: np.ndarray, seed: int = 0, *, resamples: int = 2000
) -> dict[str, Any]:
    """Compare two arms measured on the same users with the same seeds.

    Args:
        base: metric of the base arm, [S, U] (seeds, users), or [U].
        other: metric of the other arm, same shape.
        seed: of the resampling.
        resamples: number of bootstrap samples.

    Returns:
        base, other: means over users and seeds; difference: other - base; relative: the difference
        in per cent of the base mean, NaN where that is 0; low, high: ends of its 95 % bootstrap
        interval; p_value: two-sided Wilcoxon signed-rank test on the users' seed-averaged
        differences, 1 where nothing differs; detectable: the minimum detectable effect, the true
        difference found with 80 % power at the 5 % level; users, seeds: how many; verdict:
        "higher", "lower", or `NO_EFFECT` where the interval contains zero.

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
    means = _bootstrap_means(differences, np.random.default_rng(seed), resamples)
    low, high = np.quantile(means, [0.025, 0.975]).tolist()
    difference, reference = float(differences.mean()), float(base.mean())
    by_user = differences.mean(axis=0)
    return {
        "base": reference,
        "other": float(other.mean()),
        "difference": difference,
        "relative": 100 * difference / reference if reference else float("nan"),
        "low": low,
        "high": high,
        "p_value": float(stats.wilcoxon(by_user).pvalue) if by_user.any() else 1.0,
        "detectable": float(_DETECTABLE * means.std()),
        "users": base.shape[1],
        "seeds": base.shape[0],
        "verdict": "higher" if low > 0 else "lower" if high < 0 else NO_EFFECT,
    }


def _bootstrap_means(
    differences: np.ndarray, random: np.random.Generator, resamples: int
) -> np.ndarray:
    """Return the mean of each sample: users drawn with replacement, and seeds if there are several.

    Args:
        differences: [S, U].
        random: draws them.
        resamples: number of samples.
    """
    n_seeds, n_users = differences.shape
    by_user = differences.mean(axis=0)
    means = np.empty(resamples)
    step = max(1, _CHUNK // n_users)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        users = random.integers(0, n_users, (count, n_users))
        if n_seeds > 1:
            drawn = random.integers(0, n_seeds, (count, n_seeds))
            # mean over the drawn seeds, then over the drawn users of each sample
            rows = differences[drawn].mean(axis=1)
            means[start : start + count] = np.take_along_axis(rows, users, axis=1).mean(axis=1)
        else:
            means[start : start + count] = by_user[users].mean(axis=1)
    return means


def holm(p_values: pd.Series | np.ndarray) -> np.ndarray:
    """Return p-values adjusted for their number after Holm (1979)."""
    return np.asarray(multipletests(np.asarray(p_values, float), method="holm")[1])
