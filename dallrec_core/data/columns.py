"""Other people's tables: which column is meant, and what stands in a cell.

A column is meant by its own name, by a well-known one, or by the reader's word. The names of other
people's columns are data: `columns.yml` beside this module.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dallrec_core.data.checks import BLANKS, check_choice
from dallrec_core.data.tables import Source
from dallrec_core.errors import UserError

KNOWN: dict[str, dict[str, list[str]]] = {
    kind: {ours: names.split() for ours, names in columns.items()}
    for kind, columns in yaml.safe_load(Path(__file__).with_name("columns.yml").read_text()).items()
}
"""Simplified names that are understood, by what the table holds and our column.

:meta hide-value:
"""
NEEDED = {
    "interactions": ("user_id", "item_id"),
    "items": ("item_id", "title"),
    "edges": ("user_id", "item_id"),
    "values": ("item_id", "value"),
    "summaries": ("item_id", "summary"),
}
"""Columns without which nothing goes."""
_YEAR = re.compile(
    r"\s*[(\[](\d{4})(?:\s*[-–]\s*(?:\d{4})?\s*)?[)\]]"  # (1995), [1995], (1995- ), (1995-1998)
    r"(?:\s*\((?:V|TV|VG|TV Series|TV Movie|Video)\))?\s*$"
)
_ARTICLE = re.compile(
    r"^(?P<alias>a\.k\.a\. )?(?P<main>.+), "
    r"(?P<article>The|A|An|La|Le|Les|L'|Il|Lo|El|Los|Las|Der|Die|Das|Det|Un|Une)$"
)
_NOTHING = (*BLANKS, "(no genres listed)")


def simple(name: object) -> str:
    """A name without case, style and RecBole's type: "User-ID" and "user_id:token" are "userid"."""
    return re.sub(r"[\W_]+", "", str(name).partition(":")[0].casefold())


def understand(
    sources: Mapping[str, Source], columns: Mapping[str, str], words: Mapping[str, Any]
) -> dict[str, dict[str, str]]:
    """Find our columns in one or two tables.

    An entry of `columns` comes first, then a column of our own name, then the words of this
    dataset ("dish_id", "cuisine"), then the names in `KNOWN`.

    Args:
        sources: the tables, by what they hold (a key of `KNOWN`).
        columns: our name -> theirs ("" for none).
        words: "noun", "person" and "attribute" of the dataset.

    Returns:
        by table, our name -> theirs.

    Raises:
        UserError: a needed column is missing, two could be meant, or `columns` names what is not.
    """
    present = [name for source in sources.values() for name in source.names]
    for key, name in columns.items():
        check_choice("column of ours", key, [ours for kind in sources for ours in KNOWN[kind]])
        if name and name not in present:
            raise UserError(
                f"columns: '{key}' is mapped to '{name}', which is in none of the files. "
                f"Columns there: {_listed(present)}."
            )
    noun, person = simple(words["noun"]), simple(words["person"] or "user")
    own = {"user_id": [f"{person}id", person], "item_id": [f"{noun}id", noun]}
    own |= {"title": [f"{noun}title", f"{noun}name"], "attributes": [simple(words["attribute"])]}
    found: dict[str, dict[str, str]] = {kind: {} for kind in sources}
    for kind, source in sources.items():
        free = [name for name in source.names if name not in columns.values()]
        for ours, known in KNOWN[kind].items():
            theirs = columns.get(ours)
            if theirs != "" and theirs not in source.names:
                also = ["id"] if ours == "item_id" and "user_id" not in KNOWN[kind] else []
                tiers = ([simple(ours)], own.get(ours, []), known, also)
                fits = ([name for name in free if simple(name) in tier] for tier in tiers)
                meant = next(filter(None, fits), [])
                if len(meant) > 1 and ours == "item_id":  # the one that the other table has too
                    others = {simple(n) for k in sources if k != kind for n in sources[k].names}
                    meant = [name for name in meant if simple(name) in others] or meant
                if len(meant) > 1:
                    raise UserError(
                        f"{source.path}: {_listed(meant, ' and ')} could each be {ours}. Say "
                        f'which, for example columns={{"{ours}": "{meant[0]}"}}; "" stands for '
                        "none of them."
                    )
                theirs = "".join(meant)
            if theirs:
                found[kind][ours] = theirs
            elif ours in NEEDED[kind]:
                raise UserError(
                    f"{source.path}: column '{ours}' is missing; the file has "
                    f"{_listed(source.names)}. Rename it there, or set "
                    f'columns={{"{ours}": "the name in your file"}}.'
                )
    return found


def _listed(names: Iterable[str], between: str = ", ") -> str:
    return between.join(f"'{name}'" for name in names)


# ---------------------------------------------------------------- cells


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
        ValueError: something that begins like a list and cannot be read as one.
    """
    if isinstance(cell, list | tuple | np.ndarray):
        parts = [part.get("name", "") if isinstance(part, Mapping) else part for part in cell]
    else:
        text = cell.strip() if isinstance(cell, str) else ""
        if re.match(r"\[\s*['\"{\]]", text):
            return attribute_text(_parse_list(text))
        mark = next((mark for mark in "|;," if mark in text), "|")
        parts = [] if text.lower() in _NOTHING else text.split(mark)
    stripped = (" ".join(str(part).replace("|", "/").split()) for part in parts)
    return "|".join(dict.fromkeys(part for part in stripped if part.lower() not in _NOTHING))


def _parse_list(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        spaced = re.sub(r"(['\"])\s+(?=['\"])", r"\1, ", text)  # NumPy prints no commas
        try:
            return ast.literal_eval(spaced)
        except (SyntaxError, ValueError) as error:
            raise ValueError("not a list that can be read") from error
