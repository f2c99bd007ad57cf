"""Released edges of a language model: read exactly, coded like the data, malformed lines named."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from dallrec_core import data as datasets
from dallrec_core.data.download import ORIGINS, is_here
from dallrec_core.data.released_edges import written_edges
from dallrec_core.data.splits import split
from dallrec_core.errors import UserError

TRAIN = "u2 A 5.0\nu2 B 4.0\nu2 A 3.0\nu1 C 1.0\nu1 A 2.0\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DALLREC_DATA_DIR", str(tmp_path))
    place = ORIGINS["released-edges"].place
    place.mkdir(parents=True)
    (place / "train.txt").write_text(TRAIN)
    (place / "train_augmented.txt").write_text(TRAIN + "u2 C 4.0\nu1 D 4.0\n")
    (place / "test.txt").write_text("u1 D 5.0\nu2 D 2.0\nu3 B 3.0\n")
    return place


def coded(frame: pd.DataFrame) -> list[list[int]]:
    return frame[["user", "item"]].to_numpy().tolist()


def test_rows_by_id_and_edges_in_the_same_codes(folder: Path) -> None:
    data = datasets.load("released-edges")
    assert data.users["user_id"].tolist() == ["u1", "u2", "u3"]
    assert data.items["item_id"].tolist() == ["A", "B", "C", "D"]
    assert data.presplit is not None
    train, test = data.presplit
    assert coded(train) == [[0, 0], [0, 2], [1, 0], [1, 1]]  # u2 A stands twice
    assert coded(test) == [[0, 3], [1, 3], [2, 1]]
    assert sum(data.dropped.values()) == 1
    edges = written_edges(data)
    assert coded(edges) == [[0, 3], [1, 2]] and (edges["weight"] == 1).all()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("train.txt", "u1 A\n", "train.txt, line 1: 2 fields where user_id item_id rating has 3"),
        ("test.txt", "u1 D five\n", "test.txt, line 1, column 'rating': 'five' is not a finite"),
        ("train_augmented.txt", "u9 A 4.0\n", "line 1, column 'user_id': user 'u9' is in neither"),
        ("train_augmented.txt", "u1 Z 4.0\n", "line 1, column 'item_id': item 'Z' is in neither"),
    ],
)
def test_bad_lines_are_named(folder: Path, name: str, text: str, message: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(UserError, match=re.escape(message)):
        written_edges(datasets.load("released-edges"))


def test_the_released_files() -> None:
    """Sizes as others counted them; checksums are sha256."""
    if not is_here("released-edges"):
        pytest.skip("DALLREC_DATA_DIR has no released-edges/amazon-scientific")
    lines = datasets.fetch_or_verify("released-edges")
    assert len(lines) == 4 and all("verified (sha256" in line for line in lines[1:])
    data = datasets.load("released-edges")
    assert (data.n_users, data.n_items) == (11_011, 5_327)
    edges, parts = written_edges(data), split(data, "published", seed=0, validation=0.01)
    assert len(edges) == edges["user"].nunique() == 2608
    assert len(parts.test) == 11_011 and parts.validation["user"].is_unique
    known = pd.concat([parts.train, parts.validation])
    assert edges.merge(known, on=["user", "item"]).empty
