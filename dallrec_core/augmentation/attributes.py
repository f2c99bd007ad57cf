"""Item attributes written by a language model (paper: second augmentation).

Genres are completed to three; director, actor, country and language are asked for where the dataset
has such columns for some items, because only then there are examples of how to answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from dallrec_core.augmentation import prompts
from dallrec_core.augmentation.answers import Asker, Parsed, parse_facts, parse_genres
from dallrec_core.augmentation.prompts import Prompt
from dallrec_core.augmentation.view import Parts, TrainingView, n_examples

COMPLETE = 3
"""An item with so many values counts as complete (paper: "three words")."""
TOKENS = {"genres": 24, "facts": 48}
"""Longest answers by kind of question: about the attribute, and about all facts together."""


# ---------------------------------------------------------------- examples and held-out items


def parts(data: TrainingView, n: int = 64, held_out: int = 100, seed: int = 0) -> Parts:
    """Choose items to show and items to measure on: n for genres and, where columns exist, facts.

    Genres come from items with exactly three, of which the question shows the first one or two,
    alternating (paper). If there are too few, a quarter is held out, and items with two, or with
    more than three (cut to three), fill the examples. Books without genres give no examples.

    Returns:
        frames with item, field ("genres" or "facts"), known (values shown), and remarks.
    """
    rng = np.random.default_rng([seed, 10])
    sizes = np.array([len(values) for values in data.values])
    three = rng.permutation(np.flatnonzero(sizes == COMPLETE))
    cut = n_examples(len(three), n, held_out)
    others = rng.permutation(np.flatnonzero((sizes >= 2) & (sizes != COMPLETE)))[: n - cut]
    notes = []
    if cut < n:
        has = f"{len(three)} {data.nouns} have exactly {COMPLETE}"
        filled = f"{cut} are examples, filled up with {len(others)} that have another number"
        notes.append(f"{data.attribute}: {has}; {filled}")
    known = [item for item in range(data.n_items) if not _lacking(data, "facts", item)]
    facts = rng.permutation(known if data.fact_fields else [])
    split = n_examples(len(facts), n, held_out)
    if data.fact_fields and split < n:
        notes.append(f"facts: {len(facts)} items have them, so {split} examples instead of {n}")
    examples = _cases(np.concatenate([three[:cut], others]), facts[:split])
    return Parts(examples, _cases(three[cut : cut + held_out], facts[split:][:held_out]), notes)


def _cases(genres: np.ndarray, facts: np.ndarray) -> pd.DataFrame:
    fields = ["genres"] * len(genres) + ["facts"] * len(facts)
    cases = pd.DataFrame({"item": np.concatenate([genres, facts]), "field": fields})
    # the first value is shown, then the first two, alternating
    cases["known"] = 1 + cases.groupby("field").cumcount() % 2
    return cases.astype({"item": "int32"})


def _prompt(
    data: TrainingView, field: str, item: int, wording: str, shown: Sequence[str] | None = None
) -> Prompt:
    row = data.rows[item]
    if field == "facts":
        return prompts.facts_prompt(data.noun, row, data.fact_fields, wording)
    return prompts.genres_prompt(data.noun, row, wording, shown=shown, attribute=data.attribute)


def _question(data: TrainingView, case: Any, wording: str) -> tuple[Prompt, str]:
    """Prompt and right answer of one case: item, field and known, as a named tuple."""
    if case.field == "facts":
        facts = {field: data.given(case.item)[field] for field in data.fact_fields}
        answer, shown = prompts.facts_answer(facts, wording), None
    else:
        values = data.values[case.item][:COMPLETE]
        answer = prompts.genres_answer(values, data.noun, wording)
        shown = values[: min(case.known, len(values) - 1)]
    return _prompt(data, case.field, case.item, wording, shown), answer


def instructions(
    data: TrainingView, cases: pd.DataFrame, wording: str = "default", seed: int = 0
) -> list[dict[str, str]]:
    """Turn cases of `parts` into Alpaca records (nothing here is drawn, so `seed` does nothing)."""
    questions = (_question(data, case, wording) for case in cases.itertuples())
    return [prompts.record(prompt.text, answer, wording) for prompt, answer in questions]


# ---------------------------------------------------------------- asking


def augment(
    asker: Asker,
    data: TrainingView,
    *,
    max_items: int = 0,
    max_new_tokens: int = TOKENS["genres"],
    fact_tokens: int = TOKENS["facts"],
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Ask about every item with fewer than three values, and about missing facts.

    Given values are kept and come first; new ones are added up to three. Every answer leaves at
    least one row: with an empty value where it says nothing new, or (``parsed`` False) where it
    cannot be read.

    Args:
        asker: the model.
        data: the training view.
        max_items: ask about the first so many items only, by training degree; 0 for all.
        max_new_tokens: longest answer about genres.
        fact_tokens: longest answer about facts.

    Returns:
        schema `attributes` (and ``reason``), one row per value; and counts to print.
    """
    rows, counts = given(data), Counter[str]()
    counts["given values"] = len(rows)
    for kind, tokens in (("genres", max_new_tokens), ("facts", fact_tokens)):
        lacking = {item: _lacking(data, kind, item) for item in range(data.n_items)}
        items = data.most_seen([item for item in lacking if lacking[item]], max_items)
        questions = [_prompt(data, kind, item, asker.wording) for item in items]
        for item, answer in zip(items, asker.write(questions, tokens), strict=True):
            said = _read(data, kind, answer.text)
            for field in lacking[item]:
                read, old = said[field], data.given(item)[field]
                new = [value for value in read.values if value not in old]
                new = new[: COMPLETE - len(old)] if kind == "genres" else new
                nothing = read.ok and not new
                counts[f"{field}: asked"] += 1
                counts[f"{field}: values written"] += len(new)
                counts[f"{field}: unreadable"] += not read.ok
                counts[f"{field}: partly dropped"] += read.ok and bool(read.reason)
                counts[f"{field}: nothing new"] += nothing
                reason = "nothing new" if nothing else read.reason
                for value in new or [""]:
                    rows.append((item, field, value, "written", answer.text, read.ok, reason))
    return table(rows), dict(+counts)  # what never happened is not printed


