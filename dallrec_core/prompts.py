"""The three instruction templates and the answers examples teach (paper: fine-tuning data).

Pure text: nothing here knows a model. Two wordings exist: ``default`` is ours; ``paper`` repeats
the authors' released instructions to the letter, typing slips included.

A prompt is ``prefix + suffix``. The prefix (one user's history) is shared by all questions about
that user, so a model may read it once; the cut lies where a byte-level tokenizer cuts anyway.

The parsers of a model's answers are in `answers`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dallrec_core.errors import UserError

WORDINGS = ("default", "paper")
HISTORY = {"default": 8, "paper": 5}  # liked (and disliked) items shown at most
FACT_FIELDS = ("director", "actor", "country", "language")
YES_WORDS = {w: ("yes", "Yes", "YES") for w in WORDINGS}
NO_WORDS = {w: ("no", "No", "NO") for w in WORDINGS}

_PERSON = {"movie": "viewer", "book": "reader"}


class Prompt(NamedTuple):
    """A question: ``prefix`` is shared by many questions, ``suffix`` is this one's own end."""

    prefix: str
    suffix: str

    @property
    def text(self) -> str:
        """The whole instruction."""
        return self.prefix + self.suffix


def check_wording(wording: str) -> str:
    """Return the wording, or raise ``UserError`` naming the valid ones."""
    if wording not in WORDINGS:
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
