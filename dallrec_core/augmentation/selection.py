"""From p(yes) to an edge: calibration, a threshold, the surest first, and limits on both sides.

A model that says .8 should be right eight times in ten. On training pairs that no example showed we
know the answers, so a monotone map from what the model says to how often it is right can be fitted
on one half of them and judged on the other (Guo et al. 2017; Zadrozny and Elkan 2002). The half
that fits the map also sets the threshold from which on answers are believed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from dallrec_core.augmentation.view import TrainingView
from dallrec_core.data.checks import check_choice
from dallrec_core.errors import UserError

METHODS = ("isotonic", "temperature", "none")
"""Ways to calibrate, by name."""

_EDGE = 1e-6  # probabilities are kept this far from 0 and 1 before their logit is taken


# ---------------------------------------------------------------- calibration


class Calibration(NamedTuple):
    """A monotone map from p(yes) to a calibrated probability; made by `fit_calibration`."""

    temperature: float = 1.0
    """Logits are divided by it; infinite where the answers say nothing about the truth."""
    knots: tuple[tuple[float, float], ...] = ()
    """The isotonic map: (p, calibrated p), linear in between and flat outside."""

    def __call__(self, p: Any) -> np.ndarray:
        """Map probabilities [n] to calibrated ones, float32 [n]; NaN stays NaN."""
        p = np.asarray(p, dtype=float)
        if self.knots:
            p = np.interp(p, *np.transpose(self.knots))
        elif self.temperature != 1:
            p = 1 / (1 + np.exp(-_logit(p) / self.temperature))
        return p.astype(np.float32)


def _logit(p: np.ndarray) -> np.ndarray:
    p = np.clip(p, _EDGE, 1 - _EDGE)
    return np.log(p / (1 - p))


def fit_calibration(p: Any, liked: Any, method: str = "isotonic") -> Calibration:
    """Fit a calibration on answered pairs; pairs with p NaN (no answer) are left out.

    Args:
        p: what the model said, [n] in [0, 1].
        liked: whether it was so, bool [n].
        method: `isotonic` (any rising staircase; wants a hundred pairs or more), `temperature` (one
            number, cannot move a probability of one half), or `none`.

    Raises:
        UserError: for an unknown method, or where no pair was answered.
    """
    check_choice("calibration", method, METHODS)
    p, liked = _answered(p, liked)
    if method == "isotonic":
        from sklearn.isotonic import IsotonicRegression

        stairs = IsotonicRegression(y_min=0, y_max=1).fit(p, liked)
        knots = zip(stairs.X_thresholds_.tolist(), stairs.y_thresholds_.tolist(), strict=True)
        return Calibration(knots=tuple(knots))
    if method == "none" or liked.all() or not liked.any():
        return Calibration()  # one class alone would drive the temperature to zero
    from sklearn.linear_model import LogisticRegression

    # without an intercept and a penalty, the coefficient of the logit is 1 / temperature
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-8)
    slope = float(model.fit(_logit(p)[:, None], liked).coef_[0, 0])
    return Calibration(temperature=1 / slope if slope > 0 else float("inf"))


def _answered(p: Any, liked: Any) -> tuple[np.ndarray, np.ndarray]:
    p, liked = np.asarray(p, dtype=float), np.asarray(liked, dtype=bool)
    answered = ~np.isnan(p)
    if not answered.any():
        raise UserError("no held-out pair was answered: no calibration, no threshold")
    return p[answered], liked[answered]


def halves(judged: pd.DataFrame, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Deal held-out pairs (column ``liked``) into two halves with equally many likes, at random.

    Returns:
        the half to fit a calibration and choose a threshold on, and the half to judge both on.
    """
    order = np.random.default_rng([seed, 40]).permutation(len(judged))
    liked = judged["liked"].to_numpy(bool)[order]
    order = order[np.argsort(liked, kind="stable")]  # dealt like cards, class by class
    return judged.iloc[np.sort(order[::2])], judged.iloc[np.sort(order[1::2])]


def calibrated(frame: pd.DataFrame, calibration: Calibration) -> pd.DataFrame:
    """Replace ``p_yes`` by its calibrated value; what the model said stays as ``p_model``.

    ``answer`` stays too: it is what the model said, and not what we make of it.
    """
    return frame.assign(p_yes=calibration(frame["p_yes"]), p_model=frame["p_yes"])


# ---------------------------------------------------------------- how far answers can be believed


def wilson(count: Any, n: Any) -> tuple[Any, Any]:
    """95 % Wilson interval of a share, low and high; of numbers or arrays, NaN where n is 0."""
    from statsmodels.stats.proportion import proportion_confint

    with np.errstate(divide="ignore", invalid="ignore"):
        return proportion_confint(np.asarray(count), np.asarray(n), method="wilson")


def reliability(p: Any, liked: Any, bins: int = 10) -> pd.DataFrame:
    """Compare what was said with what was so, in equally wide bins of p(yes).

    Returns:
        one row per bin that holds pairs: low and high (its edges), n, said (mean p), liked (share),
        and the 95 % Wilson interval of that share, from and to.
    """
    p, liked = _answered(p, liked)
    place = np.minimum((p * bins).astype(int), bins - 1)
    frame = pd.DataFrame({"bin": place, "said": p, "liked": liked}).groupby("bin", as_index=False)
    table = frame.agg(n=("said", "size"), said=("said", "mean"), liked=("liked", "mean"))
    table["from"], table["to"] = wilson(table["liked"] * table["n"], table["n"])
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
    p, liked = _answered(p, liked)
    right, n = int(liked[p >= threshold].sum()), int((p >= threshold).sum())
    low, high = wilson(right, n)
    precision = right / n if n else float("nan")
    return {"pairs": n, "precision": precision, "low": float(low), "high": float(high)}


