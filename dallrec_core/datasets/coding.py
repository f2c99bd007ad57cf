"""From checked tables to codes: users and items are numbered by sorted id, never by position."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dallrec_core.datasets.checks import Table, id_text, order_ids
from dallrec_core.errors import UserError

ITEM_COLUMNS = ("item", "item_id", "title", "year", "attributes", "author", "text")
UNKNOWN = "interactions of items that are not in the items table"
REPEATED = "repeated interactions of a user with an item (the latest is kept)"


@dataclass(frozen=True)
class CodedUsers:
    """The users, and which of them each row of the interactions belongs to."""

    frame: pd.DataFrame
    """user int32, user_id; row u is user u"""
    codes: np.ndarray
    """int32 [rows]: the user of each raw interaction"""


def code_items(table: Table) -> pd.DataFrame:
    """Return the items in code order: schema ``items`` and any further columns as text.

    Raises:
        UserError: no rows, missing column, empty or repeated id, empty title, bad year.
    """
    table.require("item_id", "title")
    codes, names = table.ids("item_id")
    order = order_ids(names)
    code = _ranks(names, order)[codes]
    _refuse_repeated_items(table, code)
    columns: dict[str, object] = {
        "item": code,
        "item_id": pd.array([order[position] for position in code], dtype="str"),
        "title": table.titles(),
        "year": table.years() if "year" in table.frame else np.zeros(len(code), dtype=np.int32),
    }
    further = [str(name) for name in table.frame if name not in ITEM_COLUMNS]
    for column in ("attributes", "author", "text", *further):
        nothing = pd.Series(np.nan, index=range(len(code)), dtype="str")
        columns[column] = table.texts(column) if column in table.frame else nothing
    return pd.DataFrame(columns).sort_values("item", ignore_index=True)


def _ranks(names: list[str], order: list[str]) -> np.ndarray:
    """Position of each name in ``order`` as int32, -1 where absent."""
    rank = {name: position for position, name in enumerate(order)}
    return np.array([rank.get(name, -1) for name in names], dtype=np.int32)


def _refuse_repeated_items(table: Table, code: np.ndarray) -> None:
    repeated = pd.Series(code).duplicated().to_numpy()
    if repeated.any():
        same = code == code[np.flatnonzero(repeated)[0]]
        table.fail(
            repeated,
            "item_id",
            f"item {{value}} is already on {table.line(int(np.flatnonzero(same)[0]))}",
            "Each item may appear once; remove or renumber the repeated row.",
        )


def code_users(table: Table, users: Iterable[object]) -> CodedUsers:
    """Number the users of the interactions, and ``users`` beside them, by sorted id.

    Raises:
        UserError: no rows, a missing column, an empty id.
    """
    table.require("user_id", "item_id")
    codes, names = table.ids("user_id")
    order = order_ids([*names, *map(id_text, users)])
    frame = pd.DataFrame(
        {"user": np.arange(len(order), dtype=np.int32), "user_id": pd.array(order, dtype="str")}
    )
    return CodedUsers(frame, _ranks(names, order)[codes])


def code_interactions(
    table: Table,
    items: pd.DataFrame,
    users: CodedUsers,
    items_source: str,
    unknown_items: str,
    counts: dict[str, int],
) -> pd.DataFrame:
    """Return user, item, rating, timestamp[, part] in file order; the index is the raw position.

    Raises:
        UserError: an item that is not listed (unless ``unknown_items`` is "drop"), a rating that
            is not finite, a time that is not a whole number of seconds.
    """
    codes, names = table.ids("item_id")
    item = _ranks(names, list(items["item_id"]))[codes]
    unknown = item < 0
    if unknown.any() and unknown_items != "drop":
        remedy = "Add it there, or remove its interactions."
        table.fail(unknown, "item_id", f"item {{value}} is not in {items_source}", remedy)
    if unknown.any():
        counts[UNKNOWN] = int(unknown.sum())
    frame = pd.DataFrame({"user": users.codes, "item": item, "rating": np.float32(np.nan)})
    if "rating" in table.frame:
        ratings = table.numbers("rating", unit="a number with a point as decimal sign")
        frame["rating"] = ratings.astype(np.float32)
    times = table.timestamps() if "timestamp" in table.frame else [pd.NA] * len(frame)
    frame["timestamp"] = pd.array(times, dtype="Int64")
    if "part" in table.frame:
        frame["part"] = table.frame["part"].to_numpy()
    return frame[~unknown]


def unique_pairs(
    frame: pd.DataFrame, table: Table, duplicates: str, counts: dict[str, int]
) -> pd.DataFrame:
    """Return one row per (user, item[, part]), sorted; repeats raise or are merged and counted.

    Raises:
        UserError: a repeated pair, unless ``duplicates`` is "merge"; no row left.
    """
    if frame.empty:
        raise UserError(f"{table.source}: no interaction is left. Check the ids of the items.")
    key = ["user", "item", *(["part"] if "part" in frame else [])]
    repeated = frame.duplicated(key).to_numpy()
    if repeated.any() and duplicates != "merge":
        _refuse_repeated_pair(frame, table, key, repeated)
    if repeated.any():
        counts[REPEATED] = int(repeated.sum())
    ordered = frame.take(_order(frame)).reset_index(drop=True)
    return ordered.drop_duplicates(key, keep="last", ignore_index=True)


def _order(frame: pd.DataFrame) -> np.ndarray:
    """Sort by user, item, part, time, rating, so that nothing of the file's order is left."""
    time = frame["timestamp"].fillna(0).to_numpy(dtype=np.int64)
    part = (frame["part"] == "test").to_numpy() if "part" in frame else np.zeros(len(frame))
    return np.lexsort((frame["rating"], time, part, frame["item"], frame["user"]))


def _refuse_repeated_pair(
    frame: pd.DataFrame, table: Table, key: list[str], repeated: np.ndarray
) -> None:
    second = int(np.flatnonzero(repeated)[0])
    same = (frame[key] == frame[key].iloc[second]).all(axis=1).to_numpy()
    bad = np.zeros(len(table.frame), dtype=bool)
    bad[frame.index[repeated]] = True
    user = table.frame["user_id"].iloc[frame.index[second]]
    first = table.line(int(frame.index[same][0]))
    table.fail(
        bad,
        "item_id",
        f"the pair of user '{user}' and item {{value}} is already on {first}",
        "Each pair may appear once; remove the repeated row, or give duplicates='merge'.",
    )


def released_parts(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the released (train, test) of a sorted frame with a ``part`` column.

    Raises:
        UserError: when the parts are not exactly train and test.
    """
    parts = set(frame["part"])
    if parts != {"train", "test"}:
        raise UserError(f"a released split needs parts train and test, found {sorted(parts)}")
    train, test = (
        frame[frame["part"] == part].drop(columns="part").reset_index(drop=True)
        for part in ("train", "test")
    )
    return train, test
