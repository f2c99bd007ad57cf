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

from dallrec_core.data.base import Dataset, make_dataset, pair_keys
from dallrec_core.data.checks import Table
from dallrec_core.data.download import locate
from dallrec_core.data.tables import AGAIN, codes_in, read_fields

NAME = "released-edges"
"""Of the dataset."""


def load_released_edges() -> Dataset:
    """Load the data without the language model's edges; ``presplit`` holds its (train, test).

    Pairs that stand twice in train are one interaction. Items are called by their ids.

    Raises:
        UserError: files missing and no network, a malformed line.
    """
    located = locate(NAME)
    parts = []
    for part in ("train", "test"):
        table = _read(located.folder / f"{part}.txt")
        parts.append(table.frame.assign(rating=table.ratings(), part=part))
    interactions = pd.concat(parts)
    ids = np.unique(interactions["item_id"].to_numpy(str))
    return make_dataset(
        Table(interactions, "train.txt and test.txt"),
        pd.DataFrame({"item_id": ids, "title": [f"item {each}" for each in ids]}),
        duplicates="merge",
        name=NAME,
        noun="product",
        notes=tuple(located.notes),
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
    table = _read(locate(NAME).folder / "train_augmented.txt")
    codes = {}
    for name, known in (("user", data.users), ("item", data.items)):
        codes[name] = codes_in(table.frame[f"{name}_id"], known[f"{name}_id"])
        what = f"{name} {{value}} is in neither train.txt nor test.txt"
        table.refuse(codes[name] < 0, f"{name}_id", what, AGAIN)
    pairs = pd.DataFrame(codes).drop_duplicates()
    train = data.interactions if data.presplit is None else data.presplit[0]
    new = pairs[~np.isin(pair_keys(pairs), pair_keys(train))]
    return new.sort_values(["user", "item"], ignore_index=True).assign(weight=np.float32(1))


def _read(path: Path) -> Table:
    return Table(read_fields(path, " ", ("user_id", "item_id", "rating")), path.name)
