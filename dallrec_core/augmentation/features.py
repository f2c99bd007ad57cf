"""Item features: what is known about each item in words, and these words as vectors.

Words are given by the dataset or written by a language model, in two modalities. `attributes` is a
set of values per item, each kept whole ("Film-Noir" is one value, not two words); `summary` is
running text. Every modality has one document per item, by item code, which is empty where nothing
is known.

Vectors come from one of three kinds of encoder, chosen by one word: TF-IDF with a truncated
singular value decomposition (offline, no weights to download), any text encoder of Hugging Face, or
a language model's own hidden states. Which one is used never depends on the arm: arms differ in the
texts alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from dallrec_core.augmentation.prompts import name_text, one_line, split_values
from dallrec_core.augmentation.summaries import compose, without_text
from dallrec_core.augmentation.view import TrainingView, check_codes

Document = str | tuple[str, ...]
"""Running text, or values that stay whole ("Film-Noir" is one token); empty: nothing is known."""

Vectors = tuple[np.ndarray, int]
"""Vectors float32 [n, width] of n documents that are not empty, and how many were cut short."""

Encoder = Callable[[Sequence[Document]], Vectors]
"""What `open_encoder` returns."""

_TINY = 1e-6  # a row shorter than that is rounding noise, which no scaling turns into a direction


# ---------------------------------------------------------------- words


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
        known = {**data.given(item), "author": split_values(row.get("author"))}
        named = (_named(data, name, value) for name in known for value in known[name])
        documents["attributes"].append(tuple(named))
        documents["summary"].append(f"{name_text(row)}. {one_line(row.get('text'))}".strip())
    return Texts(documents, {})


def known(data: TrainingView, truth: pd.DataFrame) -> Texts:
    """Return what the dataset says with every attribute and fact as it really is.

    The arm `true_attributes`: no model can complete the attributes better.

    Args:
        data: the items.
        truth: one row per item, by item code, with ``attributes`` and the facts.
    """
    right = truth[["attributes", *data.fact_fields]].set_axis(data.items.index)
    return given(replace(data, items=data.items.assign(**right)))


def composed(data: TrainingView) -> Texts:
    """Return what the dataset says, with sentences that a template makes where there is no text.

    They look like a language model's summaries and hold nothing that was not given: the arm
    `given_text`.
    """
    documents = given(data).documents
    for item in without_text(data):
        documents["summary"][item] = f"{documents['summary'][item]} {compose(data, item)}"
    return Texts(documents, {})


def written(data: TrainingView, attributes: pd.DataFrame, summaries: pd.DataFrame) -> Texts:
    """Return what the dataset says, and after it what a language model wrote.

    Args:
        data: the items.
        attributes: schema `attributes`, of which readable written values count.
        summaries: schema `summaries`. Either table may cover only part of the items.

    Raises:
        UserError: for an item code that does not exist.
    """
    check_codes(attributes, "attributes", item=data.n_items)
    check_codes(summaries, "summaries", item=data.n_items)
    before, documents = given(data).documents, given(data).documents
    usable = attributes[(attributes["origin"] == "written") & attributes["parsed"]]
    for item, field, value in usable[["item", "field", "value"]].itertuples(index=False):
        named, values = _named(data, field, value), documents["attributes"][item]
        if value.strip() and named not in values:
            documents["attributes"][item] = (*values, named)
    for item, summary in summaries[["item", "summary"]].itertuples(index=False):
        documents["summary"][item] = f"{documents['summary'][item]} {summary}".strip()
    counts: dict[str, int] = {}
    for name, made in documents.items():
        changed = sum(old != new for old, new in zip(before[name], made, strict=True))
        counts[f"{name}: items with something written"] = changed
        counts[f"{name}: items left as given"] = data.n_items - changed
        counts[f"{name}: items with nothing at all"] = sum(not document for document in made)
    return Texts(documents, counts)


def _named(data: TrainingView, field: str, value: str) -> str:
    """A fact keeps its field's name: a director is not the same as an actor of that name."""
    return value if field == data.attribute else f"{field}: {value}"


