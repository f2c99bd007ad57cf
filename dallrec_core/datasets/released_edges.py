"""Edges that a real language model chose, released by others (VoteGCL, akBear23/VoteGCL, MIT).

Nguyen et al., "Enhancing graph-based recommendations with majority-voting LLM-rerank augmentation",
arXiv 2507.21563: a recommender proposes ten items to a user, a language model ranks them several
times, and the item that wins the vote becomes an edge. On Amazon-Scientific the repository holds,
at commit d4133e3, ``train.txt``, the same with those edges (``train_augmented.txt``), and
``test.txt`` with each user's last item. Lines are ``user item rating``; there are no titles.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from dallrec_core.datasets.base import Dataset, make_dataset
from dallrec_core.datasets.checks import Source
from dallrec_core.datasets.download import locate
from dallrec_core.datasets.tables import decode, read_bytes
from dallrec_core.errors import UserError

FOLDER = "released-edges/amazon-scientific"
"""Where the files lie below the data folder."""


def load_released_edges() -> Dataset:
    """Load the data without the language model's edges; ``presplit`` holds its (train, test).

    Pairs that stand twice in train are one interaction. Items are called by their ids.

    Raises:
        UserError: files missing and no network, a malformed line.
    """
    located = locate(FOLDER)
    parts = [_read(located.folder / f"{part}.txt", part) for part in ("train", "test")]
    interactions = pd.concat(parts)
    ids = np.unique(interactions["item_id"].to_numpy(str))
    return make_dataset(
        interactions,
        pd.DataFrame({"item_id": ids, "title": [f"item {each}" for each in ids]}),
        name="released-edges",
        noun="product",
        source=Source("train.txt and test.txt", "train.txt and test.txt", row="line"),
        duplicates="merge",
        notes=located.notes,
    )


def written_edges(data: Dataset) -> pd.DataFrame:
    """Return the edges that the language model chose: what train_augmented.txt has beyond train.

    Args:
        data: from :func:`load_released_edges`, whose codes are used.

    Returns:
        user, item (int32), weight (float32, all 1), each pair once, sorted.

    Raises:
        UserError: files missing, a malformed line, a user or an item that the data do not have.
    """
    path = locate(FOLDER).folder / "train_augmented.txt"
    frame = _read(path, "train")
    codes = {}
    for name, known in (("user", data.users["user_id"]), ("item", data.items["item_id"])):
        codes[name] = pd.Index(known).get_indexer(frame[f"{name}_id"]).astype(np.int32)
        if (codes[name] < 0).any():
            row = int(np.argmin(codes[name]))
            raise UserError(
                f"{path}, line {frame.index[row]}: {name} {frame[f'{name}_id'].iloc[row]} is in "
                "neither train.txt nor test.txt. Delete the file to fetch it anew."
            )
    pairs = pd.DataFrame(codes).drop_duplicates()
    known = data.interactions if data.presplit is None else data.presplit[0]
    joined = pairs.merge(known[["user", "item"]], how="left", indicator=True)
    new = joined.loc[joined["_merge"] == "left_only", ["user", "item"]]
    new = new.sort_values(["user", "item"], ignore_index=True)
    return new.assign(weight=np.float32(1))


def _read(path: Path, part: str) -> pd.DataFrame:
    """Read ``user item rating`` lines as user_id, item_id, rating, part by line number."""
    rows = [line.split() for line in decode(read_bytes(path)).splitlines()]
    for number, row in enumerate(rows, start=1):
        if len(row) != 3 or not row[2].replace(".", "", 1).isdigit():
            raise UserError(
                f"{path}, line {number}: '{' '.join(row)[:60]}' is not 'user item rating'. "
                "Delete the file to fetch it anew."
            )
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "rating"])
    frame.index = pd.RangeIndex(1, len(rows) + 1)
    return frame.astype({"rating": float}).assign(part=part)
