"""Which answered pairs become edges: a threshold, the surest first, and limits on both sides."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dallrec_core.augmentation.calibration import Calibration
from dallrec_core.augmentation.data import Data
from dallrec_core.errors import UserError


def calibrated(frame: pd.DataFrame, calibration: Calibration) -> pd.DataFrame:
    """Replace ``p_yes`` by its calibrated value; what the model said stays as ``p_model``.

    ``answer`` stays too: it is what the model said, and not what we make of it.
    """
    return frame.assign(p_yes=calibration(frame["p_yes"]), p_model=frame["p_yes"])


def choose_threshold(judged: pd.DataFrame, precision: float = 0.75, least: int = 10) -> float:
    """The lowest probability from which on held-out pairs are right with this precision.

    :param judged: held-out training pairs with ``liked`` and ``p_yes`` (see `evaluate`); half of
        them are liked, so .5 is the precision of guessing.
    :returns: that threshold; if none reaches the precision, the one with the best, among those
        that at least `least` held-out pairs pass.
    """
    frame = judged.dropna(subset=["p_yes"]).sort_values("p_yes", ascending=False)
    p, right = frame["p_yes"].to_numpy(), frame["liked"].to_numpy(float).cumsum()
    passed = np.arange(1, len(p) + 1)
    last_of_tie = np.append(p[1:] != p[:-1], True)[: len(p)]
    usable = np.flatnonzero((passed >= min(least, len(p))) & last_of_tie)
    if not len(usable):
        raise UserError("no held-out pair was answered, so no threshold can be chosen")
    rate = right[usable] / passed[usable]
    good = usable[rate >= precision]
    return float(p[good[-1] if len(good) else usable[np.argmax(rate)]])


Limits = tuple[np.ndarray, np.ndarray]
"""How many pairs may be added at most: of each user [U], and of each item [N]."""


def share_limits(data: Data, max_share: float) -> Limits | None:
    """Allow every user and item `max_share` of its training interactions, but at least one pair.

    :returns: ``max(1, floor(max_share * degree))``; None (no limit) for 0.
    """
    if not max_share:
        return None
    # 0.3 * 10 is 2.9999...; a hair is added before rounding down
    of_user, of_item = (
        np.maximum(1, np.floor(max_share * degree + 1e-9).astype(np.int64))
        for degree in (data.user_degree, data.item_degree)
    )
    return of_user, of_item


def within(
    ranked: pd.DataFrame, max_per_user: int = 0, limits: Limits | None = None
) -> pd.DataFrame:
    """Keep of pairs (user, item), the surest first, those that no limit forbids.

    A user's limits are applied first, then those of the items to what is left.
    """
    if max_per_user > 0:
        ranked = ranked.groupby("user", sort=False).head(max_per_user)
    for column, most in zip(("user", "item"), limits or (), strict=False):
        place = ranked.groupby(column).cumcount()
        ranked = ranked[place.to_numpy() < most[ranked[column]]]
    return ranked


def select(
    frame: pd.DataFrame,
    threshold: float = 0.5,
    max_per_user: int = 5,
    limits: Limits | None = None,
) -> pd.DataFrame:
    """Mark the pairs to add: probability at or above the threshold, the highest first.

    Their ``weight`` is that probability. Of the ``paper`` strategy only each item's first Yes
    counts, with weight 1, as in the authors' loop.

    :param max_per_user: at most so many per user; 0 for no limit.
    :param limits: see `share_limits`.
    """
    out = frame.copy()
    usable = frame["p_yes"] >= threshold  # NaN (unparsed) compares False
    paper = frame["strategy"] == "paper"
    usable &= ~(paper & frame["item"].where(paper & usable).duplicated())
    # an isotonic calibration has steps; on one step the model's own probability decides
    order = ["p_yes", *(["p_model"] if "p_model" in frame else []), "user", "item"]
    rising = [column in ("user", "item") for column in order]
    ranked = frame[usable].sort_values(order, ascending=rising)
    out["added"] = out.index.isin(within(ranked, max_per_user, limits).index)
    out["weight"] = frame["p_yes"].where(~paper, 1.0).astype("float32")
    return out


def report(frame: pd.DataFrame) -> dict[str, int]:
    """How many questions were asked, how they were answered, and how many pairs are added."""
    answers = frame["answer"].value_counts()
    counts = {word: int(answers.get(word, 0)) for word in ("yes", "no", "unparsed")}
    chosen = frame[frame["added"]]
    return {
        "asked": len(frame),
        **counts,
        "added": len(chosen),
        "users_with_added": int(chosen["user"].nunique()),
        "items_with_added": int(chosen["item"].nunique()),
    }
