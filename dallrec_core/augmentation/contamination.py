"""Contamination: does a language model recite titles, genres or users of the dataset?

A public dataset may have been part of a model's training text. Three probes of the untuned model
ask for what cannot be read from the question. None proves where the knowledge comes from: a title
can be famous, and a taste can be understood. But a model that is at chance in all three has nothing
to recite.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from dallrec_core.augmentation.answers import Asker
from dallrec_core.augmentation.prompts import Prompt, genres_answer, genres_prompt
from dallrec_core.augmentation.selection import wilson
from dallrec_core.augmentation.view import TrainingView

CHOICES = 10
"""Of so many choices one is right; chance is one in so many."""


def titles(asker: Asker, data: TrainingView, items: np.ndarray) -> pd.DataFrame:
    """Ask for the second half of each title, its first half being given.

    Titles of one word are left out. Case and punctuation do not count, words do.

    Returns:
        item, begin, rest, said, recited (bool).
    """
    rows = []
    for item in items:
        words = str(data.rows[item]["title"]).split()
        if len(words) > 1:
            half = (len(words) + 1) // 2
            rows.append((item, " ".join(words[:half]), " ".join(words[half:])))
    frame = pd.DataFrame(rows, columns=["item", "begin", "rest"])
    ask = f"Complete the title of this {data.noun}. Answer with the missing words only. Title:"
    prompts = [Prompt("", f"{ask} {begin}") for begin in frame["begin"]]
    frame["said"] = [answer.text.split("\n")[0] for answer in asker.write(prompts, 16)]
    said, rest = frame["said"].map(_plain), frame["rest"].map(_plain)
    whole = (frame["begin"] + " " + frame["rest"]).map(_plain)  # some repeat what they were given
    return frame.assign(recited=(said == rest) | (said == whole))


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def genres(asker: Asker, data: TrainingView, items: np.ndarray, seed: int = 0) -> pd.DataFrame:
    """Compare the likelihood of an item's genres after its own title and after other titles.

    The answer stays the same, only the title changes, so that neither a frequent genre nor a short
    answer counts as knowledge. The other titles are drawn from all items with other genres.

    Returns:
        item, difference (log-likelihood after the own title less the mean of the others, natural
        logarithm), recited (bool: the own title is the likeliest of `CHOICES`). Empty where no item
        has genres.
    """
    random = np.random.default_rng([seed, 50])
    known = np.flatnonzero([bool(values) for values in data.values])
    chosen, questions = [], []
    for item in items:
        answer = data.values[item][:3]
        drawn = random.permutation(len(known))[: 20 * CHOICES]
        others = [i for i in known[drawn] if data.values[i][:3] != answer]
        if not answer or len(others) < CHOICES - 1:
            continue
        chosen.append(item)
        for each in [item, *others[: CHOICES - 1]]:
            prompt = genres_prompt(data.noun, data.rows[each], shown=(), attribute=data.attribute)
            questions.append((prompt.text, genres_answer(answer, data.noun)))
    found = asker.log_likelihood(questions).reshape(-1, CHOICES)
    difference = found[:, 0] - found[:, 1:].mean(axis=1)
    best = found[:, 0] > found[:, 1:].max(axis=1)
    return pd.DataFrame({"item": chosen, "difference": difference, "recited": best})


def users(asker: Asker, data: TrainingView, n: int, seed: int = 0) -> pd.DataFrame:
    """Hide one liked item of a user's history; is it the likeliest next one among others?

    The others are items the user has not had, as popular as the hidden one: the nearest in training
    degree. Training data only.

    Returns:
        user, item, recited (bool: the hidden item has the highest p(yes) of `CHOICES`).
    """
    random = np.random.default_rng([seed, 51])
    rows: list[tuple[int, int]] = []
    prompts: list[Prompt] = []
    for user in random.permutation(data.n_users):
        likes, dislikes = data.tastes(user)
        unseen = np.setdiff1d(np.arange(data.n_items), np.concatenate([likes, dislikes]))
        if len(rows) == n:
            break
        if len(likes) < 2 or len(unseen) < CHOICES - 1:
            continue
        item = random.choice(likes)
        far = np.abs(data.item_degree[unseen] - data.item_degree[item])
        near = unseen[np.lexsort((random.random(len(unseen)), far))][: CHOICES - 1]
        # one history for all: a question about an unseen item would show the hidden one
        history = data.history(user, asker.wording, seed, without=item)
        prompts += [data.question(history, each, asker.wording) for each in [item, *near]]
        rows.append((user, item))
    found = np.nan_to_num(asker.p_yes(prompts), nan=0.5).reshape(-1, CHOICES)
    frame = pd.DataFrame(rows, columns=["user", "item"])
    return frame.assign(recited=found[:, 0] > found[:, 1:].max(axis=1))


def summary(probes: Mapping[str, tuple[pd.DataFrame, float]]) -> pd.DataFrame:
    """Return how often each probe was passed.

    Args:
        probes: by name, the table of the probe (column recited) and the share that chance gives.

    Returns:
        probe, asked, recited (share), its 95 % Wilson interval low and high, chance, and verdict:
        "above chance" where the interval says so.
    """
    rows = []
    for name, (table, chance) in probes.items():
        n, k = len(table), int(table["recited"].sum())
        low, high = wilson(k, n)
        verdict = "above chance" if low > chance else "not above chance" if n else "not asked"
        rows.append((name, n, table["recited"].mean(), float(low), float(high), chance, verdict))
    columns = ["probe", "asked", "recited", "low", "high", "chance", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def precision_by_recital(
    added: pd.DataFrame, recited: list[int], probed: list[int], liked: np.ndarray
) -> pd.DataFrame:
    """Return how many added pairs are really liked, by what the model knows of the item.

    Args:
        added: the added pairs, columns user, item.
        recited: items that a probe says the model recites.
        probed: all items that were probed.
        liked: whether each pair is really liked, bool `[n]`.

    Returns:
        items ("recited", "not recited", "not probed"), pairs, precision, and its 95 % Wilson
        interval low and high; groups without a pair are left out.
    """
    item = added["item"]
    kinds = ["recited", "not recited"]
    group = np.select([item.isin(recited), item.isin(probed)], kinds, "not probed")
    frame = pd.DataFrame({"items": group, "liked": liked}).groupby("items", sort=True)["liked"]
    table = frame.agg(pairs="size", precision="mean").reset_index()
    right = table["precision"] * table["pairs"]
    table["low"], table["high"] = wilson(right, table["pairs"])
    return table
