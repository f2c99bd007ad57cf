"""Item attributes written by a language model (paper: second augmentation).

Genres are completed to three; director, actor, country and language are asked for where the dataset
has such columns for some items, because only then there are examples of how to answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
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
GENRE_TOKENS, FACT_TOKENS = 24, 48
"""Longest answers about genres and about facts."""


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
    notes = [] if cut == n else [_shortage(data, len(three), cut, len(others))]
    documented = [all(data.facts(item).values()) for item in range(data.n_items)]
    facts = rng.permutation(np.flatnonzero(documented if data.fact_fields else []))
    split = n_examples(len(facts), n, held_out)
    if data.fact_fields and split < n:
        notes.append(f"facts: {len(facts)} items have them, so {split} examples instead of {n}")
    examples = _cases(np.concatenate([three[:cut], others]), facts[:split])
    return Parts(examples, _cases(three[cut : cut + held_out], facts[split:][:held_out]), notes)


def _shortage(data: TrainingView, three: int, used: int, others: int) -> str:
    if not used + others:
        return f"no {data.noun} has two known {data.attribute}, so there are no examples of them"
    text = f"{data.attribute}: {three} {data.noun}s have exactly {COMPLETE}; {used} are examples"
    return f"{text}, filled up with {others} that have another number" if others else text


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
    values = data.values[case.item][:COMPLETE]
    if case.field == "facts":
        answer = prompts.facts_answer(data.facts(case.item), wording)
    else:
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
    max_new_tokens: int = GENRE_TOKENS,
    fact_tokens: int = FACT_TOKENS,
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
    genres = [item for item, values in enumerate(data.values) if len(values) < COMPLETE]
    facts = [item for item in range(data.n_items) if not all(data.facts(item).values())]
    answers = [
        *_answers(asker, data, "genres", data.most_seen(genres, max_items), max_new_tokens),
        *_answers(asker, data, "facts", data.most_seen(facts, max_items), fact_tokens),
    ]
    for item, field, raw, read in answers:
        counts[f"{field}: asked"] += 1
        counts[f"{field}: values written"] += len(read.values)
        reason = read.reason
        if not read.ok:
            counts[f"{field}: unreadable"] += 1
        else:
            counts[f"{field}: partly dropped"] += bool(reason)
            if not read.values:
                counts[f"{field}: nothing new"] += 1
                reason = "nothing new"
        for value in read.values or [""]:
            rows.append((item, field, value, "written", raw, read.ok, reason))
    return table(rows), dict(counts)


def given(data: TrainingView) -> list[tuple[Any, ...]]:
    """Return the values that the dataset gives, as rows for `table`."""
    return [
        (item, field, value, "given", "", True, "")
        for item in range(data.n_items)
        for field, values in {data.attribute: data.values[item], **data.facts(item)}.items()
        for value in values
    ]


def table(rows: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
    """Return rows as a frame of the schema `attributes` (and ``reason``), by item and field.

    ``field`` is the dataset's attribute or the name of a fact.
    """
    columns = ["item", "field", "value", "origin", "raw", "parsed", "reason"]
    frame = pd.DataFrame(rows, columns=columns).astype({"item": "int32", "parsed": bool})
    return frame.sort_values(["item", "field"], kind="stable", ignore_index=True)


def _answers(
    asker: Asker, data: TrainingView, kind: str, items: list[int], max_new_tokens: int
) -> Iterator[tuple[int, str, str, Parsed]]:
    """Yield item, field, the raw answer, and the new values read from it."""
    questions = [_prompt(data, kind, item, asker.wording) for item in items]
    for item, answer in zip(items, asker.write(questions, max_new_tokens), strict=True):
        if kind == "genres":
            read, old = parse_genres(answer.text, data.vocabulary), data.values[item]
            new = tuple(value for value in read.values if value not in old)[: COMPLETE - len(old)]
            yield item, data.attribute, answer.text, read._replace(values=new)
            continue
        facts = parse_facts(answer.text, data.fact_fields)
        for field in (name for name, values in data.facts(item).items() if not values):
            reason = "" if field in facts else f"no {field} in the answer"
            yield item, field, answer.text, Parsed(facts.get(field, ()), field in facts, reason)


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


def f1(predicted: Iterable[set[str]], right: Iterable[set[str]]) -> dict[str, float]:
    """Micro-averaged precision, recall and F1 of sets of values (0 where nothing is predicted)."""
    triples = [(len(p & r), len(p), len(r)) for p, r in zip(predicted, right, strict=True)]
    hit, said, true = (sum(triple[k] for triple in triples) for k in range(3))
    precision, recall = hit / max(said, 1), hit / max(true, 1)
    return {"precision": precision, "recall": recall, "f1": 2 * hit / max(said + true, 1)}


def evaluate(
    asker: Asker, data: TrainingView, cases: pd.DataFrame
) -> tuple[dict[str, float], pd.DataFrame]:
    """Measure answers on held-out cases of `parts`.

    Returns:
        genres_n, micro-averaged precision, recall and f1 over the whole answer (shown values count,
        as in the paper's task), hidden_f1 over the values that were not shown, unreadable; facts_n
        and the share of right answers per fact; and the cases with raw answers.
    """
    genres, facts = (cases[cases["field"] == field].copy() for field in ("genres", "facts"))
    for part, tokens in ((genres, GENRE_TOKENS), (facts, FACT_TOKENS)):
        questions = [_question(data, case, asker.wording)[0] for case in part.itertuples()]
        part["raw"] = [answer.text for answer in asker.write(questions, tokens)]
    scores = _genre_scores(data, genres) | _fact_scores(data, facts)
    return scores, pd.concat([genres, facts], ignore_index=True)


def _genre_scores(data: TrainingView, cases: pd.DataFrame) -> dict[str, float]:
    if cases.empty:
        return {"genres_n": 0}
    read = [parse_genres(raw, data.vocabulary) for raw in cases["raw"]]
    said, right = [set(r.values) for r in read], [set(data.values[i]) for i in cases["item"]]
    shown = [set(data.values[i][:k]) for i, k in zip(cases["item"], cases["known"], strict=True)]
    without = [[a - b for a, b in zip(sets, shown, strict=True)] for sets in (said, right)]
    return {
        "genres_n": len(cases),
        **f1(said, right),
        "hidden_f1": f1(*without)["f1"],
        "unreadable": sum(not r.ok for r in read),
    }


def _fact_scores(data: TrainingView, cases: pd.DataFrame) -> dict[str, float]:
    scores: dict[str, float] = {"facts_n": len(cases)}
    said = [parse_facts(raw, data.fact_fields) for raw in cases["raw"]]
    for field in data.fact_fields if len(cases) else ():
        right = [data.facts(item)[field] for item in cases["item"]]
        pairs = zip([facts.get(field, ()) for facts in said], right, strict=True)
        same = [set(map(str.casefold, a)) == set(map(str.casefold, b)) for a, b in pairs]
        scores[field] = float(np.mean(same))
    return scores


def compare(
    data: TrainingView, frame: pd.DataFrame, truth: pd.DataFrame
) -> dict[str, dict[str, float]]:
    """Judge *written* values by the truth that only the embedded dataset has.

    Args:
        data: the training view.
        frame: the table of `augment`.
        truth: one row per item with ``attributes`` and fact columns, complete.

    Returns:
        per field n (items asked), precision of written values, recall of the missing ones, f1.
        Values that were given count neither for nor against.
    """
    out: dict[str, dict[str, float]] = {}
    written, given = (frame[frame["origin"] == origin] for origin in ("written", "given"))
    for field, group in written.groupby("field", sort=True):
        right = truth.set_index("item")["attributes" if field == data.attribute else field]
        said = group.groupby("item")["value"].agg(set)
        old = given[given["field"] == field].groupby("item")["value"].agg(set).to_dict()
        missing = [set(prompts.split_values(right[i])) - old.get(i, set()) for i in said.index]
        out[str(field)] = {"n": len(said), **f1([values - {""} for values in said], missing)}
    return out
