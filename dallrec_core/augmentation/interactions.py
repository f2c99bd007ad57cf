"""User-item interactions written by a language model (paper: first augmentation).

Given what a user liked and disliked in training, would they like this item? The answer is read from
the probabilities of the first answer token, so every question yields a number, not only a word.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pandas as pd

from dallrec_core.augmentation.asking import Asker
from dallrec_core.augmentation.candidates import (
    Scorer,
    base_scores,
    candidates,
    cold_items,
    counting_scores,
    parts,
    random_users,
)
from dallrec_core.augmentation.prompts import Prompt, record, yes_no_answer
from dallrec_core.augmentation.view import TrainingView, Truth
from dallrec_core.errors import UserError

__all__ = ["STRATEGIES", "ask", "augment", "counting_scores", "disagreement", "evaluate",
           "instructions", "parts", "prompt_key", "true_quality"]  # fmt: skip

STRATEGIES = ("candidates", "cold_items", "paper")
"""Ways to choose the pairs that are asked about, by name."""


def instructions(
    data: TrainingView, pairs: pd.DataFrame, wording: str = "default", seed: int = 0
) -> list[dict[str, str]]:
    """Turn labelled training pairs (user, item, liked) into Alpaca records."""
    records = []
    for user, item, liked in pairs[["user", "item", "liked"]].itertuples(index=False):
        answer = yes_no_answer(liked, data.noun, wording)
        records.append(record(data.prompt(user, item, wording, seed).text, answer, wording))
    return records


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
    users, items = pairs["user"].to_numpy("int32"), pairs["item"].to_numpy("int32")
    both = zip(users.tolist(), items.tolist(), strict=True)
    prompts = [data.prompt(user, item, asker.wording, seed) for user, item in both]
    p = asker.p_yes(prompts)
    answer = np.where(np.isnan(p), "unparsed", np.where(p >= 0.5, "yes", "no"))
    frame = pd.DataFrame({"user": users, "item": items, "answer": answer})
    frame = frame.assign(p_yes=p.astype("float32"), added=False, strategy=strategy)
    return frame.assign(prompt_key=[prompt_key(prompt) for prompt in prompts])


def augment(
    asker: Asker,
    data: TrainingView,
    *,
    strategy: str = "candidates",
    budget: int = 4000,
    base: Any = None,
    seed: int = 0,
    max_rounds: int = 50,
) -> pd.DataFrame:
    """Ask at most `budget` questions about unseen pairs; schema `added`, nothing added yet.

    ``candidates``: a fitted `base` recommender proposes (see `candidates.candidates`).
    ``cold_items``: only items without training interactions (see `candidates.cold_items`).
    ``paper``: for each item random users, until one Yes and one No have been found. All unfinished
    items are asked about in one batch per round, for at most `max_rounds` rounds.

    Raises:
        UserError: for an unknown strategy, or ``candidates`` without a base recommender.
    """
    if strategy not in STRATEGIES:
        raise UserError(f"unknown strategy {strategy!r}; use one of: {', '.join(STRATEGIES)}")
    if strategy == "paper":
        return _paper(asker, data, budget, max_rounds, seed)
    if strategy == "cold_items":
        return ask(asker, data, cold_items(data, budget=budget, seed=seed), seed, strategy)
    if base is None:
        raise UserError("strategy 'candidates' needs a fitted base recommender")
    return ask(asker, data, candidates(data, base, budget=budget, seed=seed), seed)


def _paper(
    asker: Asker, data: TrainingView, budget: int, max_rounds: int, seed: int
) -> pd.DataFrame:
    answered = {"yes": np.zeros(data.n_items, bool), "no": np.zeros(data.n_items, bool)}
    rounds: list[pd.DataFrame] = []
    for users in random_users(data, max_rounds, seed).T:
        items = np.flatnonzero(~(answered["yes"] & answered["no"]) & (users >= 0))
        items = items[: budget - sum(map(len, rounds))]
        if not len(items):
            break
        pairs = pd.DataFrame({"user": users[items], "item": items})
        rounds.append(ask(asker, data, pairs, seed, "paper").assign(round=len(rounds)))
        for word, done in answered.items():
            done[rounds[-1].loc[rounds[-1]["answer"] == word, "item"]] = True
    if not rounds:
        raise UserError(f"no question could be asked with a budget of {budget}")
    return pd.concat(rounds, ignore_index=True)


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
        model), oracle_auc; and the pairs with ``p_yes`` (for `selection.choose_threshold`).
    """
    asked = ask(asker, data, pairs, seed)
    judged = pairs.reset_index(drop=True).assign(p_yes=asked["p_yes"], answer=asked["answer"])
    liked, unparsed = judged["liked"], judged["answer"] == "unparsed"
    scores = {
        "n": len(judged),
        "auc": _auc(liked, judged["p_yes"].fillna(0.5)),
        "accuracy": float((((judged["answer"] == "yes") == liked) & ~unparsed).mean()),
        "unparsed": int(unparsed.sum()),
        "counting_auc": _auc(liked, counting_scores(data, judged)),
    }
    if taste is not None:
        scores["oracle_auc"] = _auc(liked, taste[judged["user"], judged["item"]])
    return scores, judged


def _auc(liked: pd.Series, scores: Any) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(liked, scores)) if liked.nunique() == 2 else float("nan")


# ---------------------------------------------------------------- what the answers add


def random_unseen(data: TrainingView, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw n user and item codes uniformly among pairs outside training (int64 `[n]` each)."""
    rng = np.random.default_rng([seed, 30])
    users = rng.integers(data.n_users, size=4 * n + 100)
    items = rng.integers(data.n_items, size=len(users))
    unseen = ~data.seen(users, items)
    return users[unseen][:n], items[unseen][:n]


def true_quality(
    answers: pd.DataFrame, truth: Truth, data: TrainingView, seed: int = 0
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
        liked = taste >= truth.liked_from
        out[name] = {"pairs": len(taste), "mean taste": _mean(taste), "really liked": _mean(liked)}
    return out


def _mean(values: Any) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def disagreement(answers: pd.DataFrame, base: Scorer | Any, data: TrainingView) -> dict[str, float]:
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
    known = (data.item_degree[answers["item"]] > 0) & answers["p_yes"].notna()
    frame = answers[known].reset_index(drop=True)
    frame = frame.assign(base=base_scores(frame, base, data))
    by_user = frame.groupby("user")
    rank = by_user["base"].rank(ascending=False, method="first")
    both = (rank <= by_user["added"].transform("sum"))[frame["added"]]
    return {
        "pairs": len(frame),
        "rank_correlation": float(frame["p_yes"].corr(frame["base"], method="spearman")),
        "refused": _mean(frame["answer"] == "no"),
        "chosen_by_both": _mean(both),
    }
