"""Answers of a language model of a chosen quality, made from known tastes (embedded dataset only).

How good must a language model be before what it writes is worth asking for? Where tastes are known,
the question has an answer: mix the taste for each asked pair with noise until the answers tell
liked from disliked as well as wanted, and add the surest pairs, as if they had been written. The
quality is the AUC on the very pairs that were asked about; noise-free taste has 1, a coin .5.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.optimize import bisect

from dallrec_core.augmentation.candidates import candidates
from dallrec_core.augmentation.selection import Limits, within
from dallrec_core.augmentation.view import TrainingView, Truth
from dallrec_core.errors import UserError


def asked_auc(asked: pd.DataFrame, score: np.ndarray, truth: Truth) -> float:
    """Return how well scores `[n]` of asked pairs (user, item) tell those really liked, as AUC.

    Pairs without a score (NaN) count as in the middle. NaN where all pairs or none are liked.
    """
    from sklearn.metrics import roc_auc_score

    liked = truth.taste[asked["user"], asked["item"]] >= truth.liked_from
    score = np.where(np.isnan(score), np.nanmedian(score), score)
    return float(roc_auc_score(liked, score)) if 0 < liked.sum() < len(liked) else float("nan")


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
    if auc == 1 or short(np.pi / 2) >= 0:
        return mixed(0 if auc == 1 else np.pi / 2)
    return mixed(bisect(short, 0, np.pi / 2, xtol=1e-4))


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


def proposed(data: TrainingView, train: pd.DataFrame, budget: int, seed: int = 0) -> pd.DataFrame:
    """Return the pairs (user, item) that EASE would ask about, had it seen only `train`.

    Args:
        data: sizes and items; its own training interactions are not looked at.
        train: columns user, item, rating: what is left to learn from.
        budget: most pairs.
        seed: as for `candidates.candidates`.
    """
    from dallrec_core.recommenders import Graph, build

    base = build("EASE", Graph.from_frame(train, data.n_users, data.n_items))
    return candidates(replace(data, train=train), base, budget=budget, seed=seed)
