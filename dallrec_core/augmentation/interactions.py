"""User-item interactions written by a language model (paper: first augmentation).

Given what a user liked and disliked in training, would they like this item? The answer is read from
the probabilities of the first answer token, so every question yields a number, not only a word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dallrec_core.augmentation import candidates
from dallrec_core.augmentation.answers import Asker
from dallrec_core.augmentation.prompts import Prompt, record, yes_no_answer
from dallrec_core.augmentation.view import Parts, TrainingView, Truth
from dallrec_core.data.checks import check_choice
from dallrec_core.errors import UserError

if TYPE_CHECKING:
    from dallrec_core.recommenders.base import Recommender

STRATEGIES = ("candidates", "cold_items", "paper")
"""Ways to choose the pairs that are asked about, by name."""


# ---------------------------------------------------------------- examples and held-out pairs


def parts(
    data: TrainingView, n: int = 64, held_out: int = 200, seed: int = 0, per_user: int = 1
) -> Parts:
    """Draw training pairs for fine-tuning and others for evaluation, half liked, half not.

    Up to `per_user` pairs of one user, who is then read once for them, and more only when users run
    out; at least half of what a user liked stays to be shown. Held-out pairs come from users
    without an example where possible. Where disliked pairs run short (or no ratings exist), unseen
    items drawn uniformly stand in for them (``origin`` is "drawn" instead of "rated").

    Returns:
        two frames with user, item (int32), liked (bool), origin, and remarks.

    Raises:
        UserError: if no user has two liked training items.
    """
    users = np.random.default_rng([seed, 0]).permutation(np.flatnonzero(data.user_degree >= 2))
    taken: dict[int, set[int]] = {user: set() for user in users.tolist()}
    examples = _draw(data, n, np.repeat(users, per_user), taken, [seed, 1])
    if examples["liked"].nunique() < 2:
        raise UserError("no training user has enough liked items to make yes and no examples")
    shown = np.isin(users, examples["user"])
    users = np.concatenate([users[~shown], users[shown]])
    others = _draw(data, held_out, np.repeat(users, per_user), taken, [seed, 2])
    notes = []
    for name, frame, wanted in (("examples", examples, n), ("held-out pairs", others, held_out)):
        if len(frame) < wanted:
            notes.append(f"{name}: only {len(frame)} of {wanted} could be drawn")
        if drawn := int((frame["origin"] == "drawn").sum()):
            notes.append(f"{name}: {drawn} of the no answers are unseen items drawn at random")
    if both := len(set(examples["user"]) & set(others["user"])):
        notes.append(f"{both} users have both an example and a held-out pair")
    return Parts(examples, others, notes)


def _draw(
    data: TrainingView, n: int, users: np.ndarray, taken: dict[int, set[int]], seed: list[int]
) -> pd.DataFrame:
    """Draw n pairs that are not taken yet, and take them."""
    rng, want = np.random.default_rng(seed), {True: n - n // 2, False: n // 2}
    rows: list[tuple[int, int, bool, str]] = []
    for origin in ("rated", "rated", "rated", "drawn", "drawn", "drawn"):  # passes over all users
        for user in users.tolist():
            for liked in sorted((k for k in want if want[k]), key=lambda k: -want[k]):
                blindly = rng if origin == "drawn" else None
                pool = _pool(data, user, liked, taken[user], blindly)
                if pool:
                    item = pool[int(rng.integers(len(pool)))]
                    want[liked] -= 1
                    taken[user].add(item)
                    rows.append((user, item, liked, "rated" if liked else origin))
                    break
    frame = pd.DataFrame(rows, columns=["user", "item", "liked", "origin"])
    return frame.astype({"user": "int32", "item": "int32", "liked": bool})


def _pool(
    data: TrainingView, user: int, liked: bool, gone: set[int], blindly: np.random.Generator | None
) -> list[int]:
    """Items to draw a pair of this user from; half of the likes must remain to be shown.

    With `blindly`, unseen items that it draws stand in for disliked ones.
    """
    likes, dislikes = data.tastes(user)
    if len(likes) < 1 + liked:
        return []
    rated = likes if liked else dislikes
    if blindly and not liked:
        drawn = blindly.integers(0, data.n_items, size=20)
        rated = drawn[~data.seen(np.array(user), drawn)]
    elif 2 * sum(item in gone for item in rated.tolist()) >= len(rated) - liked:
        return []
    return [item for item in rated.tolist() if item not in gone]


def instructions(
    data: TrainingView, pairs: pd.DataFrame, wording: str = "default", seed: int = 0
) -> list[dict[str, str]]:
    """Turn labelled training pairs (user, item, liked) into Alpaca records."""
    answers = [yes_no_answer(liked, data.noun, wording) for liked in pairs["liked"]]
    asked = zip(data.prompts(pairs, wording, seed), answers, strict=True)
    return [record(prompt.text, answer, wording) for prompt, answer in asked]


def prompt_key(prompt: Prompt) -> str:
    """A short name of a question: 16 hexadecimal digits of its text's SHA-256."""
    return hashlib.sha256(prompt.text.encode()).hexdigest()[:16]


def ask(
    asker: Asker,
    data: TrainingView,
    pairs: pd.DataFrame,
    seed: int = 0,
    strategy: str = "candidates",
) -> pd.DataFrame:
    """Ask about every pair (user, item); schema `added`, in the order of `pairs`.

    ``answer`` is yes from a probability of one half on; "unparsed" where the model gives neither
    word any probability. Nothing is added yet: see `selection.select`.
    """
    prompts = data.prompts(pairs, asker.wording, seed)
    p = asker.p_yes(prompts)
    frame = pairs[["user", "item"]].astype("int32").reset_index(drop=True)
    frame["answer"] = np.where(np.isnan(p), "unparsed", np.where(p >= 0.5, "yes", "no"))
    frame = frame.assign(p_yes=p.astype("float32"), added=False, strategy=strategy)
    return frame.assign(prompt_key=[prompt_key(prompt) for prompt in prompts])


