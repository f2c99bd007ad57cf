"""From a question to an answer: who asks, and what is read from the texts that come back.

The parsers never raise: they return what they could read. Callers count the failures and show them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from dallrec_core.augmentation.prompts import FACT_FIELDS, NO_WORDS, YES_WORDS, Prompt

# ---------------------------------------------------------------- asking


class Asker(NamedTuple):
    """A model that can be asked; every task of this room takes one."""

    lm: Any
    """from `llm.open_model`"""
    wording: str = "default"
    """one of `prompts.WORDINGS`"""
    cache: Any = None
    """an `llm.AnswerCache`; None keeps no answer"""

    def p_yes(self, prompts: Sequence[Prompt]) -> np.ndarray:
        """Return the probability of yes, [n]; NaN where the model says neither yes nor no."""
        from dallrec_core.llm.score import p_yes

        return np.asarray(p_yes(self.lm, prompts, YES_WORDS, NO_WORDS, cache=self.cache))

    def write(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Any]:
        """Return one answer per prompt, greedy: `llm.generate.Generated` with text and tokens."""
        from dallrec_core.llm.generate import generate

        return generate(self.lm, prompts, max_new_tokens=max_new_tokens, cache=self.cache)

    def log_likelihood(self, questions: Sequence[tuple[str, str]]) -> np.ndarray:
        """Return the log-likelihood of answers after their instructions, [n]."""
        from dallrec_core.llm.generate import log_likelihood

        return log_likelihood(self.lm, questions, cache=self.cache)


# ---------------------------------------------------------------- reading


class Parsed(NamedTuple):
    """Values or sentences in the order read, and how well that went."""

    values: tuple[str, ...]
    ok: bool
    """whether anything could be used"""
    reason: str = ""
    """why not, or what was dropped"""
    truncated: bool = False
    """whether the last sentence has no end mark"""

    @property
    def text(self) -> str:
        """The sentences as one string."""
        return " ".join(self.values)


_NOTHING = {"", "none", "unknown", "n/a", "na", "-", "?"}
_LABEL = re.compile(
    r"^.{0,60}?\b(?:categor(?:y|ies)|genres?|attributes?|answer)\b[^:|,;]{0,40}"
    r"(?::|\b(?:are|is)\b)",
    re.I,
)
_STRONG, _WEAK = re.compile(r"[|,;\n]"), re.compile(r"\s+and\s+|[/&]", re.I)
_BULLET = re.compile(r"^(?:and\s+|\d+[.)]\s*|[-*•]\s*)", re.I)
_LONGEST = 4  # words in a genre; without a vocabulary, anything longer is chatter
_ALIASES = {"sciencefiction": "scifi", "children": "childrens", "noir": "filmnoir"}


def parse_genres(text: str, vocabulary: Iterable[str] | None = None, limit: int = 3) -> Parsed:
    """Read up to ``limit`` genres; with a vocabulary only its words count, in its spelling.

    Usable (``ok``) with at least one genre; ``reason`` then names what was dropped, if anything.
    """
    spelling = {_key(word): word for word in vocabulary or ()}
    values: list[str] = []
    dropped: list[str] = []
    for piece in _pieces(_LABEL.sub("", text.strip(), count=1).strip(), spelling):
        fits = len(piece.split()) <= _LONGEST if vocabulary is None else _key(piece) in spelling
        word = spelling.get(_key(piece), piece)
        if not fits or piece.casefold() in _NOTHING:
            dropped.append(piece)
        elif word not in values:
            values.append(word)
    reasons = [f"unknown: {', '.join(dropped)[:80]}"] if dropped else []
    if not values:
        return Parsed((), False, reasons[0] if reasons else "empty answer")
    reasons += [f"more than {limit}"] if len(values) > limit else []
    return Parsed(tuple(values[:limit]), True, "; ".join(reasons))


def _key(word: str) -> str:
    key = re.sub(r"[^\w]|_", "", word.casefold())
    return _ALIASES.get(key, key)


def _pieces(text: str, vocabulary: Collection[str]) -> Iterator[str]:
    """Split a list of genres; a piece that is a known genre as it stands is not split further."""
    for strong in _STRONG.split(text):
        piece = _BULLET.sub("", strong.strip()).strip(" .\"'")
        parts = [piece] if _key(piece) in vocabulary else _WEAK.split(piece)
        yield from (part.strip(' ."') for part in parts if part.strip(' ."'))


def parse_facts(text: str, fields: Sequence[str] = FACT_FIELDS) -> dict[str, tuple[str, ...]]:
    """Read ``director: …; country: …``: any order, ``;`` or ``,`` between, ``|`` between values.

    Returns:
        the values of each field that the text names; a field that it leaves out has no entry.
    """
    names = "|".join(map(re.escape, fields))
    marks = list(re.finditer(rf"\b({names})s?\s*[:=]\s*", text, re.I))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    facts: dict[str, tuple[str, ...]] = {}
    for mark, end in zip(marks, ends, strict=False):
        line = text[mark.end() : end].strip().split("\n")[0].strip(" ,;")
        line = line.removesuffix(".") if end == len(text) else line
        values = [value.strip() for value in re.split(r"[|,;]", line)]
        values = [value for value in values if value.casefold() not in _NOTHING]
        if values:
            facts.setdefault(mark.group(1).lower(), tuple(dict.fromkeys(values)))
    return facts


_ABBREVIATION = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|St|Jr|Sr|vs|No|Vol)|\b[A-Z])\.$")
_SENTENCE_END = re.compile(r"[.!?][\"')\]”’]*(?=\s|$)")


def sentences(text: str) -> list[str]:
    """Split into sentences; abbreviations, initials, and marks before a small letter end none."""
    out, start = [], 0
    for mark in _SENTENCE_END.finditer(text):
        rest = text[mark.end() :].lstrip()
        if rest and (rest[0].islower() or _ABBREVIATION.search(text[start : mark.start() + 1])):
            continue
        out.append(text[start : mark.end()].strip())
        start = mark.end()
    rest = text[start:].strip()
    return [*out, rest] if rest else out


def parse_summary(text: str, limit: int = 2) -> Parsed:
    """Keep the first two sentences; an empty answer fails, an unfinished one is ``truncated``."""
    body = re.sub(r"^\W*(?:summary|answer)\s*:\s*", "", " ".join(text.split()), flags=re.I)
    kept = tuple(sentences(body.strip('"'))[:limit])
    if not re.search(r"\w", " ".join(kept)):
        return Parsed((), False, "empty answer")
    if _SENTENCE_END.search(kept[-1]) is None:
        return Parsed(kept, True, "unfinished sentence", truncated=True)
    return Parsed(kept, True, "" if len(kept) == limit else f"{len(kept)} sentence")
