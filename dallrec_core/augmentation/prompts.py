"""The questions that a language model is asked, and the answers that examples teach it.

Pure text: nothing here knows a model. Two wordings exist: ``default`` is ours; ``paper`` repeats
the authors' released instructions to the letter, typing slips included (paper: fine-tuning data).

A prompt is ``prefix + suffix``. The prefix (one user's history) is shared by all questions about
that user, so a model may read it once; the cut lies where a byte-level tokenizer cuts anyway.

Every function takes a row of the `items` table, or texts that were made of it, and the noun of the
dataset. What models really answer is read in `answers`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from dallrec_core.chain.artefacts import atomic
from dallrec_core.data.checks import check_choice
from dallrec_core.errors import UserError

WORDINGS = ("default", "paper")
"""Ways to ask, by name."""
HISTORY = {"default": 8, "paper": 5}
"""Liked (and disliked) items that a question shows at most, by wording."""
FACT_FIELDS = ("director", "actor", "country", "language")
"""Facts that may be asked for."""
YES_WORDS = ("yes", "Yes", "YES")
"""Spellings of an answer that count as yes."""
NO_WORDS = ("no", "No", "NO")
"""Spellings of an answer that count as no."""
PERSON = {"movie": "viewer", "book": "reader"}
"""What somebody is called who likes things of a noun; of any other noun it is a user."""


class Prompt(NamedTuple):
    """A question: ``prefix`` is shared by many questions, ``suffix`` is this one's own end."""

    prefix: str
    suffix: str

    @property
    def text(self) -> str:
        """The whole instruction."""
        return self.prefix + self.suffix


def is_paper(wording: str) -> bool:
    """Tell the authors' wording from ours.

    Raises:
        UserError: for any other wording, naming the valid ones.
    """
    check_choice("wording", wording, WORDINGS)
    return wording == "paper"


# ---------------------------------------------------------------- instructions (Alpaca form)


def record(instruction: str, output: str, wording: str = "default") -> dict[str, str]:
    """One example in Alpaca form; the authors' files hold a single space as input."""
    blank = " " if is_paper(wording) else ""
    return {"instruction": instruction, "input": blank, "output": output}


def write_instructions(records: Iterable[Mapping[str, str]], path: Path) -> Path:
    """Write Alpaca records as JSON lines, whole or not at all."""
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    with atomic(path) as partial:
        partial.write_text("".join(lines), encoding="utf-8")
    return path


def read_instructions(path: Path) -> list[dict[str, str]]:
    """Read JSON lines.

    Raises:
        UserError: naming the line and the field that is missing, empty or not text.
    """
    from dallrec_core.llm.examples import Record, fault  # loads torch

    records, lines = [], path.read_text(encoding="utf-8").split("\n")  # a text may hold U+2028
    for number, line in enumerate(lines, start=1):
        try:
            records += [Record.model_validate_json(line).model_dump()] if line.strip() else []
        except ValidationError as error:
            raise UserError(f"{path}, line {number}{fault(error)}") from error
    return records


# ---------------------------------------------------------------- items as text


def one_line(text: object) -> str:
    """The text with single spaces; empty for anything that is not text (None, NaN)."""
    return " ".join(text.split()) if isinstance(text, str) else ""


def split_values(text: object) -> tuple[str, ...]:
    """``"Crime|Drama"`` -> ``("Crime", "Drama")``; anything that is not text -> ``()``."""
    values = text.split("|") if isinstance(text, str) else ()
    return tuple(value.strip() for value in values if value.strip())


def name_text(row: Mapping[str, Any]) -> str:
    """Title with author (books) and year, as the default wording names an item: ``Heat (1995)``."""
    name, author, year = one_line(row["title"]), one_line(row.get("author")), row.get("year")
    if author:
        name += f" by {author}"
    return f"{name} ({year})" if year and not name.endswith(f"({year})") else name


def item_text(
    row: Mapping[str, Any], noun: str, wording: str = "default", *, target: bool = False
) -> str:
    """Name one item inside an interaction prompt: ``Heat (1995) (Action|Crime|Thriller)``.

    Unknown years, authors and attributes are left out. In the paper wording a book is
    ``TITLE (YEAR) written by AUTHOR`` among the likes, but ``TITLE(YEAR) …`` among the dislikes and
    as the target (``target=True``), and an unknown year is the ``0`` that the authors print.
    """
    if is_paper(wording) and noun == "book":
        author = one_line(row.get("author"))
        written = f" written by {author}" if author else ""
        return f"{one_line(row['title'])}{'' if target else ' '}({row.get('year') or 0}){written}"
    values = "|".join(split_values(row.get("attributes")))
    return f"{name_text(row)} ({values})" if values else name_text(row)


