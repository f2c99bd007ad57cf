"""Two arms over the same users: difference, interval, p-value, and what could have been found.

The unit is the user: the same person is ranked for by both arms, so differences are paired. Seeds
are paired by number too. The interval resamples users and, where there are several, seeds (a
hierarchical bootstrap), because another seed is as arbitrary as another sample of people.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

from dallrec_core.errors import UserError

NO_EFFECT = "no detectable effect"
"""The verdict where the 95 % interval contains zero."""

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
