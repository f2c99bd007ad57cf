"""Item summaries of two sentences, written by a language model (paper: third augmentation)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from dallrec_core.augmentation import prompts
from dallrec_core.augmentation.answers import Asker, parse_summary, sentences
from dallrec_core.augmentation.prompts import Prompt
from dallrec_core.augmentation.view import Parts, TrainingView, n_examples

# ---------------------------------------------------------------- examples and held-out items


def parts(data: TrainingView, n: int = 64, held_out: int = 100, seed: int = 0) -> Parts:
    """Choose items whose summaries are shown, and others to measure on.

    Items with a given ``text`` come first (a quarter of them is held out if they are too few for
    both). The rest of the examples is composed from the facts we have (`compose`), and so is every
    case where the dataset has no texts at all, as MovieLens has none.

    Returns:
        frames with item, summary, origin ("given" or "composed"), and remarks.
    """
    rng = np.random.default_rng([seed, 20])
    lacking = without_text(data)
    given = rng.permutation(np.setdiff1d(np.arange(data.n_items), lacking))
    bare = rng.permutation(np.array(lacking, int))
    cut = n_examples(len(given), n, held_out)
    composed = min(n - cut, len(bare))
    rest = given[cut:] if len(given) else bare[composed:]
    notes = []
    if composed:
        text = f"{composed} of {cut + composed} example summaries are composed from known facts"
        notes.append(f"{text}: only {len(given)} {data.nouns} have a text of two sentences")
    examples = np.concatenate([given[:cut], bare[:composed]])
    return Parts(_cases(data, examples), _cases(data, rest[:held_out]), notes)


def _cases(data: TrainingView, items: np.ndarray) -> pd.DataFrame:
    texts = [_given(data.rows[item]) for item in items]
    whole = [text or compose(data, int(i)) for i, text in zip(items, texts, strict=True)]
    origin = ["given" if text else "composed" for text in texts]
    frame = pd.DataFrame({"item": items, "summary": whole, "origin": origin})
    return frame.astype({"item": "int32"})


def _given(row: dict[str, Any]) -> str:
    """The first two sentences of a given text; empty without a text or with fewer."""
    read = parse_summary(prompts.one_line(row.get("text")))
    return read.text if read.ok and not read.reason else ""


def without_text(data: TrainingView) -> list[int]:
    """Return the items whose given text, if any, has fewer than two whole sentences."""
    return [item for item, row in enumerate(data.rows) if not _given(row)]


def compose(data: TrainingView, item: int) -> str:
    """Two plain sentences from what the items table knows: title, year, author, facts, attributes.

    A name that ends in an initial never ends a sentence, which would hide its end.
    """
    row, values = data.rows[item], [value.lower() for value in data.values[item]]
    maker = prompts.one_line(row.get("author")) or prompts.one_line(row.get("director"))
    by = f", by {maker.replace('|', ' and ')}," if maker else ""
    kind = f"{values[0]} {data.noun}" if values else data.noun
    article = "an" if kind[0] in "aeiou" else "a"
    when = f" from {row['year']}" if row.get("year") else ""
    country = prompts.split_values(row.get("country"))
    if len(values) > 1:
        second = f"It combines {', '.join(values[:-1])} and {values[-1]}."
    elif country:
        second = f"It was made in {country[0]}."
    elif values:
        second = f"People who enjoy {values[0]} may like it."
    else:
        second = "People can find it under this title."
    return f"{prompts.one_line(row['title'])}{by} is {article} {kind}{when}. {second}"


def instructions(
    data: TrainingView, cases: pd.DataFrame, wording: str = "default", seed: int = 0
) -> list[dict[str, str]]:
    """Turn cases of `parts` into Alpaca records (nothing here is drawn, so `seed` does nothing)."""
    pairs = cases[["item", "summary"]].itertuples(index=False)
    return [prompts.record(_prompt(data, i, wording).text, text, wording) for i, text in pairs]


def _prompt(data: TrainingView, item: int, wording: str) -> Prompt:
    return prompts.summary_prompt(data.noun, data.rows[item], wording, attribute=data.attribute)


# ---------------------------------------------------------------- asking


def write(
    asker: Asker, data: TrainingView, items: Sequence[int], max_new_tokens: int = 80
) -> pd.DataFrame:
    """Ask for summaries of these items; schema `summaries` plus ``parsed`` and ``reason``.

    The first two sentences are kept. An empty answer stays as a row with ``parsed`` False.
    ``truncated``: the token limit cut the text before its second sentence ended. ``tokens`` counts
    what the model wrote, before anything was cut off.
    """
    questions, rows = [_prompt(data, item, asker.wording) for item in items], []
    for item, answer in zip(items, asker.write(questions, max_new_tokens), strict=True):
        read = parse_summary(answer.text)
        rows.append((item, read.text, answer.tokens, read.truncated, read.ok, read.reason))
    columns = ["item", "summary", "tokens", "truncated", "parsed", "reason"]
    kinds = {"item": "int32", "tokens": "int32", "truncated": bool, "parsed": bool}
    return pd.DataFrame(rows, columns=columns).astype(kinds)


def augment(
    asker: Asker, data: TrainingView, *, max_items: int = 0, max_new_tokens: int = 80
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Write a summary of every item `without_text` (or of the `max_items` most seen of them).

    What the dataset says itself is kept. The paper does not say what it does with given texts: its
    datasets have none.

    Returns:
        the frame of `write`, by item, and `statistics` of it with the number of texts kept.
    """
    lacking = without_text(data)
    frame = write(asker, data, data.most_seen(lacking, max_items), max_new_tokens)
    return frame, {"texts kept": data.n_items - len(lacking), **statistics(frame)}


# ---------------------------------------------------------------- measuring


def readable(text: str) -> bool:
    """A mechanical check: not empty, ends with a mark, neither sentence nor 4 words repeated."""
    words = text.casefold().split()
    fours = Counter(zip(*(words[k:] for k in range(4)), strict=False))
    lines = [s.casefold() for s in sentences(text)]
    repeated = len(set(lines)) < len(lines) or max(fours.values(), default=0) > 2
    return bool(words) and text[-1] in ".!?\"')”" and not repeated


def statistics(frame: pd.DataFrame) -> dict[str, float]:
    """Count and describe summaries: words, two-sentence, readable, truncated and empty shares."""
    texts = list(frame["summary"])
    if not texts:
        return {"n": 0}
    return {
        "n": len(texts),
        "mean_words": float(np.mean([len(text.split()) for text in texts])),
        "two_sentences": float(np.mean([len(sentences(text)) == 2 for text in texts])),
        "readable": float(np.mean([readable(text) for text in texts])),
        "truncated": float(frame["truncated"].mean()),
        "empty": float((frame["summary"] == "").mean()),
        "distinct": len(set(texts)) / len(texts),
    }


def evaluate(
    asker: Asker, data: TrainingView, cases: pd.DataFrame
) -> tuple[dict[str, float], pd.DataFrame]:
    """Return `statistics` of summaries of held-out cases of `parts`, and the summaries."""
    frame = write(asker, data, cases["item"].tolist())
    return statistics(frame), frame
