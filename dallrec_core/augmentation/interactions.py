"""User-item interactions written by a language model (paper: first augmentation).

Given what a user liked and disliked in training, would they like this item? The answer is read from
the probabilities of the first answer token, so every question yields a number, not only a word.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pandas as pd

from dallrec_core.augmentation.candidates import candidates, random_users
from dallrec_core.augmentation.cold import cold_items
from dallrec_core.augmentation.data import Data
from dallrec_core.augmentation.instructions import record
from dallrec_core.augmentation.pairs import parts
from dallrec_core.augmentation.selection import (
    calibrated,
    choose_threshold,
    report,
    select,
    share_limits,
)
from dallrec_core.errors import UserError
from dallrec_core.prompts import NO_WORDS, YES_WORDS, Prompt, check_wording, yes_no_answer

__all__ = [
    "ask",
    "augment",
    "calibrated",
    "choose_threshold",
    "evaluate",
    "instructions",
    "parts",
    "report",
    "select",
    "share_limits",
]

STRATEGIES = ("candidates", "cold_items", "paper")
COLUMNS = ("user", "item", "answer", "p_yes", "added", "strategy", "prompt_key")


# ---------------------------------------------------------------- examples


def instructions(
    data: Data, pairs: pd.DataFrame, wording: str = "default", seed: int = 0
) -> list[dict[str, str]]:
    """Turn labelled training pairs (user, item, liked) into Alpaca records."""
    return [
        record(
            data.prompt(user, item, wording, seed).text,
            yes_no_answer(liked, data.noun, wording),
            wording,
        )
        for user, item, liked in zip(pairs["user"], pairs["item"], pairs["liked"], strict=True)
    ]


# ---------------------------------------------------------------- asking


def prompt_key(prompt: Prompt) -> str:
    """A short name of a question: 16 hexadecimal digits of its text's SHA-256."""
    return hashlib.sha256(prompt.text.encode()).hexdigest()[:16]


def ask(
    lm: Any,
    data: Data,
    pairs: pd.DataFrame,
    *,
    wording: str = "default",
    seed: int = 0,
    cache: Any = None,
    strategy: str = "candidates",
) -> pd.DataFrame:
    """Ask about every pair (user, item); schema `added`, in the order of `pairs`.

    ``answer`` is yes from a probability of one half on; "unparsed" where the model gives neither
    word any probability. Nothing is added yet: see `select`.
    """
    from dallrec_core.llm.scoring import p_yes

    check_wording(wording)
    users, items = pairs["user"].to_numpy(), pairs["item"].to_numpy()
    prompts = [
        data.prompt(int(u), int(i), wording, seed) for u, i in zip(users, items, strict=True)
    ]
    p = np.asarray(p_yes(lm, prompts, YES_WORDS[wording], NO_WORDS[wording], cache=cache))
    answer = np.where(np.isnan(p), "unparsed", np.where(p >= 0.5, "yes", "no"))
    columns = (users, items, answer, p, False, strategy, [prompt_key(x) for x in prompts])
    frame = pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))
    return frame.astype({"user": "int32", "item": "int32", "p_yes": "float32", "answer": str})


def augment(
    lm: Any,
    data: Data,
    *,
    strategy: str = "candidates",
    budget: int = 4000,
    base: Any = None,
    wording: str = "default",
    seed: int = 0,
    cache: Any = None,
    max_rounds: int = 50,
) -> pd.DataFrame:
    """Ask at most `budget` questions about unseen pairs; schema `added`, nothing added yet.

    ``candidates``: a fitted `base` recommender proposes (see `candidates.candidates`).
    ``cold_items``: only items without training interactions (see `cold.cold_items`).
    ``paper``: for each item random users, until one Yes and one No have been found. All unfinished
    items are asked about in one batch per round, for at most `max_rounds` rounds.

    :raises UserError: for an unknown strategy, or ``candidates`` without a base recommender.
    """
    if strategy not in STRATEGIES:
        raise UserError(f"unknown strategy {strategy!r}; use one of: {', '.join(STRATEGIES)}")
    settings = {"wording": wording, "seed": seed, "cache": cache, "strategy": strategy}
    if strategy == "paper":
        return _paper(lm, data, budget, max_rounds, settings)
    if strategy == "cold_items":
        return ask(lm, data, cold_items(data, budget=budget, seed=seed), **settings)
    if base is None:
        raise UserError("strategy 'candidates' needs a fitted base recommender")
    proposed = candidates(data, base, budget=budget, seed=seed)
    return ask(lm, data, proposed, **settings)


