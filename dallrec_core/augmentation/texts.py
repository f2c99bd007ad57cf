"""What is known about each item in words: given by the dataset, or written by a language model.

Two modalities. `attributes` is a set of values per item, each kept whole ("Film-Noir" is one value,
not two words); `summary` is running text. Every modality has one document per item, by item code,
which is empty where nothing is known.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from dallrec_core.augmentation.cases import facts_of
from dallrec_core.augmentation.data import Data
from dallrec_core.augmentation.summaries import compose
from dallrec_core.errors import UserError
from dallrec_core.prompts import name_text, split_values

MODALITIES = ("attributes", "summary")
"""Names of the modalities that `given` and `written` return."""

Document = str | tuple[str, ...]
"""Running text, or values that stay whole."""


class Texts(NamedTuple):
    """Documents by modality, and what was counted while they were put together."""

    documents: dict[str, list[Document]]
    """one list of N documents per modality"""
    counts: dict[str, int]
    """how many items have something new, and how many kept what was given"""


def given(data: Data) -> Texts:
    """Return what the dataset itself says: its attributes and facts; title, year and text."""
    documents: dict[str, list[Document]] = {
        "attributes": [_values(data, item) for item in range(data.n_items)],
        "summary": [_title(data, row) for row in data.rows],
    }
    empty = {f"{name}: nothing given": _empty(made) for name, made in documents.items()}
    return Texts(documents, empty)


def composed(data: Data) -> Texts:
    """Return what the dataset says, with sentences that a template makes of it (`given_text`).

    They look like a language model's summaries and hold nothing that was not given.
    """
    documents = dict(given(data).documents)
    documents["summary"] = [compose(data, item) for item in range(data.n_items)]
    return Texts(documents, {})


def written(data: Data, attributes: pd.DataFrame, summaries: pd.DataFrame) -> Texts:
    """Return what a language model made of it; what was not written stays as it was given.

    Args:
        data: the items.
        attributes: schema `attributes`; readable written values are added to the given ones.
        summaries: schema `summaries`; a summary takes the place of the given text. Either table may
            cover only part of the items.

    Raises:
        UserError: for an item code that does not exist, or two summaries of one item.
    """
    before = given(data).documents
    added = _written_values(data, attributes)
    texts = _written_summaries(data, summaries)
    documents: dict[str, list[Document]] = {
        "attributes": [
            (*old, *(value for value in added.get(item, ()) if value not in old))
            for item, old in enumerate(before["attributes"])
        ],
        "summary": [texts.get(item, old) for item, old in enumerate(before["summary"])],
    }
    counts: Counter[str] = Counter()
    for name, made in documents.items():
        changed = sum(old != new for old, new in zip(before[name], made, strict=True))
        counts[f"{name}: items with something written"] = changed
        counts[f"{name}: items left as given"] = data.n_items - changed
        counts[f"{name}: items with nothing at all"] = _empty(made)
    return Texts(documents, dict(counts))


def _values(data: Data, item: int) -> tuple[str, ...]:
    row = data.rows[item]
    facts = {"author": split_values(row.get("author")), **facts_of(data, row)}
    named = (_named(data, field, value) for field, values in facts.items() for value in values)
    return (*data.values[item], *named)


def _named(data: Data, field: str, value: str) -> str:
    """A fact keeps its field's name: a director is not the same as an actor of that name."""
    return value if field == data.attribute else f"{field}: {value}"


def _title(data: Data, row: dict[str, Any]) -> str:
    text = row.get("text")
    name = name_text(row, data.noun)
    return f"{name}. {' '.join(text.split())}" if isinstance(text, str) and text.strip() else name


def _written_values(data: Data, frame: pd.DataFrame) -> dict[int, list[str]]:
    _check_items(data, frame, "attributes")
    usable = frame[(frame["origin"] == "written") & frame["parsed"]]
    values: dict[int, list[str]] = {}
    for row in usable.itertuples():
        known = values.setdefault(int(row.item), [])
        value = _named(data, row.field, row.value)
        if row.value.strip() and value not in known:
            known.append(value)
    return values


def _written_summaries(data: Data, frame: pd.DataFrame) -> dict[int, str]:
    _check_items(data, frame, "summaries")
    twice = np.flatnonzero(frame["item"].duplicated())
    if len(twice):
        item = frame["item"].iloc[twice[0]]
        raise UserError(f"summaries, row {twice[0]}: item {item} has a summary already")
    pairs = zip(frame["item"], frame["summary"], strict=True)
    return {int(item): text for item, text in pairs if text.strip()}


def _check_items(data: Data, frame: pd.DataFrame, what: str) -> None:
    codes = frame["item"].to_numpy()
    wrong = np.flatnonzero((codes < 0) | (codes >= data.n_items))
    if len(wrong):
        raise UserError(
            f"{what}, row {wrong[0]}: item {codes[wrong[0]]} does not exist; there are "
            f"{data.n_items} items"
        )


def _empty(documents: list[Document]) -> int:
    return sum(not document for document in documents)
