"""The three instruction templates, and the parsers of their answers (paper: fine-tuning data).

Pure text: nothing here knows a model. Two wordings exist: ``default`` is ours; ``paper`` repeats
the authors' released instructions to the letter, typing slips included.

A prompt is ``prefix + suffix``. The prefix (one user's history) is shared by all questions about
that user, so a model may read it once; the cut lies where a byte-level tokenizer cuts anyway.

Parsers never raise: they return what they could read, ``ok`` and a ``reason``. Callers count the
failures and show them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

WORDINGS = ("default", "paper")
HISTORY = {"default": 8, "paper": 5}  # liked (and disliked) items shown at most
FACT_FIELDS = ("director", "actor", "country", "language")
YES_WORDS = {w: ("yes", "Yes", "YES") for w in WORDINGS}
NO_WORDS = {w: ("no", "No", "NO") for w in WORDINGS}

_PERSON = {"movie": "viewer", "book": "reader"}
_EMPTY_VALUES = {"", "none", "unknown", "n/a", "na", "-", "?"}


class Prompt(NamedTuple):
    """A question: ``prefix`` is shared by many questions, ``suffix`` is this one's own end."""

    prefix: str
    suffix: str

    @property
    def text(self) -> str:
        """The whole instruction."""
        return self.prefix + self.suffix


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


def check_wording(wording: str) -> str:
    """Return the wording, or raise ``UserError`` naming the valid ones."""
    if wording not in WORDINGS:
        from dallrec_core.errors import UserError

        raise UserError(f"unknown wording {wording!r}; use one of: {', '.join(WORDINGS)}")
    return wording


# ---------------------------------------------------------------- items as text


