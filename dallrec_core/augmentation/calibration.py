"""Turn p(yes) into a probability that holds, and measure how well it does.

A model that says .8 should be right eight times in ten. On training pairs that no example showed we
know the answers, so a monotone map from what the model says to how often it is right can be fitted
on one half of them and judged on the other (Guo et al. 2017; Zadrozny and Elkan 2002).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dallrec_core.errors import UserError

METHODS = ("isotonic", "temperature", "none")
"""Ways to calibrate, by name."""

_EDGE = 1e-6  # probabilities are kept this far from 0 and 1 before their logit is taken


@dataclass(frozen=True)
class Calibration:
    """A monotone map from p(yes) to a calibrated probability; made by `fit`."""

    method: str
    """One of `METHODS`."""
    temperature: float = 1.0
    """Logits are divided by it; infinite where the answers say nothing about the truth."""
    knots: tuple[tuple[float, float], ...] = ()
    """The isotonic map: (p, calibrated p), linear in between and flat outside."""

    def __call__(self, p: Any) -> np.ndarray:
        """Map probabilities [n] to calibrated ones, float32 [n]; NaN stays NaN."""
        p = np.asarray(p, dtype=float)
        if self.method == "isotonic":
            x, y = np.array(self.knots).T
            p = np.where(np.isnan(p), np.nan, np.interp(p, x, y))
        elif self.method == "temperature":
            p = 1 / (1 + np.exp(-_logit(p) / self.temperature))
        return p.astype(np.float32)


def _logit(p: np.ndarray) -> np.ndarray:
    p = np.clip(p, _EDGE, 1 - _EDGE)
    return np.log(p / (1 - p))


def fit(p: Any, liked: Any, method: str = "isotonic") -> Calibration:
    """Fit a calibration on answered pairs; pairs with p NaN (no answer) are left out.

    Args:
        p: what the model said, [n] in [0, 1].
        liked: whether it was so, bool [n].
        method: `isotonic` (any rising staircase; wants a hundred pairs or more), `temperature` (one
            number, cannot move a probability of one half), or `none`.

    Raises:
        UserError: for an unknown method, or where no pair was answered.
    """
    if method not in METHODS:
        raise UserError(f"unknown calibration {method!r}; use one of: {', '.join(METHODS)}")
    p, liked = _answered(p, liked)
    if method == "isotonic":
        from sklearn.isotonic import IsotonicRegression

        map_ = IsotonicRegression(y_min=0, y_max=1).fit(p, liked)
        knots = zip(map_.X_thresholds_.tolist(), map_.y_thresholds_.tolist(), strict=True)
        return Calibration(method, knots=tuple(knots))
    if method == "none" or liked.all() or not liked.any():
        return Calibration("none")  # one class alone would drive the temperature to zero
    from sklearn.linear_model import LogisticRegression

    # without an intercept and a penalty, the coefficient of the logit is 1 / temperature
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-8)
    slope = float(model.fit(_logit(p)[:, None], liked).coef_[0, 0])
    return Calibration(method, temperature=1 / slope if slope > 0 else float("inf"))


def _answered(p: Any, liked: Any) -> tuple[np.ndarray, np.ndarray]:
    p, liked = np.asarray(p, dtype=float), np.asarray(liked, dtype=bool)
    known = ~np.isnan(p)
    if not known.any():
        raise UserError("no held-out pair was answered, so nothing can be said about calibration")
    return p[known], liked[known]


def halves(judged: pd.DataFrame, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Deal held-out pairs (column ``liked``) into two halves with equally many likes, at random.

    Returns:
        the half to fit a calibration on, and the half to judge it and choose a threshold on.
    """
    order = np.random.default_rng([seed, 40]).permutation(len(judged))
    liked = judged["liked"].to_numpy(bool)[order]
    order = order[np.argsort(liked, kind="stable")]  # dealt like cards, class by class
    return judged.iloc[np.sort(order[::2])], judged.iloc[np.sort(order[1::2])]


def reliability(p: Any, liked: Any, bins: int = 10) -> pd.DataFrame:
    """Compare what was said with what was so, in equally wide bins of p(yes).

    Returns:
        one row per bin that holds pairs: low and high (its edges), n, said (mean p), liked (share),
        and the 95 % Wilson interval of that share, from and to.
    """
    from statsmodels.stats.proportion import proportion_confint

    p, liked = _answered(p, liked)
    place = np.minimum((p * bins).astype(int), bins - 1)
    frame = pd.DataFrame({"bin": place, "said": p, "liked": liked}).groupby("bin", as_index=False)
    table = frame.agg(n=("said", "size"), said=("said", "mean"), liked=("liked", "mean"))
    table["from"], table["to"] = proportion_confint(
        table["liked"] * table["n"], table["n"], method="wilson"
    )
    edges = table.pop("bin")
    return table.assign(low=edges / bins, high=(edges + 1) / bins)


def expected_calibration_error(p: Any, liked: Any, bins: int = 10) -> float:
    """Mean distance between what was said and what was so, over bins weighted by their pairs.

    The gap of bin b, `abs(said_b - liked_b)`, counts `n_b / n` (Naeini et al. 2015); 0 is best.
    """
    table = reliability(p, liked, bins)
    gaps = (table["said"] - table["liked"]).abs()
    return float((gaps * table["n"]).sum() / table["n"].sum())


def precision_at_edge(p: Any, liked: Any, threshold: float) -> dict[str, float]:
    """Of pairs that the threshold would turn into edges: how many, and the share really liked.

    Returns:
        pairs, precision, and its 95 % Wilson interval, low and high (NaN without any pair).
    """
    from statsmodels.stats.proportion import proportion_confint

    p, liked = _answered(p, liked)
    right, n = int(liked[p >= threshold].sum()), int((p >= threshold).sum())
    low, high = proportion_confint(right, n, method="wilson") if n else (np.nan, np.nan)
    precision = right / n if n else float("nan")
    return {"pairs": n, "precision": precision, "low": float(low), "high": float(high)}


def beats_guessing(edge: Mapping[str, float]) -> bool:
    """Tell whether the interval of `precision_at_edge` lies above one half (NaN does not).

    One half is what guessing reaches on pairs of which half are liked, as held-out pairs are.
    """
    return edge["low"] > 0.5