def against_rule(p: Any, rule: Any, liked: Any, threshold: float) -> dict[str, float]:
    """Compare the pairs at or above a threshold with as many that a rule scores highest.

    Pairs that both choose cannot tell them apart. Of the others each has equally many, and no pair
    is in both, so the shares liked are two independent proportions.

    Args:
        p: what the model said, [n] in [0, 1].
        rule: scores, [n]; ties go to the earlier pair.
        liked: whether it was so, bool [n].
        threshold: of `p`.

    Returns:
        precision of the rule, and difference: how much higher that of the model is, with its 95 %
        interval (Newcombe 1998), low and high.
    """
    from statsmodels.stats.proportion import confint_proportions_2indep

    liked, chosen = np.asarray(liked, bool), np.asarray(p, float) >= threshold
    other = np.zeros_like(chosen)
    other[np.argsort(-np.asarray(rule), kind="stable")[: chosen.sum()]] = True
    n, alone = int(chosen.sum()), int((chosen & ~other).sum())
    precision = float(liked[other].mean()) if n else float("nan")
    out = {"precision": precision, "difference": 0.0, "low": 0.0, "high": 0.0}
    if alone:
        ours, theirs = (int(liked[a & ~b].sum()) for a, b in ((chosen, other), (other, chosen)))
        ends = confint_proportions_2indep(ours, alone, theirs, alone, method="newcomb")
        of_all = [(ours - theirs) / n, *(alone / n * end for end in ends)]
        out |= dict(zip(("difference", "low", "high"), map(float, of_all), strict=True))
    return out


def choose_threshold(judged: pd.DataFrame, precision: float = 0.75, least: int = 10) -> float:
    """The lowest probability from which on held-out pairs are right with this precision.

    Args:
        judged: held-out training pairs with ``liked`` and ``p_yes`` (`interactions.evaluate`); half
            of them are liked, so .5 is the precision of guessing.
        precision: wanted.
        least: pairs that must pass.

    Returns:
        that threshold; if none reaches the precision, the one with the best, among those that at
        least `least` held-out pairs pass.

    Raises:
        UserError: where no pair was answered.
    """
    p, liked = _answered(judged["p_yes"], judged["liked"])
    # one row per probability, the highest first: how many pairs pass it, and how many are right
    steps = pd.Series(liked).groupby(p).agg(["size", "sum"]).sort_index(ascending=False).cumsum()
    rate = (steps["sum"] / steps["size"])[steps["size"] >= min(least, len(p))]
    good = rate.index[rate >= precision]
    return float(good[-1] if len(good) else rate.idxmax())


# ---------------------------------------------------------------- which pairs become edges

Limits = tuple[np.ndarray, np.ndarray]
"""How many pairs may be added at most: of each user [U], and of each item [N]."""


def share_limits(data: TrainingView, max_share: float) -> Limits | None:
    """Allow every user and item `max_share` of its training interactions, but at least one pair.

    Returns:
        ``max(1, floor(max_share * degree))``; None (no limit) for 0.
    """
    if not max_share:
        return None

    def most(degree: np.ndarray) -> np.ndarray:
        # 0.3 * 10 is 2.9999...; a hair is added before rounding down
        return np.maximum(1, np.floor(max_share * degree + 1e-9).astype(np.int64))

    return most(data.user_degree), most(data.item_degree)


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
    frame: pd.DataFrame, threshold: float = 0.5, max_per_user: int = 5, limits: Limits | None = None
) -> pd.DataFrame:
    """Mark the pairs to add: probability at or above the threshold, the highest first.

    Their ``weight`` is that probability. The strategy ``paper`` ends as the authors' loop does: the
    first Yes of each item is added with weight 1, whatever the threshold and the limits.

    Args:
        frame: answered pairs, schema `added`.
        threshold: the lowest probability that is believed.
        max_per_user: at most so many per user; 0 for no limit.
        limits: see `share_limits`.
    """
    out = frame.copy()
    paper = frame["strategy"] == "paper"
    first = frame[paper & (frame["answer"] == "yes")].drop_duplicates("item")
    usable = ~paper & (frame["p_yes"] >= threshold)  # NaN (unparsed) compares False
    # an isotonic calibration has steps; on one step the model's own probability decides
    order = ["p_yes", *(["p_model"] if "p_model" in frame else []), "user", "item"]
    rising = [column in ("user", "item") for column in order]
    ranked = frame[usable].sort_values(order, ascending=rising)
    added = first.index.union(within(ranked, max_per_user, limits).index)
    out["added"] = out.index.isin(added)
    out["weight"] = frame["p_yes"].where(~paper, 1.0).astype("float32")
    return out


def report(frame: pd.DataFrame) -> dict[str, int]:
    """How many questions were asked, how they were answered, and how many pairs are added."""
    answers, chosen = frame["answer"].value_counts(), frame[frame["added"]]
    return {
        "asked": len(frame),
        **{word: int(answers.get(word, 0)) for word in ("yes", "no", "unparsed")},
        "added": len(chosen),
        "users_with_added": int(chosen["user"].nunique()),
        "items_with_added": int(chosen["item"].nunique()),
    }
