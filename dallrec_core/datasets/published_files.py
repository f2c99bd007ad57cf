"""The files of the released splits: numbered ids, and lines of ``user item item …``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from dallrec_core.datasets.tables import decode, read_bytes
from dallrec_core.errors import UserError

PARTS = ("train", "test")
"""Names of the two files of interactions, without their ending."""


def read_id_list(path: Path) -> list[str]:
    """Return the original ids of ``org_id remap_id`` lines, by remapped number.

    Raises:
        UserError: naming the first line that breaks the form or the numbering 0, 1, 2 …
    """
    lines = decode(read_bytes(path)).splitlines()
    ids: dict[str, int] = {}
    for number, line in enumerate(lines[1:], start=2):
        fields = line.split()
        if len(fields) != 2 or fields[1] != str(len(ids)):
            raise UserError(
                f"{path}, line {number}: '{line[:60]}' is not 'org_id remap_id' with remap_id "
                f"{len(ids)}. Delete the file to fetch it anew."
            )
        if fields[0] in ids:
            raise UserError(
                f"{path}, line {number}: id {fields[0]} is already on line {ids[fields[0]]}. "
                "Delete the file to fetch it anew."
            )
        ids[fields[0]] = number
    return list(ids)


def read_lines(path: Path, user_ids: list[str], item_ids: list[str], part: str) -> pd.DataFrame:
    """Read ``user item item …`` lines as user_id, item_id, part; the index is the line number.

    Raises:
        UserError: naming the first line with something that is not a number or not in the lists.
    """
    rows = [_numbers(path, *numbered) for numbered in enumerate(_lines(path), start=1)]
    sizes = [max(len(row) - 1, 0) for row in rows]
    users = np.repeat([row[0] if row else 0 for row in rows], sizes)
    items = np.array([item for row in rows for item in row[1:]], dtype=np.int64)
    line = np.repeat(np.arange(1, len(rows) + 1), sizes)
    for name, numbers, known in (("user", users, user_ids), ("item", items, item_ids)):
        unknown = numbers >= len(known)
        if unknown.any():
            first = int(np.flatnonzero(unknown)[0])
            raise UserError(
                f"{path}, line {line[first]}: {name} {numbers[first]} is not in {name}_list.txt, "
                f"which numbers 0 to {len(known) - 1}. Delete both files to fetch them anew."
            )
    columns = {
        "user_id": pd.Categorical.from_codes(users, user_ids),
        "item_id": pd.Categorical.from_codes(items, item_ids),
        "part": pd.Categorical.from_codes(np.full(len(line), PARTS.index(part)), PARTS),
    }
    return pd.DataFrame(columns, index=line)


def _lines(path: Path) -> list[bytes]:
    return read_bytes(path).splitlines()


def _numbers(path: Path, number: int, line: bytes) -> list[int]:
    fields = line.split()
    if not all(map(bytes.isdigit, fields)):
        bad = next(field for field in fields if not field.isdigit()).decode("latin-1")
        raise UserError(
            f"{path}, line {number}: '{bad}' is not a number; the form is 'user item item …'. "
            "Delete the file to fetch it anew."
        )
    return list(map(int, fields))
