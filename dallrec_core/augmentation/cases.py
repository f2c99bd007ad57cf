"""Which items show a model how to answer questions about attributes, and which measure it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from dallrec_core.augmentation.data import Data, Parts
from dallrec_core.augmentation.instructions import record
from dallrec_core.prompts import (
    Prompt,
    check_wording,
    facts_answer,
    facts_prompt,
    genres_answer,
    genres_prompt,
    split_values,
)

COMPLETE = 3
"""An item with so many values counts as complete (paper: "three words")."""


def parts(data: Data, n: int = 64, held_out: int = 100, seed: int = 0) -> Parts:
    """Choose items to show and items to measure on: n for genres and, where columns exist, facts.

    Genres come from items with exactly three, of which the question shows the first one or two,
    alternating (paper). If there are too few, a quarter is held out, and items with two, or with
    more than three (cut to three), fill the examples. Books without genres give no examples.

    :returns: frames with item, field ("genres" or "facts"), known (values shown), and remarks.
    """
    rng = np.random.default_rng([seed, 10])
    sizes = np.array([len(v) for v in data.values])
    three = rng.permutation(np.flatnonzero(sizes == COMPLETE))
    cut = min(n, len(three) - min(held_out, len(three) // 4))
    first, rest = three[:cut], three[cut : cut + held_out]
    others = rng.permutation(np.flatnonzero((sizes >= 2) & (sizes != COMPLETE)))[: n - cut]
    notes = [] if cut == n else [_shortage(data, len(three), cut, len(others))]
    genres = (_cases("genres", np.concatenate([first, others])), _cases("genres", rest))
    facts = _fact_items(data, rng)
    split = min(n, len(facts) - min(held_out, len(facts) // 4))
    if data.fact_fields and split < n:
        notes.append(f"facts: {len(facts)} items have them, so {split} examples instead of {n}")
    pairs = (_cases("facts", facts[:split]), _cases("facts", facts[split : split + held_out]))
    joined = [pd.concat(p, ignore_index=True) for p in zip(genres, pairs, strict=True)]
    return Parts(joined[0], joined[1], notes)


def _shortage(data: Data, three: int, used: int, others: int) -> str:
    if not used + others:
        return f"no {data.noun} has two known {data.attribute}, so there are no examples of them"
    text = f"{data.attribute}: {three} {data.noun}s have exactly {COMPLETE}; {used} are examples"
    return f"{text}, filled up with {others} that have another number" if others else text


def _fact_items(data: Data, rng: np.random.Generator) -> np.ndarray:
    if not data.fact_fields:
        return np.array([], dtype=np.int64)
    return rng.permutation(np.flatnonzero(data.items[list(data.fact_fields)].notna().all(axis=1)))


def _cases(field: str, items: np.ndarray) -> pd.DataFrame:
    known = 1 + np.arange(len(items)) % 2  # the first value, then the first two, alternating
    return pd.DataFrame({"item": items.astype("int32"), "field": field, "known": known})


def facts_of(data: Data, row: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """The given facts of an items row, by field; () where unknown."""
    return {field: split_values(row[field]) for field in data.fact_fields}


def question(data: Data, case: Any, wording: str) -> tuple[Prompt, str]:
    """Prompt and right answer of one case: item, field and known, as a named tuple."""
    row = data.rows[case.item]
    if case.field == "facts":
        prompt = facts_prompt(data.noun, row, wording, fields=data.fact_fields)
        return prompt, facts_answer(facts_of(data, row), wording)
    values = data.values[case.item][:COMPLETE]
    shown = values[: min(case.known, len(values) - 1)]
    prompt = genres_prompt(data.noun, row, wording, known=shown, attribute=data.attribute)
    return prompt, genres_answer(values, data.noun, wording)


def instructions(
    data: Data, cases: pd.DataFrame, wording: str = "default", seed: int = 0
) -> list[dict[str, str]]:
    """Turn cases of `parts` into Alpaca records (nothing here is drawn, so `seed` does nothing)."""
    check_wording(wording)
    questions = (question(data, case, wording) for case in cases.itertuples())
    return [record(prompt.text, answer, wording) for prompt, answer in questions]
