"""Datasets: codes that ignore file order, and one clear message for each bad cell."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dallrec_core.data.base import make_dataset
from dallrec_core.data.checks import Table, order_ids
from dallrec_core.errors import UserError

LINES = pd.RangeIndex(2, 6, name="line")


def interactions(**columns) -> pd.DataFrame:
    table = {
        "user_id": ["10", "9", "9", "10"],
        "item_id": ["b", "a", "b", "c"],
        "rating": [5, 1, 4, 2],
        "timestamp": [30, 10, 20, 40],
    }
    return pd.DataFrame(table | columns, index=LINES)


def items(**columns) -> pd.DataFrame:
    table = {"item_id": list("cabd"), "title": ["C", "A", " B ", "D"], "year": [3, "", 2, 1]}
    return pd.DataFrame(table | columns, index=LINES)


def build(table=None, catalogue=None, **options):
    table = interactions() if table is None else table
    catalogue = items() if catalogue is None else catalogue
    tables = Table(table, "ratings.csv"), Table(catalogue, "movies.csv")
    return make_dataset(*tables, name="test", **options)


def test_codes_follow_sorted_ids():
    data = build()
    assert data.users["user_id"].tolist() == ["9", "10"]
    assert data.items["item_id"].tolist() == ["a", "b", "c", "d"]
    assert data.items["title"].tolist() == ["A", "B", "C", "D"]
    assert data.items["year"].tolist() == [0, 2, 3, 1]
    pairs = data.interactions[["user", "item", "rating"]].to_numpy().tolist()
    assert pairs == [[0, 0, 1], [0, 1, 4], [1, 1, 5], [1, 2, 2]]
    assert (data.n_users, data.n_items, data.has_timestamps) == (2, 4, True)


def test_shuffled_files_give_the_identical_dataset():
    data = build()
    for seed in range(3):
        tables = (table.sample(frac=1, random_state=seed) for table in (interactions(), items()))
        shuffled = build(*tables)
        for name in ("interactions", "items", "users"):
            pd.testing.assert_frame_equal(getattr(data, name), getattr(shuffled, name))


def test_ids_sort_as_numbers_only_when_all_are_numbers():
    assert order_ids(["10", "9", "-1", "9"]) == ["-1", "9", "10"]
    assert order_ids(["10", "9", "x"]) == ["10", "9", "x"]
    assert order_ids(["7", "007"]) == ["007", "7"]


def test_ids_of_different_types_meet():
    table = interactions(user_id=[1.0, 2.0, 2.0, 1.0], item_id=[1, 2, 3, 4])
    data = build(table, items(item_id=["4", "3", " 2", "1"]))
    assert data.users["user_id"].tolist() == ["1", "2"]
    assert data.items["item_id"].tolist() == ["1", "2", "3", "4"]
    catalogue = items(item_id=pd.Categorical(list("cabd"))).iloc[:3]  # "d" is a mere category
    assert build(catalogue=catalogue).items["item_id"].tolist() == ["a", "b", "c"]


def test_further_columns_are_kept():
    data = build(catalogue=items(director=["x", "", None, "y"]))
    assert data.items["director"].isna().tolist() == [True, True, False, False]


def test_merged_duplicates_keep_the_latest_and_are_counted():
    table = interactions(user_id=["9"] * 4, item_id=["a", "a", "a", "b"], timestamp=[5, 7, 7, 1])
    for seed in range(3):
        data = build(table.sample(frac=1, random_state=seed), duplicates="merge")
        assert data.interactions["rating"].tolist() == [4, 2]
        assert list(data.dropped.values()) == [2]
    assert "left out: 2 repeated interactions" in "\n".join(data.summary())


# A table without a column, or with other cells; and what is said. What own files can do wrong is
# in test_files.py.
BAD = [
    (interactions().drop(columns="item_id"), "ratings.csv: column 'item_id' is missing"),
    (
        interactions(user_id=["1", " ", "2", None]),
        r"line 3, .*'user_id': the id is empty \(1 more s",
    ),
    (
        interactions(item_id=["b", "{value}{0}", "b", "c"]),
        r"line 3, .*'\{value\}\{0\}' is not in mov",
    ),
    (interactions(item_id=list("babb")), "line 5, .*item 'b' of this user is already on line 2"),
    (interactions(rating=[5, 1, 2, np.inf]), "line 5, .*'inf' is not a finite number"),
    (interactions(timestamp=[1, 2, 3, -4]), "line 5, .*'-4' is not a time from 1970 on"),
    (items(item_id=list("caba")), "movies.csv, line 5, column 'item_id': item 'a' is already on l"),
]


@pytest.mark.parametrize(("table", "message"), BAD, ids=lambda case: str(case)[-40:])
def test_bad_tables_name_file_line_and_column(table, message):
    with pytest.raises(UserError, match=message) as caught:
        build(**{"catalogue" if "year" in table else "table": table})
    assert "\n" not in str(caught.value)
