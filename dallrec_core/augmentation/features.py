"""Item texts as vectors, the features of the multi-modal recommenders.

Three kinds of encoder, chosen by one word: TF-IDF with a truncated singular value decomposition
(offline, no weights to download), any text encoder of Hugging Face, or a language model's own
hidden states. Which one is used never depends on the arm: arms differ in the texts alone.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dallrec_core.errors import UserError

Document = str | tuple[str, ...]
"""Running text, or values that stay whole ("Film-Noir" is one token); empty: nothing is known."""

Vectors = tuple[np.ndarray, int]
"""Vectors float32 [n, width] of n documents that are not empty, and how many were cut short."""

Encoder = Callable[[Sequence[Document]], Vectors]
"""What `open_encoder` returns."""

_TINY = 1e-6  # a row shorter than that is rounding noise, which no scaling turns into a direction


class Features(NamedTuple):
    """One matrix per modality, and what was counted on the way."""

    vectors: dict[str, np.ndarray]
    """float32 [N, width] by modality; rows have length 1, or 0 where nothing is known"""
    counts: dict[str, int]
    """by modality: rows of zeros, and texts that the encoder cut short"""


def encode(
    modalities: Mapping[str, Sequence[Document]], encoder: str | Encoder = "tfidf", *, seed: int = 0
) -> Features:
    """Turn the documents of any number of modalities into features.

    Rows are scaled to length 1. Otherwise the length of a row would say how much was written
    about an item (or how common its words are), and the weights would have to learn another scale
    for every encoder and arm. A document without content becomes a row of zeros and is counted.

    Args:
        modalities: N documents each.
        encoder: from `open_encoder`, or a name for it.
        seed: of TF-IDF's decomposition, where `encoder` is a name.

    Raises:
        UserError: for an encoder that does not exist.
    """
    make = open_encoder(encoder, seed=seed) if isinstance(encoder, str) else encoder
    vectors: dict[str, np.ndarray] = {}
    counts: dict[str, int] = {}
    for name, documents in modalities.items():
        filled = [i for i, document in enumerate(documents) if _joined(document).strip()]
        found, cut = make([documents[i] for i in filled])
        rows = np.zeros((len(documents), found.shape[1]), np.float32)
        rows[filled] = _unit(found)
        vectors[name] = rows
        counts[f"{name}: rows of zeros"] = int((~rows.any(axis=1)).sum())
        counts[f"{name}: texts cut short"] = cut
    return Features(vectors, counts)


def open_encoder(
    name: str,
    *,
    dim: int = 64,
    seed: int = 0,
    device: str = "auto",
    quantize: str = "none",
    batch_tokens: int = 16384,
) -> Encoder:
    """Load an encoder once, to be used for every arm.

    Args:
        name: `tfidf`; `lm:` and a language model (`lm:standin`, `lm:Qwen/Qwen2.5-0.5B`), whose
            last hidden states are averaged; else the folder or Hugging Face id of a text encoder.
            `@` and a revision pin a hub model.
        dim: width of the TF-IDF vectors; a model has its own.
        seed: of the decomposition of TF-IDF.
        device: where a model runs.
        quantize: how a language model's weights are stored, see `llm.models.load`.
        batch_tokens: rows x tokens per row of one forward pass of a model.

    Raises:
        UserError: when there is no such encoder or it cannot be loaded.
    """
    if name == "tfidf":
        return lambda documents: (_tfidf(documents, dim, seed), 0)
    kind, model, revision = _parse(name)
    from dallrec_core.llm import embed, load  # heavy, and TF-IDF does without

    try:
        if kind == "lm":
            lm = load.load(model, device=device, quantize=quantize, revision=revision)
            reader = embed.of_language_model(lm)
        else:
            reader = embed.load_encoder(model, device=device, revision=revision)
    except UserError as error:
        raise UserError(f"encoder '{name}': {error}. An encoder is {_VALID}") from error
    return lambda documents: embed.mean_states(
        reader, [_joined(document) for document in documents], batch_tokens=batch_tokens
    )


_VALID = (
    "'tfidf', 'lm:' and a language model such as 'lm:standin', or the folder or Hugging Face id of "
    "a text encoder such as 'sentence-transformers/all-MiniLM-L6-v2'"
)


def _parse(name: str) -> tuple[str, str, str | None]:
    """Return "lm" or "encoder", the model's name, and its revision or None."""
    if name in ("", "lm", "lm:") or difflib.get_close_matches(name.lower(), ["tfidf"]):
        raise UserError(f"encoder '{name}' is unknown; it should be {_VALID}")
    kind, _, model = name.partition(":") if name.startswith("lm:") else ("encoder", "", name)
    if "@" not in model or Path(model).expanduser().is_dir():
        return kind, model, None
    model, _, revision = model.rpartition("@")
    return kind, model, revision or None


def _joined(document: Document) -> str:
    return document if isinstance(document, str) else ", ".join(document)


def _unit(matrix: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.divide(matrix, length, out=np.zeros_like(matrix), where=length > _TINY)


# ---------------------------------------------------------------- TF-IDF


def _tokens(document: Document) -> list[str]:
    """Words of running text; values as they are. Upper and lower case are one."""
    if isinstance(document, str):
        return re.findall(r"\w+", document.casefold())
    return [" ".join(value.casefold().split()) for value in document]


def _tfidf(documents: Sequence[Document], dim: int, seed: int) -> np.ndarray:
    """Return TF-IDF vectors in their `dim` main directions, float32 [n, dim].

    A vocabulary of at most `dim` tokens is kept as it is. Columns that are not needed stay zero: so
    a model has equally many weights, and equal initial ones, whatever an arm's vocabulary is.

    Numbers are the same to the byte on any number of cores, because one thread adds them up.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from threadpoolctl import threadpool_limits

    if dim < 1:
        raise UserError(f"dim is {dim}; it must be at least 1")
    vectors = np.zeros((len(documents), dim), np.float32)
    if not any(map(_tokens, documents)):
        return vectors
    counts = TfidfVectorizer(analyzer=_tokens, sublinear_tf=True).fit_transform(documents)
    if counts.shape[1] <= dim:
        vectors[:, : counts.shape[1]] = counts.toarray()
        return vectors
    kept = min(dim, *counts.shape)
    with threadpool_limits(limits=1):
        svd = TruncatedSVD(kept, n_iter=10, random_state=seed)
        vectors[:, :kept] = svd.fit_transform(counts)
    return vectors