# ---------------------------------------------------------------- questions


def interaction_prompt(
    noun: str,
    likes: Sequence[str],
    dislikes: Sequence[str],
    target: str,
    wording: str = "default",
    person: str = "",
) -> Prompt:
    """Ask whether a user with these likes and dislikes would like the target.

    All three come as `item_text` writes them. The paper calls everybody a user; so does the
    default wording where neither `person` nor `PERSON` knows a word.
    """
    if not is_paper(wording):
        person = person or PERSON.get(noun, "user")
        article = "An" if person[0] in "aeio" else "A"
        liked, disliked = ("; ".join(items) or "none" for items in (likes, dislikes))
        prefix = (
            f"{article} {person} liked: {liked}. The {person} disliked: {disliked}. "
            f"Will the {person} like this {noun}:"
        )
        return Prompt(prefix, f" {target}? Answer yes or no.")
    head = (
        "Given the user's like and dislike, identify whether the user will like the target "
        f"{noun} by answering yes or no.user likes:"
    )
    ask = f"Whether the user will like the target {noun}"
    liked, disliked = (", ".join(items) or "None" for items in (likes, dislikes))
    if noun == "book":
        return Prompt(f"{head}{liked}.user dislikes: {disliked}.{ask}:", f" {target}?")
    liked, disliked = (f" {text}" if text != "None" else text for text in (liked, disliked))
    return Prompt(f"{head}{liked}, dislikes:{disliked}. {ask}", f":'{target}'?")


def genres_prompt(
    noun: str,
    row: Mapping[str, Any],
    wording: str = "default",
    *,
    shown: Sequence[str] | None = None,
    attribute: str = "genres",
) -> Prompt:
    """Ask for up to three genres; ``shown`` are the ones given away (default: all the row has)."""
    listed = "|".join(split_values(row.get("attributes")) if shown is None else shown)
    if not is_paper(wording):
        ask = f"List up to three {attribute} of this {noun}."
        return Prompt("", f"{_begin(noun, row)} Known {attribute}: {listed or 'none'}. {ask}")
    if noun == "book":
        ask = "Given a book title, please generate its genres in three words. Title:"
        return Prompt("", f"{ask} {one_line(row['title'])}")
    ask = f"Given a {noun} title and category, Please add the category to three words ."
    return Prompt("", f"{ask}title and category: {name_text(row)},{listed}")


def facts_prompt(
    noun: str, row: Mapping[str, Any], fields: Sequence[str], wording: str = "default"
) -> Prompt:
    """Ask for plain facts; the paper always asks for director, actor, country and language."""
    if is_paper(wording):
        ask = f"Given a {noun} title and years, Please output its {', '.join(FACT_FIELDS)}."
        return Prompt("", f"{ask} title and years: {name_text(row)}")
    names = ", ".join(fields[:-1]) + (" and " if len(fields) > 1 else "") + fields[-1]
    return Prompt("", f"{_begin(noun, row)} Name its {names}.")


def summary_prompt(
    noun: str, row: Mapping[str, Any], wording: str = "default", *, attribute: str = "genres"
) -> Prompt:
    """Ask for a summary of two sentences (the paper released this one for books only)."""
    if is_paper(wording):
        ask = f"Using two sentence to generate the summary of this {noun} named:"
        return Prompt("", f"{ask} {one_line(row['title'])}")
    listed = "|".join(split_values(row.get("attributes"))) or "none"
    begin = f"{_begin(noun, row)} Known {attribute}: {listed}."
    return Prompt("", f"{begin} Summarise this {noun} in two sentences.")


def _begin(noun: str, row: Mapping[str, Any]) -> str:
    return f"{noun.capitalize()}: {name_text(row)}."


# ---------------------------------------------------------------- answers that examples teach


def yes_no_answer(liked: bool, noun: str, wording: str = "default") -> str:
    """``yes``/``no``; the authors' book instructions answer ``Yes.``/``No.``."""
    if is_paper(wording) and noun == "book":
        return "Yes." if liked else "No."
    return "yes" if liked else "no"


def genres_answer(values: Sequence[str], noun: str, wording: str = "default") -> str:
    """The genres as the answer of an example."""
    if not is_paper(wording):
        return "|".join(values)
    return f"Genres: {', '.join(values)}." if noun == "book" else f"category: {'|'.join(values)}"


def facts_answer(facts: Mapping[str, Sequence[str]], wording: str = "default") -> str:
    """The facts as the answer of an example, in the order given."""
    colon, comma = (":", ", ") if is_paper(wording) else (": ", "; ")
    return comma.join(f"{name}{colon}{'|'.join(values)}" for name, values in facts.items())
