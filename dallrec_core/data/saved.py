"""Write a split dataset as the artefacts that every later stage reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dallrec_core.chain.artefacts import atomic, write_json, write_table
from dallrec_core.data.base import Dataset, Split


def save(dataset: Dataset, parts: Split, folder: Path, *, split: str, seed: int) -> None:
    """Write parts, items and users as parquet, `dataset.json`, and the truth where there is one.

    Args:
        dataset: what was loaded.
        parts: its split.
        folder: where the files go; each appears under its name only when it is whole.
        split: kind of the split, for the record.
        seed: its seed, for the record.

    Raises:
        UserError: when a table does not fit its schema or the folder cannot be written.
    """
    for name in ("train", "validation", "test"):
        write_table(getattr(parts, name), folder / f"{name}.parquet", "split")
    if parts.held_back is not None:
        write_table(parts.held_back, folder / "held_back.parquet", "split")
    write_table(dataset.items, folder / "items.parquet", "items")
    write_table(dataset.users, folder / "users.parquet", "users")
    if dataset.truth is not None:
        write_table(dataset.truth.items, folder / "truth.parquet", "truth")
        with atomic(folder / "taste.npy") as partial, partial.open("wb") as file:
            np.save(file, dataset.truth.taste)
    names = ("name", "noun", "attribute", "like_threshold", "n_users", "n_items")
    about = {name: getattr(dataset, name) for name in names}
    about |= {"split": split, "seed": seed}
    about |= {"dropped": dict(dataset.dropped), "notes": list(dataset.notes)}
    if dataset.truth is not None:
        about["liked_from"] = dataset.truth.liked_from
    write_json(about, folder / "dataset.json")