def augment(
    asker: Asker,
    data: TrainingView,
    *,
    strategy: str = "candidates",
    budget: int = 4000,
    base: Recommender | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Ask at most `budget` questions about unseen pairs; schema `added`, nothing added yet.

    ``candidates``: a fitted `base` recommender proposes (see `candidates.candidates`).
    ``cold_items``: only items without training interactions (see `candidates.cold_items`).
    ``paper``: for each item random users, until one Yes and one No have been found. All unfinished
    items are asked about in one batch per round, for at most `ROUNDS` rounds.

    Raises:
        UserError: for an unknown strategy.
    """
    check_choice("strategy", strategy, STRATEGIES)
    if strategy == "paper":
        return _paper(asker, data, budget, seed)
    if strategy == "cold_items":
        pairs = candidates.cold_items(data, budget=budget, seed=seed)
    else:
        assert base is not None, "the strategy 'candidates' needs a base recommender"
        pairs = candidates.candidates(data, base, budget=budget, seed=seed)
    return ask(asker, data, pairs, seed, strategy)


ROUNDS = 50
"""Users that the strategy ``paper`` asks about each item at most."""


def _paper(asker: Asker, data: TrainingView, budget: int, seed: int) -> pd.DataFrame:
    answered = {"yes": np.zeros(data.n_items, bool), "no": np.zeros(data.n_items, bool)}
    rounds: list[pd.DataFrame] = []
    for users in candidates.random_users(data, ROUNDS, seed).T:
        items = np.flatnonzero(~(answered["yes"] & answered["no"]) & (users >= 0))
        items = items[: budget - sum(map(len, rounds))]
        if not len(items):
            break
        pairs = pd.DataFrame({"user": users[items], "item": items})
        rounds.append(ask(asker, data, pairs, seed, "paper").assign(round=len(rounds)))
        for word, done in answered.items():
            done[rounds[-1].loc[rounds[-1]["answer"] == word, "item"]] = True
    return pd.concat(rounds, ignore_index=True)


# ---------------------------------------------------------------- measuring


def evaluate(
    asker: Asker,
    data: TrainingView,
    pairs: pd.DataFrame,
    seed: int = 0,
    taste: np.ndarray | None = None,
) -> tuple[dict[str, float], pd.DataFrame]:
    """Measure yes/no answers on labelled held-out pairs of `parts`.

    Args:
        asker: the model.
        data: the training view.
        pairs: user, item, liked.
        seed: of the histories shown.
        taste: true preference [U, N] where it is known, for the oracle's AUC.

    Returns:
        n, auc, accuracy, unparsed, counting_auc (attributes shared with the history, no language
        model), rating_auc (the item's mean rating by others in training), oracle_auc; and the pairs
        with ``p_yes`` (for `selection.choose_threshold`).
    """
    asked = ask(asker, data, pairs, seed)
    judged = pairs.reset_index(drop=True).assign(p_yes=asked["p_yes"], answer=asked["answer"])
    liked = judged["liked"]
    scores = {
        "n": len(judged),
        "auc": auc_of(liked, judged["p_yes"].fillna(0.5)),
        "accuracy": float((judged["answer"] == np.where(liked, "yes", "no")).mean()),
        "unparsed": int((judged["answer"] == "unparsed").sum()),
        "counting_auc": auc_of(liked, candidates.counting_scores(data, judged)),
        "rating_auc": auc_of(liked, candidates.mean_ratings(data, judged)),
    }
    if taste is not None:
        scores["oracle_auc"] = auc_of(liked, taste[judged["user"], judged["item"]])
    return scores, judged


def auc_of(positive: Any, scores: Any) -> float:
    """Return how well scores [n] tell positives (bool [n]) from the rest; NaN without both."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(positive, scores)) if 0 < np.sum(positive) < len(scores) else np.nan


# ---------------------------------------------------------------- what the answers add


def true_quality(
    answers: pd.DataFrame,
    truth: Truth,
    data: TrainingView,
    seed: int = 0,
    others: Mapping[str, pd.DataFrame] | None = None,
) -> dict[str, dict[str, float]]:
    """Compare the tastes for added pairs, for asked ones, and for pairs drawn at random.

    Args:
        answers: schema `added`.
        truth: tastes `[U, N]`, standardised per viewer, and from which taste on a film is liked.
        data: the training view, to keep random pairs out of training.
        seed: of the random pairs.
        others: more groups by name, columns user, item.

    Returns:
        By group: pairs, mean taste (in standard deviations), and the share really liked.
    """
    rng, n = np.random.default_rng([seed, 30]), 40_100
    drawn = {"user": rng.integers(data.n_users, size=n), "item": rng.integers(data.n_items, size=n)}
    unseen = pd.DataFrame(drawn)[~data.seen(drawn["user"], drawn["item"])]
    groups = {"random": unseen[:10_000], "asked": answers, "added": answers[answers["added"]]}
    groups |= others or {}
    out: dict[str, dict[str, float]] = {}
    for name, pairs in groups.items():
        taste = truth.taste[pairs["user"], pairs["item"]]
        liked = taste >= truth.liked_from
        out[name] = {"pairs": len(taste), "mean taste": _mean(taste), "really liked": _mean(liked)}
    return out


def _mean(values: Any) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
