"""How good the added pairs really are, where every taste is known (embedded dataset only)."""

from __future__ import annotations

import numpy as np
import pandas as pd

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