# ---------------------------------------------------------------- vectors


class Features(NamedTuple):
    """One matrix per modality, and what was counted on the way."""

    vectors: dict[str, np.ndarray]
    """float32 [N, width] by modality; rows have length 1, or 0 where nothing is known"""
    counts: dict[str, int]
    """by modality: rows of zeros, and texts that the encoder cut short"""


def open_encoder(name: str, seed: int = 0) -> Encoder:
    """Load an encoder once, to be used for every arm.

    Args:
        name: `tfidf`; `lm:` and a language model (`lm:standin`, `lm:Qwen/Qwen2.5-0.5B`), whose
            last hidden states are averaged; else the folder or Hugging Face id of a text encoder.
        seed: of the decomposition of TF-IDF.

    Raises:
        UserError: when there is no such encoder or it cannot be loaded.
    """
    if name == "tfidf":
        return partial(tfidf, seed=seed)
    from dallrec_core.llm import embed, load  # heavy, and TF-IDF does without

    if name.startswith("lm:"):
        reader = embed.of_language_model(load.load(name.removeprefix("lm:")))
    else:
        reader = embed.load_encoder(name)
    return lambda documents: embed.mean_states(reader, [_joined(each) for each in documents])


def tfidf(documents: Sequence[Document], dim: int = 64, seed: int = 0) -> Vectors:
    """Return TF-IDF vectors in their `dim` main directions, an `Encoder`.

    A vocabulary of at most `dim` tokens is kept as it is. Columns that are not needed stay zero: so
    a model has equally many weights, and equal initial ones, whatever an arm's vocabulary is.

    Numbers are the same to the byte on any number of cores, because one thread adds them up.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from threadpoolctl import threadpool_limits

    vectors = np.zeros((len(documents), dim), np.float32)
    if any(map(_tokens, documents)):
        counts = TfidfVectorizer(analyzer=_tokens, sublinear_tf=True).fit_transform(documents)
        if counts.shape[1] <= dim:
            rows = counts.toarray()
        else:
            svd = TruncatedSVD(min(dim, *counts.shape), n_iter=10, random_state=seed)
            with threadpool_limits(limits=1):
                rows = svd.fit_transform(counts)
        vectors[:, : rows.shape[1]] = rows
    return vectors, 0


def _tokens(document: Document) -> list[str]:
    """Words of running text; values as they are. Upper and lower case are one."""
    if isinstance(document, str):
        return re.findall(r"\w+", document.casefold())
    return [" ".join(value.casefold().split()) for value in document]


def encode(modalities: Mapping[str, Sequence[Document]], encoder: Encoder = tfidf) -> Features:
    """Turn the documents of any number of modalities into features.

    Rows are scaled to length 1. Otherwise the length of a row would say how much was written
    about an item (or how common its words are), and the weights would have to learn another scale
    for every encoder and arm. A document without content becomes a row of zeros and is counted.

    Args:
        modalities: N documents each.
        encoder: from `open_encoder`.
    """
    made = Features({}, {})
    for name, documents in modalities.items():
        filled = [i for i, document in enumerate(documents) if _joined(document).strip()]
        found, cut = encoder([documents[i] for i in filled])
        length = np.linalg.norm(found, axis=1, keepdims=True)
        rows = np.zeros((len(documents), found.shape[1]), np.float32)
        rows[filled] = np.divide(found, length, out=np.zeros_like(found), where=length > _TINY)
        made.vectors[name] = rows
        made.counts[f"{name}: rows of zeros"] = int((~rows.any(axis=1)).sum())
        made.counts[f"{name}: texts cut short"] = cut
    return made


def _joined(document: Document) -> str:
    return document if isinstance(document, str) else ", ".join(document)
