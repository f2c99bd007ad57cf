"""Cells as people write them: titles with their year, lists of attributes."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping

import numpy as np

from dallrec_core.data.tables import BLANKS

_YEAR = re.compile(
    r"\s*[(\[](\d{4})(?:\s*[-–]\s*(?:\d{4})?\s*)?[)\]]"  # (1995), [1995], (1995- ), (1995-1998)
    r"(?:\s*\((?:V|TV|VG|TV Series|TV Movie|Video)\))?\s*$"
)
_ARTICLE = re.compile(
    r"^(?P<alias>a\.k\.a\. )?(?P<main>.+), "
    r"(?P<article>The|A|An|La|Le|Les|L'|Il|Lo|El|Los|Las|Der|Die|Das|Det|Un|Une)$"
)
_LIST = re.compile(r"\[\s*(?:['\"{].*)?\]", re.DOTALL)
_NOTHING = (*BLANKS, "(no genres listed)")


def split_title(raw: str) -> tuple[str, int]:
    """Return title and year (0 if none) of e.g. ``Matrix, The (1999)``: ``("The Matrix", 1999)``.

    Other titles in brackets keep their brackets, each with its own article in front.
    """
    found = _YEAR.search(raw)
    title = (raw[: found.start()] if found else raw).strip()
    main, *others = re.split(r"\s*\((?=[^()]*\))", title)
    inner = [other.partition(")") for other in others]
    parts = [f" ({_article_first(text)}){rest}" for text, _, rest in inner]
    return _article_first(main.strip()) + "".join(parts), int(found[1]) if found else 0


def _article_first(title: str) -> str:
    found = _ARTICLE.match(title)
    if not found:
        return title
    gap = "" if found["article"].endswith("'") else " "
    return f"{found['alias'] or ''}{found['article']}{gap}{found['main']}"


def attribute_text(cell: object) -> str:
    """Attributes as "Crime|Drama", whichever way they are stored; blank if there are none.

    Known ways: ``Crime|Drama``, ``Crime;Drama``, ``Crime, Drama``, a list of Python, NumPy or JSON,
    and objects with a name (``[{"id": 18, "name": "Drama"}]``).

    Raises:
        ValueError: something that begins like a list and is none.
    """
    if isinstance(cell, list | tuple | np.ndarray):
        parts: Iterable[object] = [_name(part) for part in cell]
    else:
        text = cell.strip() if isinstance(cell, str) else ""
        if _LIST.fullmatch(text):
            return attribute_text(_parse_list(text))
        if re.match(r"\[\s*['\"{]", text):
            raise ValueError("a list that is not closed")
        mark = next((mark for mark in "|;," if mark in text), "|")
        parts = [] if text.lower() in _NOTHING else text.split(mark)
    stripped = (" ".join(str(part).replace("|", "/").split()) for part in parts)
    return "|".join(dict.fromkeys(part for part in stripped if part.lower() not in _NOTHING))


def _name(part: object) -> object:
    """The name of an attribute that is an object, else itself."""
    if not isinstance(part, Mapping):
        return part
    names = ("name", "title", "label", "tag", "value")
    return next((part[key] for key in names if key in part), "")


def _parse_list(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        spaced = re.sub(r"(['\"])\s+(?=['\"])", r"\1, ", text)  # NumPy prints no commas
        try:
            return ast.literal_eval(spaced)
        except (SyntaxError, ValueError) as error:
            raise ValueError("no list that can be read") from error