def _field(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    # None, NaN and pandas.NA are not strings, so one test covers them all
    return " ".join(value.split()) if isinstance(value, str) else ""


def _year(row: Mapping[str, Any]) -> int:
    try:
        return int(row.get("year") or 0)
    except (TypeError, ValueError):
        return 0


def split_values(text: object) -> tuple[str, ...]:
    """``"Crime|Drama"`` -> ``("Crime", "Drama")``; anything that is not text -> ``()``."""
    if not isinstance(text, str):
        return ()
    return tuple(v.strip() for v in text.split("|") if v.strip())


def name_text(row: Mapping[str, Any], noun: str) -> str:
    """Title with author (books) and year, as the default wording names an item: ``Heat (1995)``."""
    title, author, year = _field(row, "title"), _field(row, "author"), _year(row)
    if author:
        title += f" by {author}"
    return f"{title} ({year})" if year and not title.endswith(f"({year})") else title


def item_text(
    row: Mapping[str, Any], noun: str, wording: str = "default", *, target: bool = False
) -> str:
    """Name one item inside an interaction prompt: ``Heat (1995) (Action|Crime|Thriller)``.

    ``row`` is a row of the `items` table; unknown years, authors and attributes are left out.
    In the paper wording a book is ``TITLE (YEAR) written by AUTHOR`` among the likes, but
    ``TITLE(YEAR) …`` among the dislikes and as the target (``target=True``), and an unknown year is
    the ``0`` that the authors print.
    """
    if check_wording(wording) == "paper" and noun == "book":
        author = _field(row, "author")
        gap = "" if target else " "
        written = f" written by {author}" if author else ""
        return f"{_field(row, 'title')}{gap}({_year(row)}){written}"
    values = "|".join(split_values(row.get("attributes")))
    name = name_text(row, noun)
    return f"{name} ({values})" if values else name


# ---------------------------------------------------------------- questions


def interaction_prompt(
    noun: str,
    likes: Sequence[str],
    dislikes: Sequence[str],
    target: str,
    wording: str = "default",
) -> Prompt:
    """Ask whether a user with these likes and dislikes would like the target.

    All three come as `item_text` writes them.
    """
    if check_wording(wording) == "paper":
        return _paper_interaction(noun, likes, dislikes, target)
    person = _PERSON.get(noun, "user")
    liked, disliked = ("; ".join(x) if x else "none" for x in (likes, dislikes))
    prefix = (
        f"A {person} liked: {liked}. The {person} disliked: {disliked}. "
        f"Will the {person} like this {noun}:"
    )
    return Prompt(prefix, f" {target}? Answer yes or no.")


def _paper_interaction(
    noun: str, likes: Sequence[str], dislikes: Sequence[str], target: str
) -> Prompt:
    head = (
        "Given the user's like and dislike, identify whether the user will like the target "
        f"{noun} by answering yes or no.user likes:"
    )
    if noun == "book":
        liked, disliked = (", ".join(x) or "None" for x in (likes, dislikes))
        ask = "Whether the user will like the target book:"
        return Prompt(f"{head}{liked}.user dislikes: {disliked}.{ask}", f" {target}?")
    liked, disliked = (" " + ", ".join(x) if x else "None" for x in (likes, dislikes))
    prefix = f"{head}{liked}, dislikes:{disliked}. Whether the user will like the target {noun}"
    return Prompt(prefix, f":'{target}'?")


def genres_prompt(
    noun: str,
    row: Mapping[str, Any],
    wording: str = "default",
    *,
    known: Sequence[str] | None = None,
    attribute: str = "genres",
) -> Prompt:
    """Ask for up to three genres; ``known`` are the ones shown (default: all the row has)."""
    shown = "|".join(split_values(row.get("attributes")) if known is None else known)
    if check_wording(wording) == "paper":
        title = _field(row, "title")
        if noun == "book":
            ask = "Given a book title, please generate its genres in three words. Title:"
            return Prompt("", f"{ask} {title}")
        ask = f"Given a {noun} title and category, Please add the category to three words ."
        return Prompt("", f"{ask}title and category: {name_text(row, noun)},{shown}")
    known_text = f"Known {attribute}: {shown or 'none'}."
    ask = f"List up to three {attribute} of this {noun}."
    return Prompt("", f"{noun.capitalize()}: {name_text(row, noun)}. {known_text} {ask}")


def facts_prompt(
    noun: str,
    row: Mapping[str, Any],
    wording: str = "default",
    *,
    fields: Sequence[str] = ("director", "country", "language"),
) -> Prompt:
    """Ask for plain facts; the paper always asks for director, actor, country and language."""
    if check_wording(wording) == "paper":
        ask = f"Given a {noun} title and years, Please output its {', '.join(FACT_FIELDS)}."
        return Prompt("", f"{ask} title and years: {name_text(row, noun)}")
    names = ", ".join(fields[:-1]) + (" and " if len(fields) > 1 else "") + fields[-1]
    return Prompt("", f"{noun.capitalize()}: {name_text(row, noun)}. Name its {names}.")


def summary_prompt(
    noun: str, row: Mapping[str, Any], wording: str = "default", *, attribute: str = "genres"
) -> Prompt:
    """Ask for a summary of two sentences (the paper released this one for books only)."""
    if check_wording(wording) == "paper":
        ask = f"Using two sentence to generate the summary of this {noun} named:"
        return Prompt("", f"{ask} {_field(row, 'title')}")
    shown = "|".join(split_values(row.get("attributes"))) or "none"
    name = f"{noun.capitalize()}: {name_text(row, noun)}. Known {attribute}: {shown}."
    return Prompt("", f"{name} Summarise this {noun} in two sentences.")


# ---------------------------------------------------------------- answers that examples teach


def yes_no_answer(liked: bool, noun: str, wording: str = "default") -> str:
    """``yes``/``no``; the authors' book instructions answer ``Yes.``/``No.``."""
    if check_wording(wording) == "paper" and noun == "book":
        return "Yes." if liked else "No."
    return "yes" if liked else "no"


def genres_answer(values: Sequence[str], noun: str, wording: str = "default") -> str:
    """The genres as the answer of an example."""
    if check_wording(wording) == "default":
        return "|".join(values)
    return f"Genres: {', '.join(values)}." if noun == "book" else f"category: {'|'.join(values)}"


def facts_answer(facts: Mapping[str, Sequence[str]], wording: str = "default") -> str:
    """The facts as the answer of an example, in the order given."""
    colon, comma = (":", ", ") if check_wording(wording) == "paper" else (": ", "; ")
    return comma.join(f"{name}{colon}{'|'.join(values)}" for name, values in facts.items())


# ---------------------------------------------------------------- parsers

_LEAD = re.compile(
    r"^\W*(?:(?:the\s+)?answer\s*(?:is)?\W*)?(yes|no)\b(?!\s+(?:idea|answer|opinion))", re.I
)
_BOTH = re.compile(r"\byes\s*(?:/|or)\s*no\b", re.I)
_WORD = re.compile(r"\b(yes|no)\b", re.I)


def parse_yes_no(text: str) -> Parsed:
    """Read ``yes`` or ``no`` from a free answer: "Yes.", "yes, because …", " NO", "Answer: yes"."""
    if not text.strip():
        return Parsed((), False, "empty answer")
    if _BOTH.search(text):
        return Parsed((), False, "both yes and no")
    lead = _LEAD.match(text)
    if lead:
        return Parsed((lead.group(1).lower(),), True)
    words = {w.lower() for w in _WORD.findall(text)}
    # a late "no" is often only a word ("no idea"), a late "yes" is an answer
    if words == {"yes"}:
        return Parsed(("yes",), True)
    return Parsed((), False, "both yes and no" if len(words) == 2 else "neither yes nor no")


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