def _paper(
    lm: Any, data: Data, budget: int, max_rounds: int, settings: dict[str, Any]
) -> pd.DataFrame:
    table = random_users(data, max_rounds, settings["seed"])
    found = {"yes": np.zeros(data.n_items, bool), "no": np.zeros(data.n_items, bool)}
    rounds: list[pd.DataFrame] = []
    for users in table.T:
        open_items = np.flatnonzero(~(found["yes"] & found["no"]) & (users >= 0))
        open_items = open_items[: budget - sum(map(len, rounds))]
        if not len(open_items):
            break
        pairs = pd.DataFrame({"user": users[open_items], "item": open_items})
        rounds.append(ask(lm, data, pairs, **settings).assign(round=len(rounds)))
        for word, done in found.items():
            done[rounds[-1].loc[rounds[-1]["answer"] == word, "item"]] = True
    if not rounds:
        raise UserError(f"no question could be asked with a budget of {budget}")
    return pd.concat(rounds, ignore_index=True)


# ---------------------------------------------------------------- measuring


def evaluate(
    lm: Any,
    data: Data,
    pairs: pd.DataFrame,
    *,
    wording: str = "default",
    seed: int = 0,
    cache: Any = None,
    taste: np.ndarray | None = None,
) -> tuple[dict[str, float], pd.DataFrame]:
    """Measure yes/no answers on labelled held-out pairs of `parts`.

    :param taste: true preference [U, N] where it is known, for the oracle's AUC.
    :returns: n, auc, accuracy, unparsed, counting_auc (attributes shared with the history, no
        language model), oracle_auc; and the pairs with ``p_yes`` (for `choose_threshold`).
    """
    asked = ask(lm, data, pairs, wording=wording, seed=seed, cache=cache)
    judged = pairs.reset_index(drop=True).assign(p_yes=asked["p_yes"], answer=asked["answer"])
    said = judged["answer"].map({"yes": True, "no": False})
    scores = {
        "n": len(judged),
        "auc": _auc(judged["liked"], judged["p_yes"].fillna(0.5)),
        "accuracy": float((said == judged["liked"]).mean()),
        "unparsed": int((judged["answer"] == "unparsed").sum()),
        "counting_auc": _auc(judged["liked"], counting_scores(data, judged)),
    }
    if taste is not None:
        scores["oracle_auc"] = _auc(judged["liked"], taste[judged["user"], judged["item"]])
    return scores, judged


def _auc(liked: pd.Series, scores: Any) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(liked, scores)) if 0 < liked.sum() < len(liked) else float("nan")


def counting_scores(data: Data, pairs: pd.DataFrame) -> np.ndarray:
    """A rule without a model: share of liked minus share of disliked items, summed over attributes.

    Uses the user's whole training history without the item itself. float64 [n].
    """
    out = np.zeros(len(pairs))
    for row, (user, item) in enumerate(zip(pairs["user"], pairs["item"], strict=True)):
        for sign, items in zip((1, -1), data.tastes(int(user)), strict=True):
            shown = [data.values[i] for i in items if i != item]
            hits = sum(v in values for values in shown for v in data.values[item])
            out[row] += sign * hits / max(len(shown), 1)
    return out
