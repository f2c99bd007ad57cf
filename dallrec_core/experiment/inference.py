"""One rule of inference for the whole book: estimate, interval, p-value, finding.

Two arms are measured on the same users with the same seeds, which leaves a table `d[seed, user]` of
differences. Other users would have given other differences, and so would other seeds; both are
crossed, and the uncertainty of the mean has both. That is the design of studies in which readers
judge cases (few readers, many cases), and the estimator is theirs: mean squares of a two-way
analysis of variance, with a t distribution whose degrees of freedom are Satterthwaite's.

    MS_s, MS_u, MS_r    mean squares of seeds, users and the rest of d [S, U]
    SE²  = (max(MS_s, MS_r) + max(MS_u - MS_r, 0)) / (S U)
    df   = (S U SE²)² / (max(MS_s, MS_r)² / (S - 1) + MS_u² / (U - 1))

Obuchowski and Rockette 1995; Hillis 2007. `MS_s` has few degrees of freedom and is too small by
luck as often as not, so it is taken to be no smaller than the rest. `benchmarks/inference.py`
shows how often intervals hold the truth.

Comparisons that are shown together are a *family*. Interval, p-value and minimum detectable effect
are corrected for its size after Bonferroni, so they cannot disagree: an arm is "higher" or "lower"
where the corrected p is below .05, and that is where the interval leaves out zero.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from dallrec_core.errors import UserError

LEVEL = 0.05
"""How often a family of comparisons without any true difference may show one."""
POWER = 0.8
"""How often a difference as large as the minimum detectable effect is found."""

NO_EFFECT = "no detectable effect"
"""The finding where the interval contains zero."""


def crossed(differences: np.ndarray) -> tuple[float, float, float]:
    """Return mean, standard error and degrees of freedom of differences [S, U], both sampled.

    With one seed, the error is that of users alone.

    Raises:
        UserError: when a value is NaN or there are fewer than two users.
    """
    seeds, users = differences.shape
    if users < 2 or np.isnan(differences).any():
        raise UserError("users to compare are missing: two are needed, each with every metric")
    by_seed, by_user = differences.mean(axis=1), differences.mean(axis=0)
    mean = float(differences.mean())
    of_users = seeds * by_user.var(ddof=1)
    of_seeds = rest = 0.0
    if seeds > 1:
        residuals = differences - by_seed[:, None] - by_user + mean
        rest = (residuals**2).sum() / ((seeds - 1) * (users - 1))
        of_seeds = max(users * by_seed.var(ddof=1), rest)
    both = of_seeds + max(of_users - rest, 0.0)
    spread = of_seeds**2 / max(seeds - 1, 1) + of_users**2 / (users - 1)
    return mean, float(np.sqrt(both / differences.size)), both**2 / spread if spread else np.inf


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """Judge the rows of a table as one family.

    Args:
        table: columns difference, se and df, among others.

    Returns:
        The table with family (its size), low and high (the simultaneous 95 % interval), p_corrected
        (two-sided t-test after Bonferroni), detectable (the true difference that is found with
        power .8) and verdict: "higher", "lower" or `NO_EFFECT`.
    """
    family = len(table)
    difference, se, df = (table[c].to_numpy(float) for c in ("difference", "se", "df"))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(difference == 0, 0.0, np.abs(difference) / se)
    p = np.minimum(1, family * 2 * stats.t.sf(t, df))
    reach = stats.t.isf(LEVEL / (2 * max(family, 1)), df)
    finding = np.where(difference > 0, "higher", "lower")
    return table.assign(
        family=family,
        low=difference - reach * se,
        high=difference + reach * se,
        p_corrected=p,
        detectable=(reach + stats.t.ppf(POWER, df)) * se,
        verdict=np.where(p < LEVEL, finding, NO_EFFECT),
    )
