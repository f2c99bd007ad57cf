"""What is known about each item in words: given by the dataset, or written by a language model.

Two modalities. `attributes` is a set of values per item, each kept whole ("Film-Noir" is one value,
not two words); `summary` is running text. Every modality has one document per item, by item code,
which is empty where nothing is known.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from dallrec_core.augmentation.features import Document
from dallrec_core.augmentation.prompts import name_text, one_line, split_values
from dallrec_core.augmentation.summaries import compose
from dallrec_core.augmentation.view import TrainingView
from dallrec_core.errors import UserError

MODALITIES = ("attributes", "summary")
"""Names of the modalities that `given` and `written` return."""


class Texts(NamedTuple):
    """Documents by modality, and what was counted while they were put together."""

    documents: dict[str, list[Document]]
    """one list of N documents per modality"""
    counts: dict[str, int]
    """how many items have something new, and how many kept what was given"""


def given(data: TrainingView) -> Texts:
    """Return what the dataset itself says: its attributes and facts; title, year and text."""
    documents: dict[str, list[Document]] = {"attributes": [], "summary": []}
    for item, row in enumerate(data.rows):
        facts = {"author": split_values(row.get("author")), **data.facts(item)}
        named = [_named(data, name, value) for name, values in facts.items() for value in values]
        documents["attributes"].append((*data.values[item], *named))
        text = one_line(row.get("text"))
        documents["summary"].append(f"{name_text(row)}. {text}" if text else name_text(row))
    return Texts(documents, {f"{n}: nothing given": _empty(m) for n, m in documents.items()})


def composed(data: TrainingView) -> Texts:
    """Return what the dataset says, with sentences that a template makes of it.

    They look like a language model's summaries and hold nothing that was not given: the arm
    `given_text`.
    """
    sentences: list[Document] = [compose(data, item) for item in range(data.n_items)]
    return Texts(given(data).documents | {"summary": sentences}, {})


def written(data: TrainingView, attributes: pd.DataFrame, summaries: pd.DataFrame) -> Texts:
    """Return what a language model made of it; what was not written stays as it was given.

    Args:
        data: the items.
        attributes: schema `attributes`; readable written values are added to the given ones.
        summaries: schema `summaries`; a summary takes the place of the given text. Either table may
            cover only part of the items.

    Raises:
        UserError: for an item code that does not exist, or two summaries of one item.
    """
    _check_items(data, attributes, "attributes")
    _check_items(data, summaries, "summaries")
    before = given(data).documents
    documents = {name: list(made) for name, made in before.items()}
    usable = attributes[(attributes["origin"] == "written") & attributes["parsed"]]
    for item, field, value in usable[["item", "field", "value"]].itertuples(index=False):
        named, values = _named(data, field, value), documents["attributes"][item]
        if value.strip() and named not in values:
            documents["attributes"][item] = (*values, named)
    for item, summary in summaries[["item", "summary"]].itertuples(index=False):
        if summary.strip():
            documents["summary"][item] = summary
    counts: dict[str, int] = {}
    for name, made in documents.items():
        changed = sum(old != new for old, new in zip(before[name], made, strict=True))
        counts[f"{name}: items with something written"] = changed
        counts[f"{name}: items left as given"] = data.n_items - changed
        counts[f"{name}: items with nothing at all"] = _empty(made)
    return Texts(documents, counts)


def _named(data: TrainingView, field: str, value: str) -> str:
    """A fact keeps its field's name: a director is not the same as an actor of that name."""
    return value if field == data.attribute else f"{field}: {value}"


def _check_items(data: TrainingView, frame: pd.DataFrame, what: str) -> None:
    items = frame["item"].to_numpy()
    for row in np.flatnonzero((items < 0) | (items >= data.n_items))[:1]:
        problem = f"item {items[row]} does not exist; there are {data.n_items} items"
        raise UserError(f"{what}, row {row}: {problem}")
    for row in np.flatnonzero(frame["item"].duplicated())[:1] if what == "summaries" else ():
        raise UserError(f"{what}, row {row}: item {items[row]} has a summary already")


def _empty(documents: list[Document]) -> int:
    return sum(not document for document in documents)
