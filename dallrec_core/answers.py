"""Parsers of the texts that a model writes: genres, facts, summaries.

They never raise: they return what they could read, ``ok`` and a ``reason``. Callers count the
failures and show them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from dallrec_core.prompts import FACT_FIELDS

_EMPTY_VALUES = {"", "none", "unknown", "n/a", "na", "-", "?"}


class Parsed(NamedTuple):
    """Values in the order read, whether they are usable, and why not (or what was dropped)."""

    values: tuple[str, ...]
    ok: bool
    reason: str = ""


class ParsedFacts(NamedTuple):
    """Facts by field, e.g. ``{"director": ("Joel Coen", "Ethan Coen")}``."""

    values: dict[str, tuple[str, ...]]
    ok: bool
    reason: str = ""


class ParsedSummary(NamedTuple):
    """The sentences kept (at most two); ``truncated`` when the last one has no end mark."""

    values: tuple[str, ...]
    ok: bool
    reason: str = ""
    truncated: bool = False

    @property
    def text(self) -> str:
        """The summary as one string."""
        return " ".join(self.values)


_LABEL = re.compile(
    r"^.{0,60}?\b(?:categor(?:y|ies)|genres?|attributes?|answer)\b[^:|,;]{0,40}"
    r"(?::|\b(?:are|is)\b)",
    re.I,
)
_STRONG, _WEAK = re.compile(r"[|,;\n]"), re.compile(r"\s+and\s+|[/&]", re.I)
_BULLET = re.compile(r"^(?:and\s+|\d+[.)]\s*|[-*•]\s*)", re.I)
_LONGEST = 4  # words in a genre; without a vocabulary, anything longer is chatter
_ALIASES = {"sciencefiction": "scifi", "children": "childrens", "noir": "filmnoir"}


def _key(word: str) -> str:
    key = re.sub(r"[^\w]|_", "", word.casefold())
    return _ALIASES.get(key, key)


def _pieces(text: str, known: Mapping[str, str]) -> Iterable[str]:
    """Split a list of genres; a piece that is a known genre as it stands is not split further."""
    for strong in _STRONG.split(text):
        piece = _BULLET.sub("", strong.strip()).strip(" .\"'")
        parts = [piece] if _key(piece) in known else _WEAK.split(piece)
        yield from (p.strip(' ."') for p in parts if p.strip(' ."'))


def parse_genres(text: str, vocabulary: Iterable[str] | None = None, limit: int = 3) -> Parsed:
    """Read up to ``limit`` genres; with a vocabulary only its words count, in its spelling.

    Usable (``ok``) with at least one genre; ``reason`` then names what was dropped, if anything.
    """
    body = _LABEL.sub("", text.strip(), count=1).strip()
    known = {_key(v): v for v in vocabulary} if vocabulary is not None else {}
    values: list[str] = []
    unknown: list[str] = []
    for piece in _pieces(body, known):
        short = piece if len(piece.split()) <= _LONGEST else None
        word = known.get(_key(piece)) if vocabulary is not None else short
        if word is None or piece.casefold() in _EMPTY_VALUES:
            unknown.append(piece)
        elif word not in values:
            values.append(word)
    return _genres_result(values, unknown, limit)


def _genres_result(values: list[str], unknown: list[str], limit: int) -> Parsed:
    reason = f"unknown: {', '.join(unknown)[:80]}" if unknown else ""
    if not values:
        return Parsed((), False, reason or "empty answer")
    reasons = [reason] if reason else []
    if len(values) > limit:
        reasons.append(f"more than {limit}")
    return Parsed(tuple(values[:limit]), True, "; ".join(reasons))


def parse_facts(text: str, fields: Sequence[str] = FACT_FIELDS) -> ParsedFacts:
    """Read ``director: …; country: …``: any order, ``;`` or ``,`` between, ``|`` between values.

    Usable with at least one field; ``reason`` names the missing ones.
    """
    names = "|".join(map(re.escape, fields))
    marks = list(re.finditer(rf"\b({names})s?\s*[:=]\s*", text, re.I))
    ends = [m.start() for m in marks[1:]] + [len(text)]
    facts: dict[str, tuple[str, ...]] = {}
    for mark, end in zip(marks, ends, strict=False):
        line = text[mark.end() : end].strip().split("\n")[0].strip(" ,;")
        line = line.removesuffix(".") if end == len(text) else line
        values = [v.strip() for v in re.split(r"[|,;]", line)]
        values = [v for v in values if v.casefold() not in _EMPTY_VALUES]
        if values:
            facts.setdefault(mark.group(1).lower(), tuple(dict.fromkeys(values)))
    missing = [f for f in fields if f not in facts]
    reason = f"missing: {', '.join(missing)}" if missing else ""
    return ParsedFacts(facts, bool(facts), reason if text.strip() else "empty answer")


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


def parse_summary(text: str, limit: int = 2) -> ParsedSummary:
    """Keep the first two sentences; an empty answer fails, an unfinished one is ``truncated``."""
    body = re.sub(r"^\W*(?:summary|answer)\s*:\s*", "", " ".join(text.split()), flags=re.I)
    kept = tuple(sentences(body.strip('"'))[:limit])
    if not any(re.search(r"\w", s) for s in kept):
        return ParsedSummary((), False, "empty answer")
    truncated = _SENTENCE_END.search(kept[-1]) is None
    reason = (
        "unfinished sentence"
        if truncated
        else ""
        if len(kept) == limit
        else f"{len(kept)} sentence"
    )
    return ParsedSummary(kept, True, reason, truncated)
