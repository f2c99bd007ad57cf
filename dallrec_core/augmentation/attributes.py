"""Item attributes written by a language model (paper: second augmentation).

Genres are completed to three; director, actor, country and language are asked for where the dataset
has such columns for some items, because only then there are examples of how to answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from dallrec_core.answers import Parsed, parse_facts, parse_genres
from dallrec_core.augmentation.cases import COMPLETE, facts_of, instructions, parts, question
from dallrec_core.augmentation.data import Data
from dallrec_core.prompts import Prompt, check_wording, facts_prompt, genres_prompt, split_values

__all__ = ["augment", "compare", "completed", "evaluate", "instructions", "merged", "parts"]

COLUMNS = ("item", "field", "value", "origin", "raw", "parsed", "reason")
Counts = dict[str, int]


# ---------------------------------------------------------------- asking


def _generate(lm: Any, prompts: Sequence[Prompt], tokens: int, cache: Any) -> list[str]:
    from dallrec_core.llm.generation import generate

    return [g.text for g in generate(lm, prompts, max_new_tokens=tokens, cache=cache)]


def augment(
    lm: Any,
    data: Data,
    *,
    wording: str = "default",
    max_items: int = 0,
    max_new_tokens: int = 24,
    fact_tokens: int = 48,
    cache: Any = None,
) -> tuple[pd.DataFrame, Counts]:
    """Ask about every item with fewer than three values, and about missing facts.

    Given values are kept and come first; new ones are added up to three. Every answer leaves at
    least one row: with an empty value where it says nothing new, or (``parsed`` False) where it
    cannot be read.

    :param max_items: ask about the first so many of them only, by training degree; 0 for all.
    :returns: schema `attributes` (and ``reason``), one row per value; and counts to print.
    """
    check_wording(wording)
    counts: Counter[str] = Counter()
    rows = given(data)
    counts["given values"] = len(rows)
    rows += _write_genres(lm, data, wording, max_items, max_new_tokens, cache, counts)
    if data.fact_fields:
        rows += _write_facts(lm, data, wording, max_items, fact_tokens, cache, counts)
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"item": "int32", "parsed": bool})
    return frame.sort_values(["item", "field"], kind="stable", ignore_index=True), dict(counts)


def given(data: Data) -> list[tuple[Any, ...]]:
    """Return the values that the dataset gives, as rows of `COLUMNS`."""
    rows = []
    for item, row in enumerate(data.rows):
        fields = {data.attribute: data.values[item], **facts_of(data, row)}
        rows += [
            (item, name, value, "given", "", True, "")
            for name, values in fields.items()
            for value in values
        ]
    return rows


def _first(data: Data, items: Iterable[int], limit: int) -> list[int]:
    """Items to ask about: all, or the `limit` with most training interactions."""
    chosen = list(items)
    if limit > 0:
        chosen = sorted(chosen, key=lambda i: (-data.item_degree[i], i))[:limit]
    return sorted(chosen)


def _write_genres(
    lm: Any, data: Data, wording: str, limit: int, tokens: int, cache: Any, counts: Counter[str]
) -> list[tuple[Any, ...]]:
    items = _first(data, (i for i, v in enumerate(data.values) if len(v) < COMPLETE), limit)
    prompts = [
        genres_prompt(data.noun, data.rows[i], wording, attribute=data.attribute) for i in items
    ]
    rows: list[tuple[Any, ...]] = []
    for item, raw in zip(items, _generate(lm, prompts, tokens, cache), strict=True):
        known = data.values[item]
        read = parse_genres(raw, data.vocabulary)
        new = [v for v in read.values if v not in known][: COMPLETE - len(known)]
        rows += _rows(item, data.attribute, raw, read, new, counts)
    return rows


def _rows(
    item: int, field: str, raw: str, read: Parsed, new: Sequence[str], counts: Counter[str]
) -> list[tuple[Any, ...]]:
    """Rows of one answer, counted: its new values, or one row that says why there are none."""
    counts[f"{field}: asked"] += 1
    counts[f"{field}: values written"] += len(new)
    if not read.ok:
        counts[f"{field}: unreadable"] += 1
        return [(item, field, "", "written", raw, False, read.reason)]
    counts[f"{field}: partly dropped"] += bool(read.reason)
    if not new:
        counts[f"{field}: nothing new"] += 1
        return [(item, field, "", "written", raw, True, "nothing new")]
    return [(item, field, value, "written", raw, True, read.reason) for value in new]


def _write_facts(
    lm: Any, data: Data, wording: str, limit: int, tokens: int, cache: Any, counts: Counter[str]
) -> list[tuple[Any, ...]]:
    given = [facts_of(data, row) for row in data.rows]
    items = _first(data, (i for i, facts in enumerate(given) if not all(facts.values())), limit)
    prompts = [
        facts_prompt(data.noun, data.rows[i], wording, fields=data.fact_fields) for i in items
    ]
    rows: list[tuple[Any, ...]] = []
    for item, raw in zip(items, _generate(lm, prompts, tokens, cache), strict=True):
        facts = parse_facts(raw, data.fact_fields).values
        for field in (f for f in data.fact_fields if not given[item][f]):
            values = facts.get(field, ())
            read = Parsed(values, bool(values), "" if values else f"no {field} in the answer")
            rows += _rows(item, field, raw, read, values, counts)
    return rows


def merged(data: Data, frame: pd.DataFrame) -> pd.DataFrame:
    """The items table with readable written values joined in: "Crime|Drama", given ones first."""
    items = data.items.copy()
    usable = frame[frame["parsed"] & (frame["value"] != "")]
    for field, group in usable.groupby("field", sort=True):
        column = "attributes" if field == data.attribute else field
        joined = group.groupby("item")["value"].agg("|".join)
        items[column] = items["item"].map(joined).astype(object).where(lambda s: s.notna(), None)
    return items


def completed(lm: Any, data: Data, *, wording: str = "default", cache: Any = None) -> Data:
    """Write what is missing, and return the same data with items that have it.

    A prompt about an interaction then names an item with all its genres and not with one of them.
    """
    return replace(data, items=merged(data, augment(lm, data, wording=wording, cache=cache)[0]))


# ---------------------------------------------------------------- measuring


def f1(predicted: Iterable[set[str]], right: Iterable[set[str]]) -> dict[str, float]:
    """Micro-averaged precision, recall and F1 of sets of values (0 where nothing is predicted)."""
    triples = [(len(p & r), len(p), len(r)) for p, r in zip(predicted, right, strict=True)]
    hit, said, true = (sum(t[k] for t in triples) for k in range(3))
    precision, recall = hit / max(said, 1), hit / max(true, 1)
    both = 2 * hit / max(said + true, 1)
    return {"precision": precision, "recall": recall, "f1": both}


def evaluate(
    lm: Any,
    data: Data,
    cases: pd.DataFrame,
    *,
    wording: str = "default",
    max_new_tokens: int = 24,
    fact_tokens: int = 48,
    cache: Any = None,
) -> tuple[dict[str, float], pd.DataFrame]:
    """Measure answers on held-out cases of `parts`.

    :returns: genres_n, micro-averaged precision, recall and f1 over the whole answer (shown values
        count, as in the paper's task), hidden_f1 over the values that were not shown, unreadable;
        facts_n and the share of right answers per fact; and the cases with raw answers.
    """
    genres, facts = (cases[cases["field"] == f].copy() for f in ("genres", "facts"))
    for part, tokens in ((genres, max_new_tokens), (facts, fact_tokens)):
        prompts = [question(data, case, wording)[0] for case in part.itertuples()]
        part["raw"] = _generate(lm, prompts, tokens, cache) if prompts else []
    scores = _genre_scores(data, genres) | _fact_scores(data, facts)
    return scores, pd.concat([genres, facts], ignore_index=True)


def _genre_scores(data: Data, cases: pd.DataFrame) -> dict[str, float]:
    if cases.empty:
        return {"genres_n": 0}
    read = [parse_genres(raw, data.vocabulary) for raw in cases["raw"]]
    right = [set(data.values[i]) for i in cases["item"]]
    shown = [set(data.values[i][:k]) for i, k in zip(cases["item"], cases["known"], strict=True)]
    said = [set(r.values) for r in read]
    hidden = f1(
        [s - k for s, k in zip(said, shown, strict=True)],
        [r - k for r, k in zip(right, shown, strict=True)],
    )
    whole = f1(said, right)
    unreadable = sum(not r.ok for r in read)
    return {
        "genres_n": len(cases),
        **whole,
        "hidden_f1": hidden["f1"],
        "unreadable": unreadable,
    }


def _fact_scores(data: Data, cases: pd.DataFrame) -> dict[str, float]:
    scores: dict[str, float] = {"facts_n": len(cases)}
    for field in data.fact_fields if len(cases) else ():
        said = [parse_facts(raw, data.fact_fields).values.get(field, ()) for raw in cases["raw"]]
        right = [split_values(data.rows[i][field]) for i in cases["item"]]
        scores[field] = float(np.mean([_same(s, r) for s, r in zip(said, right, strict=True)]))
    return scores


def _same(said: Sequence[str], right: Sequence[str]) -> bool:
    return {s.casefold() for s in said} == {r.casefold() for r in right}


def compare(data: Data, frame: pd.DataFrame, truth: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Judge *written* values by the truth that only the embedded dataset has.

    :param truth: one row per item with ``attributes`` and fact columns, complete.
    :returns: per field n (items asked), precision of written values, recall of the missing ones,
        f1. Values that were given count neither for nor against.
    """
    out: dict[str, dict[str, float]] = {}
    written = frame[frame["origin"] == "written"]
    for field, group in written.groupby("field", sort=True):
        column = "attributes" if field == data.attribute else field
        right, said = truth.set_index("item")[column], group.groupby("item")["value"].agg(set)
        given = frame[(frame["origin"] == "given") & (frame["field"] == field)]
        known = given.groupby("item")["value"].agg(set).to_dict()
        missing = [set(split_values(right[i])) - known.get(i, set()) for i in said.index]
        out[str(field)] = {"n": len(said), **f1([s - {""} for s in said], missing)}
    return out
