"""Splits: disjoint, seeded, free of file order, and honestly reported."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dallrec_core.chain.artefacts import read_table, write_table
from dallrec_core.data.base import Dataset, Split, make_dataset
from dallrec_core.data.checks import Table
from dallrec_core.data.splits import held_out_counts, save, split, split_report
from dallrec_core.errors import UserError

KINDS = ("random", "temporal", "leave_one_out", "hidden_items", "published")


def raw(seed: int = 0, users: int = 40, n_items: int = 60) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    rows = [
        (user, item)
        for user in range(users)
        for item in rng.choice(n_items, size=1 + user % 23, replace=False)
    ]
    table = pd.DataFrame(rows, columns=["user_id", "item_id"])
    table["rating"] = rng.integers(1, 6, len(table))
    table["timestamp"] = rng.integers(0, 500, len(table))
    table["part"] = np.where(table.groupby("user_id").cumcount() % 5 == 4, "test", "train")
    items = pd.DataFrame({"item_id": range(n_items), "title": [f"t{i}" for i in range(n_items)]})
    return table, items


def coded(table: pd.DataFrame, items: pd.DataFrame) -> Dataset:
    return make_dataset(Table(table, "ratings"), Table(items, "items"), name="test")


def data(drop: str = "", shuffled: bool = False) -> Dataset:
    table, items = raw()
    table = table.sample(frac=1, random_state=7) if shuffled else table
    return coded(table.drop(columns=drop.split()), items)


def pairs(frame: pd.DataFrame) -> set[tuple[int, int]]:
    return set(zip(frame["user"], frame["item"], strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_parts_are_disjoint_complete_and_free_of_file_order(kind, tmp_path):
    whole = data()
    parts, other = split(whole, kind, seed=3), split(data(shuffled=True), kind, seed=3)
    frames = (parts.train, parts.validation, parts.test)
    for one, two in zip(frames, (other.train, other.validation, other.test), strict=True):
        pd.testing.assert_frame_equal(one, two)
    assert sum(map(len, frames)) == len(whole.interactions)
    assert set.union(*map(pairs, frames)) == pairs(whole.interactions)
    for frame in frames:
        assert list(frame.columns) == ["user", "item", "rating", "timestamp"]
        assert frame.sort_values(["user", "item"], ignore_index=True).equals(frame)
        write_table(frame, tmp_path / "part.parquet", "split")


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides(kind):
    table, items = raw()  # equal times say nothing, so that the seed decides a temporal split, too
    whole = coded(table.assign(timestamp=5), items)
    seeds = [pairs(split(whole, kind, seed=seed).validation) for seed in (0, 0, 1)]
    assert seeds[0] == seeds[1] != seeds[2]


def test_a_random_split_counts_per_user():
    validation, test = held_out_counts(np.arange(1, 8), 0.1, 0.1)
    assert test.tolist() == [0, 1, 1, 1, 1, 1, 1]
    assert validation.tolist() == [0, 0, 1, 1, 1, 1, 1]
    validation, test = held_out_counts(np.arange(1, 50), 0.45, 0.45)
    assert (np.arange(1, 50) - validation - test >= 1).all()
    whole = data()
    parts, n = split(whole, "random"), np.bincount(whole.interactions["user"])
    found = [np.bincount(p["user"], minlength=len(n)) for p in (parts.validation, parts.test)]
    assert np.array_equal(found, held_out_counts(n, 0.1, 0.1))


def test_temporal_split_orders_time():
    parts = split(data(), "temporal")
    assert parts.train["timestamp"].max() <= parts.validation["timestamp"].min()
    assert parts.validation["timestamp"].max() <= parts.test["timestamp"].min()
    n = sum(map(len, (parts.train, parts.validation, parts.test)))
    assert len(parts.test) == len(parts.validation) == int(n * 0.1 + 0.5)


def test_leave_one_out_takes_the_last():
    whole = data()
    parts = split(whole, "leave_one_out")
    last = whole.interactions.groupby("user")["timestamp"].max()
    n = np.bincount(whole.interactions["user"])
    assert np.array_equal(parts.test["user"], np.flatnonzero(n >= 2))
    assert np.array_equal(parts.validation["user"], np.flatnonzero(n >= 3))
    assert (parts.test["timestamp"].to_numpy() == last[parts.test["user"]].to_numpy()).all()


def test_a_fifth_of_the_items_is_hidden_from_training_and_the_rest_dealt_at_random():
    whole = data()
    parts, random = split(whole, "hidden_items", seed=1), split(whole, "random", seed=1)
    shown = set(parts.train["item"])
    assert len(shown) == 48 == 0.8 * whole.n_items
    warm = random.train[random.train["item"].isin(shown)]
    pd.testing.assert_frame_equal(parts.train, warm.reset_index(drop=True))
    for name in ("validation", "test"):
        part = getattr(parts, name)
        assert pairs(part) > pairs(getattr(random, name))
        assert len(set(part["item"]) - shown) > 8  # so validation is about what the test is
        assert not {item for _, item in pairs(part) - pairs(getattr(random, name))} & shown
    report = split_report(whole, parts)
    assert report["items_without_train"] == 12 >= report["test_items_unseen_in_train"] > 8


def test_published_split_keeps_test_and_carves_validation_from_train():
    whole = data()
    parts = split(whole, "published", seed=1)
    assert pairs(parts.test) == pairs(whole.presplit[1])
    assert pairs(parts.train) | pairs(parts.validation) == pairs(whole.presplit[0])
    n = np.bincount(whole.presplit[0]["user"])
    wanted = np.minimum(np.maximum(np.floor(n * 0.1 + 0.5), 1), n - 1)
    assert np.array_equal(np.bincount(parts.validation["user"], minlength=len(n)), wanted)


def test_thinned_train_is_nested_and_the_rest_of_it_is_kept_apart(tmp_path):
    whole = data()
    full, ten, two = (split(whole, seed=2, train_fraction=share) for share in (1.0, 0.1, 0.02))
    assert pairs(two.train) < pairs(ten.train) < pairs(full.train)
    assert len(ten.train) == int(len(full.train) * 0.1 + 0.5)
    assert pairs(ten.test) == pairs(full.test)
    assert pairs(ten.validation) == pairs(full.validation)
    assert full.held_back is None
    save(whole, ten, tmp_path, split="random", seed=2)
    held_back = read_table(tmp_path / "held_back.parquet", "split")
    assert pairs(held_back) == pairs(full.train) - pairs(ten.train)
    options = {"kind": "published", "validation": 0.0, "train_fraction": 0.1}
    one, other = (pairs(split(whole, seed=seed, **options).train) for seed in (2, 3))
    assert one != other


def test_report_counts_by_hand():
    rows = "1 a train|1 b train|1 c test|2 a train|2 d test|3 d test".split("|")
    table = pd.DataFrame(map(str.split, rows), columns=["user_id", "item_id", "part"])
    items = pd.DataFrame({"item_id": list("abcde"), "title": list("ABCDE")})
    whole = coded(table, items)
    report = split_report(whole, split(whole, "published", validation=0.0))
    assert report["interactions"] == {"train": 3, "validation": 0, "test": 3}
    assert report["density"] == pytest.approx(6 / 15)
    assert report["test_share_on_items_unseen_in_train"] == 1.0
    assert report["test_share_of_users_unseen_in_train"] == pytest.approx(1 / 3)
    assert (report["users_without_train"], report["items_without_train"]) == (1, 3)
    assert report["test_items_unseen_in_train"] == 2
    assert report["per_user"]["train"] == {"min": 0, "median": 1.0, "mean": 1.0}
    assert set(report["direct_duplicates"].values()) == {0}
    wanted = np.corrcoef([2, 1, 0, 0, 0], [0, 0, 1, 2, 0])[0, 1]
    assert report["popularity_correlation"] == pytest.approx(wanted)
    twice = Split(*[whole.interactions] * 3)
    assert split_report(whole, twice)["direct_duplicates"]["train_test"] == 6


BAD = [
    ({"kind": "radnom"}, "no split 'radnom' .did you mean 'random'"),
    ({"train_fraction": 0.0}, "train_fraction=0.0, .* the fraction must be above 0"),
    ({"validation": 0.5, "test": 0.5}, "together below 1"),
    ({"kind": "temporal"}, "split 'temporal' needs the time of every interaction"),
    ({"kind": "published"}, "needs a released split, but dataset 'test' has none"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        split(data(drop="timestamp part"), **options)