def _lacking(data: TrainingView, kind: str, item: int) -> list[str]:
    """Fields of a kind of question that an item has too few values of."""
    if kind == "genres":
        return [data.attribute] if len(data.values[item]) < COMPLETE else []
    return [field for field in data.fact_fields if not data.given(item)[field]]


def _read(data: TrainingView, kind: str, text: str) -> dict[str, Parsed]:
    """What an answer says of each field."""
    if kind == "genres":
        return {data.attribute: parse_genres(text, data.vocabulary)}
    missing = {name: Parsed((), False, f"no {name} in the answer") for name in data.fact_fields}
    said = parse_facts(text, data.fact_fields)
    return missing | {name: Parsed(values, True) for name, values in said.items()}


def given(data: TrainingView) -> list[tuple[Any, ...]]:
    """Return the values that the dataset gives, as rows for `table`."""
    return [
        (item, field, value, "given", "", True, "")
        for item in range(data.n_items)
        for field, values in data.given(item).items()
        for value in values
    ]


def table(rows: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
    """Return rows as a frame of the schema `attributes` (and ``reason``), by item and field.

    ``field`` is the dataset's attribute or the name of a fact.
    """
    columns = ["item", "field", "value", "origin", "raw", "parsed", "reason"]
    frame = pd.DataFrame(rows, columns=columns).astype({"item": "int32", "parsed": bool})
    return frame.sort_values(["item", "field"], kind="stable", ignore_index=True)


def merged(data: TrainingView, frame: pd.DataFrame) -> pd.DataFrame:
    """The items table with readable written values joined in: "Crime|Drama", given ones first."""
    items = data.items.copy()
    usable = frame[frame["parsed"] & (frame["value"] != "")]
    for field, group in usable.groupby("field", sort=True):
        column = "attributes" if field == data.attribute else field
        joined = group.groupby("item")["value"].agg("|".join)
        items[column] = items["item"].map(joined).astype(object).where(lambda s: s.notna(), None)
    return items


def completed(asker: Asker, data: TrainingView) -> TrainingView:
    """Write what is missing, and return the same data with items that have it.

    A prompt about an interaction then names an item with all its genres and not with one of them.
    """
    return replace(data, items=merged(data, augment(asker, data)[0]))


# ---------------------------------------------------------------- measuring


def f1(predicted: Sequence[set[str]], right: Sequence[set[str]]) -> float:
    """Micro-averaged F1 of sets of values (0 where nothing is predicted)."""
    hits = sum(len(p & r) for p, r in zip(predicted, right, strict=True))
    return 2 * hits / max(sum(map(len, [*predicted, *right])), 1)


def evaluate(
    asker: Asker, data: TrainingView, cases: pd.DataFrame
) -> tuple[dict[str, float], pd.DataFrame]:
    """Measure answers on held-out cases of `parts`.

    Returns:
        genres_n, micro-averaged f1 over the whole answer (shown values count, as in the paper's
        task), hidden_f1 over the values that were not shown, unreadable; facts_n and the f1 of each
        fact; and the cases with raw answers.
    """
    scores: dict[str, float] = {}
    cases = cases.assign(raw="")
    for kind, tokens in TOKENS.items():
        part = cases[cases["field"] == kind]
        questions = [_question(data, case, asker.wording)[0] for case in part.itertuples()]
        texts = [answer.text for answer in asker.write(questions, tokens)]
        cases.loc[part.index, "raw"] = texts
        scores[f"{kind}_n"] = len(part)
        read = [_read(data, kind, text) for text in texts]
        for field in read[0] if read else ():
            said = [set(each[field].values) for each in read]
            right = [set(data.given(item)[field]) for item in part["item"]]
            scores["f1" if kind == "genres" else field] = f1(said, right)
            if kind == "genres":
                known = zip(part["item"], part["known"], strict=True)
                shown = [set(data.values[item][:n]) for item, n in known]
                hidden = ([a - b for a, b in zip(s, shown, strict=True)] for s in (said, right))
                scores["hidden_f1"] = f1(*hidden)
                scores["unreadable"] = sum(not each[field].ok for each in read)
    return scores, cases
