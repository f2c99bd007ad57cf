"""Which column of a file is meant: by its own name, by a well-known one, or by the reader's word.

The names of other people's columns are data: `columns.yml` beside this module.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from dallrec_core.errors import UserError

KNOWN: dict[str, dict[str, list[str]]] = {
    file: {ours: names.split() for ours, names in columns.items()}
    for file, columns in yaml.safe_load(Path(__file__).with_name("columns.yml").read_text()).items()
}
"""Simplified names that are understood, by file ("interactions", "items") and our column.

:meta hide-value:
"""
NEEDED = {"interactions": ("user_id", "item_id"), "items": ("item_id", "title")}
"""Columns without which nothing goes."""


def simple(name: object) -> str:
    """A name without case, style and RecBole's type: "User-ID" and "user_id:token" are "userid"."""
    return re.sub(r"[\W_]+", "", str(name).partition(":")[0].casefold())


def understand(
    headers: Mapping[str, Sequence[str]],
    columns: Mapping[str, str],
    sources: Mapping[str, str],
    words: Mapping[str, str],
    needed: Mapping[str, Sequence[str]] = NEEDED,
) -> dict[str, dict[str, str]]:
    """Find our columns in the headers of one or two files.

    An entry of `columns` comes first, then a column of our own name, then the words of this
    dataset ("dish_id", "cuisine"), then the names in `KNOWN`.

    Args:
        headers: by file ("interactions", "items"), the names of its columns.
        columns: our name -> theirs ("" for none); a prefix "items." limits it to one file.
        sources: by file, its name in messages.
        words: "noun", "person" and "attribute" of the dataset.
        needed: by file, our columns that it must have.

    Returns:
        by file, our name -> theirs.

    Raises:
        UserError: a needed column is missing, two could be meant, or `columns` names what is not.
    """
    _check(headers, columns, sources)
    noun, person = simple(words["noun"]), simple(words["person"])
    own = {"user_id": [f"{person}id", person], "item_id": [f"{noun}id", noun]}
    own |= {"title": [f"{noun}title", f"{noun}name"], "attributes": [simple(words["attribute"])]}
    found = {}
    for file, header in headers.items():
        chosen = {ours: columns.get(f"{file}.{ours}", columns.get(ours)) for ours in KNOWN[file]}
        free = [name for name in header if name not in chosen.values()]
        for ours, known in KNOWN[file].items():
            if chosen[ours] in header or chosen[ours] == "":
                continue
            also = ["id"] if (file, ours) == ("items", "item_id") else []
            for names in ([simple(ours)], own.get(ours, []), known, also):
                meant = [name for name in free if simple(name) in names]
                if len(meant) > 1 and ours == "item_id":  # the one that the other file has too
                    other = {simple(n) for f, h in headers.items() if f != file for n in h}
                    meant = [name for name in meant if simple(name) in other] or meant
                chosen[ours] = _one(meant, ours, sources[file]) if meant else None
                if meant:
                    break
        found[file] = {ours: name for ours, name in chosen.items() if name}
        for ours in needed[file]:
            if ours not in found[file]:
                present = ", ".join(f"'{name}'" for name in header)
                raise UserError(
                    f"{sources[file]}: column '{ours}' is missing; the file has {present}. Rename "
                    f'it there, or set columns={{"{ours}": "the name in your file"}}.'
                )
    return found


def _one(meant: Sequence[str], ours: str, source: str) -> str:
    """The only candidate; two are a question to the reader."""
    if len(meant) > 1:
        both = " and ".join(f"'{name}'" for name in meant)
        raise UserError(
            f"{source}: {both} could each be {ours}. Say which, for example "
            f'columns={{"{ours}": "{meant[0]}"}}; "" stands for none of them.'
        )
    return meant[0]


def _check(
    headers: Mapping[str, Sequence[str]], columns: Mapping[str, str], sources: Mapping[str, str]
) -> None:
    """Refuse entries that are none of our columns, or whose column is in none of their files."""
    for key, theirs in columns.items():
        prefix, _, ours = key.rpartition(".")
        files = [file for file in headers if prefix in ("", file)]
        if not any(ours in KNOWN[file] for file in files):
            valid = ", ".join(dict.fromkeys(name for names in KNOWN.values() for name in names))
            raise UserError(f"columns: '{key}' is none of our columns. Valid: {valid}.")
        if theirs and not any(theirs in headers[file] for file in files):
            places = " or ".join(sources[file] for file in files)
            present = ", ".join(f"'{name}'" for file in files for name in headers[file])
            raise UserError(
                f"columns: '{key}' is mapped to '{theirs}', which is not in {places}. "
                f"Columns there: {present}."
            )
