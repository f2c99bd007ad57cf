"""Edges for the same users, as many and with the same weights, but with other items."""

from __future__ import annotations

import numpy as np
import pandas as pd


def listed(users: np.ndarray, items: np.ndarray) -> pd.DataFrame:
    """Return ranked lists, users [n] and items [n, depth], as choices for `deal`; -1 is no item."""
    frame = pd.DataFrame({"user": np.repeat(users, items.shape[1]), "item": items.ravel()})
    return frame[frame["item"] >= 0]


def deal(like: pd.DataFrame, choices: pd.DataFrame) -> pd.DataFrame:
    """Replace the items of edges: each user keeps the number of edges and their weights.

    Args:
        like: the edges to match, columns user, item [, weight; default 1].
        choices: new items in order of preference, columns user, item. A user's first choice gets
            the largest weight.

    Returns:
        user, item (int32), weight (float32), by user and item; fewer than `like` where a user's
        choices run out.
    """
    like = like if "weight" in like else like.assign(weight=1)
    wanted = like.sort_values(["user", "weight", "item"], ascending=[True, False, True])
    wanted = wanted[["user", "weight"]].assign(place=wanted.groupby("user").cumcount())
    offered = choices[["user", "item"]].assign(place=choices.groupby("user").cumcount())
    made = wanted.merge(offered, on=["user", "place"])[["user", "item", "weight"]]
    kinds = {"user": np.int32, "item": np.int32, "weight": np.float32}
    return made.astype(kinds).sort_values(["user", "item"], ignore_index=True)


def shortage(like: pd.DataFrame, made: pd.DataFrame) -> int:
    """Return how many users have fewer edges in `made` than in `like`."""
    counts = [frame["user"].value_counts() for frame in (like, made)]
    return int((counts[0] > counts[1].reindex(counts[0].index, fill_value=0)).sum())
