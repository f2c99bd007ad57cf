"""Other people's tables: which column is meant, and what stands in a cell.

A column is meant by its own name, by a well-known one, or by the reader's word. The names of other
people's columns are data: `columns.yml` beside this module.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
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
"""Simplified names that are understood, by table ("interactions", "items") and our column.

:meta hide-value:
"""
NEEDED = {"interactions": ("user_id", "item_id"), "items": ("item_id", "title")}
"""Columns without which nothing goes."""
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


def simple(name: object) -> str:
    """A name without case, style and RecBole's type: "User-ID" and "user_id:token" are "userid"."""
    return re.sub(r"[\W_]+", "", str(name).partition(":")[0].casefold())


def understand(
    sources: Mapping[str, Source],
    columns: Mapping[str, str],
    words: Mapping[str, Any],
    needed: Mapping[str, Sequence[str]] = NEEDED,
) -> dict[str, dict[str, str]]:
    """Find our columns in one or two tables.

    An entry of `columns` comes first, then a column of our own name, then the words of this
    dataset ("dish_id", "cuisine"), then the names in `KNOWN`.

    Args:
        sources: the tables, "interactions" and "items".
        columns: our name -> theirs ("" for none); a prefix "items." limits it to one table.
        words: "noun", "person" and "attribute" of the dataset.
        needed: by table, our columns that it must have.

    Returns:
        by table, our name -> theirs.

    Raises:
        UserError: a needed column is missing, two could be meant, or `columns` names what is not.
    """
    _check(sources, columns)
    noun, person = simple(words["noun"]), simple(words["person"] or "user")
    own = {"user_id": [f"{person}id", person], "item_id": [f"{noun}id", noun]}
    own |= {"title": [f"{noun}title", f"{noun}name"], "attributes": [simple(words["attribute"])]}
    found: dict[str, dict[str, str]] = {kind: {} for kind in sources}
    for kind, source in sources.items():
        told = {ours: columns.get(f"{kind}.{ours}", columns.get(ours)) for ours in KNOWN[kind]}
        free = [name for name in source.names if name not in told.values()]
        for ours, known in KNOWN[kind].items():
            theirs = told[ours]
            if theirs != "" and theirs not in source.names:
                also = ["id"] if (kind, ours) == ("items", "item_id") else []
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
            elif ours in needed[kind]:
                raise UserError(
                    f"{source.path}: column '{ours}' is missing; the file has "
                    f"{_listed(source.names)}. Rename it there, or set "
                    f'columns={{"{ours}": "the name in your file"}}.'
                )
    return found


def _check(sources: Mapping[str, Source], columns: Mapping[str, str]) -> None:
    """Refuse entries that are none of our columns, or whose column is in none of their tables."""
    valid = list(dict.fromkeys(ours for names in KNOWN.values() for ours in names))
    valid += [f"{kind}.{ours}" for kind, names in KNOWN.items() for ours in names]
    for key, theirs in columns.items():
        check_choice("column of ours", key, valid)
        asked = [
            source for kind, source in sources.items() if "." not in key or key.startswith(kind)
        ]
        present = [name for source in asked for name in source.names]
        if theirs and theirs not in present:
            raise UserError(
                f"columns: '{key}' is mapped to '{theirs}', which is not in "
                f"{' or '.join(str(source.path) for source in asked)}. "
                f"Columns there: {_listed(present)}."
            )


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
