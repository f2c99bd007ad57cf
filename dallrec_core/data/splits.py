"""Train, validation and test: five ways to divide a dataset, and a report on what came out.

All ways start from interactions sorted by (user, item), so the same seed gives the same split
whatever the order of the file was.

Per-user counts (``random``): each of validation and test gets its share of the user's ``n``
interactions, rounded to the nearest whole number, but at least one for test from ``n >= 2`` on and
at least one for validation from ``n >= 3`` on. Train always keeps at least one.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from dallrec_core.chain.artefacts import atomic, write_json, write_table
from dallrec_core.data.base import Dataset, Split, pair_keys
from dallrec_core.data.checks import check_choice
from dallrec_core.errors import UserError

KINDS = ("random", "temporal", "leave_one_out", "hidden_items", "published")
HIDDEN = 0.2
"""Share of the items that "hidden_items" keeps from training."""
TRAIN, VALIDATION, TEST = 0, 1, 2
_ORDER_STREAM, _THIN_STREAM, _ITEM_STREAM = 0, 1, 2


def split(
    dataset: Dataset,
    kind: str = "random",
    seed: int = 0,
    train_fraction: float = 1.0,
    validation: float = 0.1,
    test: float = 0.1,
) -> Split:
    """Divide a dataset into train, validation and test.

    Args:
        dataset: what to divide.
        kind: "random" (shares of each user), "temporal" (quantiles of global time: the newest go
            to test), "leave_one_out" (each user's last interaction to test, the one before to
            validation; a seeded random one where there are no times), "hidden_items" (as random,
            but a fifth of the items have nothing in train: what would be there is dealt to
            validation and test by their shares), or "published" (train and test as released,
            ``validation`` carved from each user's train).
        seed: decides everything random, equal times included.
        train_fraction: keep this share of the train interactions, for density studies. With one
            seed, a smaller share is always a subset of a larger one.
        validation: share of validation; of all interactions, or of train for "published".
        test: share of test; unused by "leave_one_out" and "published".

    Raises:
        UserError: unknown kind, shares out of range, or a dataset without the times or the
            released split that the kind needs.
    """
    _check(dataset, kind, train_fraction, validation, test)
    frame, released_test = dataset.interactions, pd.DataFrame()
    if kind == "published" and dataset.presplit is not None:
        frame, released_test = dataset.presplit
        part = _random(frame, seed, validation, 0.0)
    elif kind == "random":
        part = _random(frame, seed, validation, test)
    elif kind == "temporal":
        part = _temporal(frame, seed, validation, test)
    elif kind == "hidden_items":
        part = _hidden_items(frame, dataset.n_items, seed, validation, test)
    else:
        part = _leave_one_out(frame, seed, timed=dataset.has_timestamps)
    whole = _take(frame, part == TRAIN)
    train = thin(whole, train_fraction, seed)
    held_out = released_test if kind == "published" else _take(frame, part == TEST)
    held_back = None
    if len(train) < len(whole):
        held_back = _take(whole, ~np.isin(pair_keys(whole), pair_keys(train)))
    return Split(train, _take(frame, part == VALIDATION), held_out, held_back)


def _check(
    dataset: Dataset, kind: str, train_fraction: float, validation: float, test: float
) -> None:
    check_choice("split", kind, KINDS)
    if not (0 < train_fraction <= 1 and 0 <= validation and 0 < test < 1 - validation):
        raise UserError(
            f"{train_fraction=}, {validation=}, {test=}: the fraction must be above 0 and at most "
            "1, validation from 0 on, test above 0, and validation and test together below 1."
        )
    needed = {
        "temporal": ("the time of every interaction", dataset.has_timestamps),
        "published": ("a released split", dataset.presplit is not None),
    }
    what, there = needed.get(kind, ("", True))
    if not there:
        have = f"split '{kind}' needs {what}, but dataset '{dataset.name}' has none"
        raise UserError(f"{have}. Use split 'random' or 'leave_one_out', or other data.")


def _take(frame: pd.DataFrame, mask: np.ndarray) -> pd.DataFrame:
    return frame[mask].reset_index(drop=True)


def _keys(size: int, seed: int, stream: int) -> np.ndarray:
    """One uniform number per sorted interaction [size]; streams of one seed are independent."""
    return np.random.default_rng([seed, stream]).random(size)


def _rank_within_user(user: np.ndarray, *keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rank of each row among its user's rows by ``keys`` (first matters most), and their number."""
    order = np.lexsort((*reversed(keys), user))
    ordered = pd.Series(user[order], index=order)
    rank = ordered.groupby(ordered).cumcount().sort_index()
    return rank.to_numpy(), np.bincount(user)[user]


def held_out_counts(n: np.ndarray, validation: float, test: float) -> tuple[np.ndarray, np.ndarray]:
    """How many of ``n`` interactions go to validation and test, by the rule of this module."""
    n = np.asarray(n)
    tests = np.floor(n * test + 0.5).astype(np.int64)
    if test > 0:
        tests = np.minimum(np.maximum(tests, 1), np.maximum(n - 1, 0))
    validations = np.floor(n * validation + 0.5).astype(np.int64)
    if validation > 0:
        validations = np.maximum(validations, 1)
    return np.minimum(validations, np.maximum(n - 1 - tests, 0)), tests


def _random(frame: pd.DataFrame, seed: int, validation: float, test: float) -> np.ndarray:
    keys = _keys(len(frame), seed, _ORDER_STREAM)
    rank, n = _rank_within_user(frame["user"].to_numpy(), keys)
    validations, tests = held_out_counts(n, validation, test)
    return _parts(rank, tests, validations)


def _parts(
    rank: np.ndarray, tests: np.ndarray | float, validations: np.ndarray | float
) -> np.ndarray:
    """The first ranks are test, the next validation, the rest train."""
    return np.where(rank < tests, TEST, np.where(rank < tests + validations, VALIDATION, TRAIN))


def _temporal(frame: pd.DataFrame, seed: int, validation: float, test: float) -> np.ndarray:
    """Newest first; equal times in a seeded random order, so that item ids do not decide."""
    size, time = len(frame), frame["timestamp"].to_numpy(dtype=np.int64)
    everybody = np.zeros(size, dtype=np.int64)
    rank, _ = _rank_within_user(everybody, -time, _keys(size, seed, _ORDER_STREAM))
    shares = (np.floor(size * share + 0.5) for share in (test, validation))
    return _parts(rank, *shares)


def _hidden_items(
    frame: pd.DataFrame, n_items: int, seed: int, validation: float, test: float
) -> np.ndarray:
    part = _random(frame, seed, validation, test)
    rng = np.random.default_rng([seed, _ITEM_STREAM])
    hidden = np.isin(frame["item"], rng.permutation(n_items)[: round(HIDDEN * n_items)])
    to_test = rng.random(len(frame)) < test / (validation + test)
    return np.where(hidden & (part == TRAIN), np.where(to_test, TEST, VALIDATION), part)


def _leave_one_out(frame: pd.DataFrame, seed: int, *, timed: bool) -> np.ndarray:
    keys = [_keys(len(frame), seed, _ORDER_STREAM)]
    if timed:
        keys.insert(0, -frame["timestamp"].to_numpy(dtype=np.int64))
    rank, n = _rank_within_user(frame["user"].to_numpy(), *keys)
    return _parts(rank, (n >= 2).astype(np.int64), (n >= 3).astype(np.int64))


def thin(train: pd.DataFrame, fraction: float, seed: int) -> pd.DataFrame:
    """Keep that share of the rows, (0, 1], drawn at random: nested for one seed."""
    if fraction == 1:
        return train
    kept = max(1, int(np.floor(len(train) * fraction + 0.5)))
    chosen = np.argsort(_keys(len(train), seed, _THIN_STREAM), kind="stable")[:kept]
    return train.take(np.sort(chosen)).reset_index(drop=True)


def split_report(dataset: Dataset, split: Split) -> dict[str, object]:
    """Describe a split in plain numbers, to print and to keep beside it.

    Shares and densities are fractions of 1. The popularity correlation is Pearson's over all N
    items between their counts in train and in test (None where one of them is constant).
    """
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    cells = dataset.n_users * dataset.n_items
    train_items = np.bincount(split.train["item"], minlength=dataset.n_items)
    test_items = np.bincount(split.test["item"], minlength=dataset.n_items)
    train_users = np.bincount(split.train["user"], minlength=dataset.n_users)
    unseen = train_items[split.test["item"].to_numpy()] == 0
    cold = train_users[split.test["user"].to_numpy()] == 0
    correlation = None
    if train_items.std() > 0 and test_items.std() > 0:
        correlation = float(np.corrcoef(train_items, test_items)[0, 1])
    return {
        "users": dataset.n_users,
        "items": dataset.n_items,
        "interactions": {name: len(part) for name, part in parts.items()},
        "density": sum(map(len, parts.values())) / cells,
        "train_density": len(split.train) / cells,
        "popularity_correlation": correlation,
        "test_share_on_items_unseen_in_train": float(unseen.mean()) if len(unseen) else 0.0,
        "test_share_of_users_unseen_in_train": float(cold.mean()) if len(cold) else 0.0,
        "direct_duplicates": {
            f"{one}_{other}": int(np.isin(pair_keys(parts[other]), pair_keys(parts[one])).sum())
            for one, other in combinations(parts, 2)
        },
        "users_without_train": int(np.count_nonzero(train_users == 0)),
        "users_without_test": dataset.n_users - int(split.test["user"].nunique()),
        "items_without_train": int(np.count_nonzero(train_items == 0)),
        "test_items_unseen_in_train": int(np.count_nonzero((train_items == 0) & (test_items > 0))),
        "per_user": {name: _per_user(part, dataset.n_users) for name, part in parts.items()},
        "dropped": dict(dataset.dropped),
    }


def _per_user(part: pd.DataFrame, n_users: int) -> dict[str, float]:
    counts = np.bincount(part["user"], minlength=n_users)
    return {
        "min": int(counts.min()),
        "median": float(np.median(counts)),
        "mean": float(counts.mean()),
    }


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
    names = ("name", "noun", "person", "attribute", "like_threshold", "n_users", "n_items")
    about = {name: getattr(dataset, name) for name in names}
    about |= {"split": split, "seed": seed}
    about |= {"dropped": dict(dataset.dropped), "notes": list(dataset.notes)}
    if dataset.truth is not None:
        write_table(dataset.truth.items, folder / "truth.parquet", "truth")
        with atomic(folder / "taste.npy") as partial, partial.open("wb") as file:
            np.save(file, dataset.truth.taste)
        about["liked_from"] = dataset.truth.liked_from
    write_json(about, folder / "dataset.json")
