"""What the language model adds: to the base recommender's opinion, and to what is really liked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from dallrec_core.augmentation.candidates import Scorer, scorer_of
from dallrec_core.augmentation.data import Data, Truth


def random_unseen(data: Data, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw n user and item codes uniformly among pairs outside training (int64 `[n]` each)."""
    rng = np.random.default_rng([seed, 30])
    users = rng.integers(data.n_users, size=4 * n + 100)
    items = rng.integers(data.n_items, size=len(users))
    unseen = ~data.seen(users, items)
    return users[unseen][:n], items[unseen][:n]


def true_quality(
    answers: pd.DataFrame, truth: Truth, data: Data, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Compare the tastes for added pairs, for asked ones, and for pairs drawn at random.

    Args:
        answers: schema `added`.
        truth: tastes `[U, N]`, standardised per viewer, and from which taste on a film is liked.
        data: the training view, to keep random pairs out of training.
        seed: of the random pairs.

    Returns:
        By group: pairs, mean taste (in standard deviations), and the share really liked.
    """
    added = answers[answers["added"]]
    groups = {
        "random": random_unseen(data, 10_000, seed),
        "asked": (answers["user"].to_numpy(), answers["item"].to_numpy()),
        "added": (added["user"].to_numpy(), added["item"].to_numpy()),
    }
    out: dict[str, dict[str, float]] = {}
    for name, (users, items) in groups.items():
        taste = truth.taste[users, items]
        out[name] = {
            "pairs": len(taste),
            "mean taste": float(taste.mean()) if len(taste) else float("nan"),
            "really liked": float((taste >= truth.liked_from).mean())
            if len(taste)
            else float("nan"),
        }
    return out


def disagreement(answers: pd.DataFrame, base: Scorer | Any, data: Data) -> dict[str, float]:
    """Compare the language model with the base recommender on the pairs that were asked about.

    Where they agree, the base could have added the pairs alone. Pairs with items without training
    interactions are left out: the base has no opinion on them.

    Args:
        answers: schema `added`.
        base: as for `candidates.candidates`.
        data: the training view.

    Returns:
        pairs that both have an opinion on; rank_correlation, Spearman's, of p_yes and the base's
        score standardised per user; refused, the share that the language model answered with no;
        and chosen_by_both, of the added pairs the share that would also be there had the base
        chosen as many of each user's asked pairs by its own score.
    """
    from scipy.stats import spearmanr

    known = (data.item_degree[answers["item"]] > 0) & answers["p_yes"].notna()
    frame = answers[known].reset_index(drop=True)
    frame = frame.assign(base=_base_scores(frame, base, data))
    rank = frame.groupby("user")["base"].rank(ascending=False, method="first")
    added = frame["added"].to_numpy(bool)
    wanted = frame.groupby("user")["added"].transform("sum")
    both = (rank <= wanted).to_numpy()[added]
    nan = float("nan")
    several = frame["base"].nunique() > 1 and frame["p_yes"].nunique() > 1
    return {
        "pairs": len(frame),
        "rank_correlation": float(spearmanr(frame["p_yes"], frame["base"])[0]) if several else nan,
        "refused": float((frame["answer"] == "no").mean()) if len(frame) else nan,
        "chosen_by_both": float(both.mean()) if added.any() else nan,
    }


def _base_scores(frame: pd.DataFrame, base: Scorer | Any, data: Data) -> np.ndarray:
    """The base's score of each pair, standardised over all items of its user; float64 [n]."""
    scorer, out = scorer_of(base), np.zeros(len(frame))
    users, place = np.unique(frame["user"].to_numpy(), return_inverse=True)
    items = frame["item"].to_numpy()
    block = max(1, 4_000_000 // max(data.n_items, 1))
    for start in range(0, len(users), block):
        scores = scorer(users[start : start + block])
        spread = scores.std(axis=1, keepdims=True)
        scores = (scores - scores.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1)
        rows = np.flatnonzero((place >= start) & (place < start + block))
        out[rows] = scores[place[rows] - start, items[rows]]
    return out
