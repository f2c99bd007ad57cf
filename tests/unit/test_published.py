"""What others released, read exactly and sorted: the authors' split and numbers, and edges."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dallrec_core import data as datasets
from dallrec_core.data.download import ORIGINS, is_here
from dallrec_core.data.published import (
    METRICS,
    file_order,
    improvements,
    printed_table,
    written_edges,
)
from dallrec_core.data.splits import split, split_report
from dallrec_core.errors import UserError


@pytest.fixture
def folder(store):
    place = store / "published" / "movielens"
    place.mkdir(parents=True)
    (place / "user_list.txt").write_text("org_id remap_id\n10 0\n9 1\n")
    (place / "item_list.txt").write_text("org_id remap_id\n1193 0\n661 1\n914 2\n")
    (place / "train.txt").write_text("0 0 1\n1 2 0\n")
    (place / "test.txt").write_text("0 2\n1 1\n")
    return place


def coded(frame) -> list[list[int]]:
    return frame[["user", "item"]].to_numpy().tolist()


def test_released_rows_by_original_id(folder):
    data = datasets.load("published")
    assert data.users["user_id"].tolist() == ["9", "10"]
    assert data.items["item_id"].tolist() == ["661", "914", "1193"]
    assert coded(data.presplit[0]) == [[0, 1], [0, 2], [1, 0], [1, 2]]
    assert coded(data.presplit[1]) == [[0, 0], [1, 1]]
    assert len(data.interactions) == 6 and data.interactions["rating"].isna().all()


def test_titles_from_ml_1m_when_it_is_there(folder):
    data = datasets.load("published")
    assert data.items["title"].tolist() == ["item 661", "item 914", "item 1193"]
    assert data.notes[-1].startswith("3 items have no title")
    assert "dallrec data ml-1m" in data.notes[-1]
    movies = folder.parents[1] / "ml-1m" / "movies.dat"
    movies.parent.mkdir()
    movies.write_text("1193::Cuckoo's Nest, The (1975)::Drama\n661::James (1996)::Musical\n")
    data = datasets.load("published")
    assert data.items["title"].tolist() == ["James", "item 914", "The Cuckoo's Nest"]
    assert data.items["year"].tolist() == [1996, 0, 1975]
    assert data.notes[-1].startswith("1 items have no title")


def test_the_order_of_the_files_can_be_looked_at(folder):
    data = datasets.load("published")
    rows = file_order(data)
    # user "9" is code 0 and line 2 of both files; items 661, 914, 1193 are codes 0, 1, 2
    assert coded(rows) == [[0, 1], [0, 2], [0, 0], [1, 2], [1, 0], [1, 1]]
    assert rows["part"].tolist() == ["train", "train", "test"] * 2


def test_position_in_the_line_is_forgotten_and_repeats_are_counted(folder):
    one = datasets.load("published")
    (folder / "train.txt").write_text("1 0 2\n0 1 0 1\n")
    other = datasets.load("published")
    for before, after in zip(one.presplit, other.presplit, strict=True):
        assert before.equals(after)
    assert list(other.dropped.values()) == [1]


BAD = [
    ("train.txt", "0 0 1\n1 two 0\n", "train.txt, line 2, .*'two' is no number of item_list"),
    ("test.txt", "0 2\n5 1\n", "test.txt, line 2, column 'user': '5' is no number of user"),
    ("item_list.txt", "org_id remap_id\n1193 0\n661 7\n", "item_list.txt, line 3, .*'7' breaks"),
    ("item_list.txt", "org_id remap_id\n5 0\n5 1\n", "line 3, .*id '5' is already on line 2"),
]


@pytest.mark.parametrize(("name", "text", "message"), BAD)
def test_bad_files_name_the_line(folder, name, text, message):
    (folder / name).write_text(text)
    with pytest.raises(UserError, match=message):
        datasets.load("published")


@pytest.mark.skipif(not is_here("published"), reason="needs published/movielens")
def test_facts_of_the_real_release():
    data = datasets.load("published")
    train, test = data.presplit
    assert (len(train), len(test), data.n_users, data.n_items) == (796_389, 202_150, 6_040, 3_260)
    assert data.dropped == {}
    report = split_report(data, split(data, "published", validation=0.0))
    assert report["popularity_correlation"] == pytest.approx(0.025, abs=0.0005)
    assert report["test_items_unseen_in_train"] == 90
    assert report["test_share_on_items_unseen_in_train"] == pytest.approx(0.0887, abs=5e-5)
    assert report["direct_duplicates"]["train_test"] == 0
    n = np.bincount(data.interactions["user"])
    assert np.array_equal(np.bincount(train["user"]), (n * 8) // 10)
    assert not data.items["title"].str.startswith("item ").any()


# --- the printed numbers ---


def test_the_printed_table_is_whole_and_three_gains_do_not_follow_from_their_row() -> None:
    table = printed_table()
    assert table.shape == (21, 7) and tuple(table.columns) == METRICS
    assert table.notna().all(axis=None) and table.loc[("MF-BPR", "base"), "R@20"] == 0.0304
    found = improvements().set_index(["backbone", "metric"])
    wrong = found[~found["follows"]]
    assert set(wrong.index) == {("MF-BPR", "N@50"), ("NMF", "R@50"), ("LightGCN", "N@20")}
    assert len(found) == 49 and wrong["recomputed"].round(2).tolist() == [5.25, 6.87, 5.99]
    bounds = [100 * (ours / base - 1) for ours, base in ((0.07155, 0.06705), (0.07165, 0.06695))]
    assert found.loc[("NMF", "R@50"), ["low", "high"]].tolist() == pytest.approx(bounds)


# --- edges of a real language model ---

TRAIN = "u2 A 5.0\nu2 B 4.0\nu2 A 3.0\nu1 C 1.0\nu1 A 2.0\n"


@pytest.fixture
def edges_folder(store):
    place = ORIGINS["released-edges"].place
    place.mkdir(parents=True)
    (place / "train.txt").write_text(TRAIN)
    (place / "train_augmented.txt").write_text(TRAIN + "u2 C 4.0\nu1 D 4.0\n")
    (place / "test.txt").write_text("u1 D 5.0\nu2 D 2.0\nu3 B 3.0\n")
    return place


def test_rows_by_id_and_edges_in_the_same_codes(edges_folder):
    data = datasets.load("released-edges")
    assert data.users["user_id"].tolist() == ["u1", "u2", "u3"]
    assert data.items["item_id"].tolist() == ["A", "B", "C", "D"]
    assert coded(data.presplit[0]) == [[0, 0], [0, 2], [1, 0], [1, 1]]  # u2 A stands twice
    assert coded(data.presplit[1]) == [[0, 3], [1, 3], [2, 1]]
    assert sum(data.dropped.values()) == 1
    edges = written_edges(data)
    assert coded(edges) == [[0, 3], [1, 2]] and (edges["weight"] == 1).all()


BAD_EDGES = [
    ("train.txt", "u1 A\n", "train.txt: column 'user_id' is missing; the table has 'u1', 'A'"),
    ("test.txt", "u1 D 5\nu1 C five\n", "line 2 of test.txt, .*'five' is not a finite number"),
    ("train_augmented.txt", "u9 A 4.0\n", "line 1, column 'user_id': user 'u9' is in neither"),
    ("train_augmented.txt", "u1 Z 4.0\n", "line 1, column 'item_id': item 'Z' is in neither"),
]


@pytest.mark.parametrize(("name", "text", "message"), BAD_EDGES)
def test_bad_lines_are_named(edges_folder, name, text, message):
    (edges_folder / name).write_text(text)
    with pytest.raises(UserError, match=message):
        written_edges(datasets.load("released-edges"))


@pytest.mark.skipif(not is_here("released-edges"), reason="needs released-edges")
def test_the_released_files():
    """Sizes as others counted them; checksums are sha256."""
    lines = datasets.fetch_or_verify("released-edges")
    assert len(lines) == 4 and all("verified (sha256" in line for line in lines[1:])
    data = datasets.load("released-edges")
    assert (data.n_users, data.n_items) == (11_011, 5_327)
    edges, parts = written_edges(data), split(data, "published", seed=0, validation=0.01)
    assert len(edges) == edges["user"].nunique() == 2608
    assert len(parts.test) == 11_011 and parts.validation["user"].is_unique
    known = pd.concat([parts.train, parts.validation])
    assert edges.merge(known, on=["user", "item"]).empty
