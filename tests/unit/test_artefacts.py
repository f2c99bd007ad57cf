"""Artefacts: schemas on write and read, atomic writes, digests that ignore times."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dallrec_core.chain.artefacts import (
    SCHEMAS,
    atomic,
    digest,
    read_json,
    read_table,
    write_json,
    write_table,
)
from dallrec_core.errors import UserError


def split_frame() -> pd.DataFrame:
    return pd.DataFrame(
        {"user": [0, 1], "item": [2, 3], "rating": [4.0, np.nan], "timestamp": [1, 2]}
    )


def test_round_trip_casts_to_the_schema(tmp_path: Path) -> None:
    path = write_table(split_frame().assign(note="x"), tmp_path / "train.parquet", "split")
    frame = read_table(path, "split")
    assert frame["user"].dtype == np.int32 and frame["note"].tolist() == ["x", "x"]
    assert frame["item"].tolist() == [2, 3]
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.drop(columns="item"), "column 'item' is missing"),
        (lambda f: f.assign(item=[2.0, np.nan]), "row 1, column 'item' is empty"),
        (lambda f: f.assign(user=["x", "y"]), "column 'user' should be int32"),
        (lambda f: f.assign(item=[0.5, 1.0]), "column 'item' should be int32"),
    ],
)
def test_misfits_name_the_place_and_leave_nothing(tmp_path: Path, change, words: str) -> None:
    with pytest.raises(UserError, match=words):
        write_table(change(split_frame()), tmp_path / "train.parquet", "split")
    assert list(tmp_path.iterdir()) == []


def test_reading_checks_as_well(tmp_path: Path) -> None:
    split_frame().drop(columns="user").to_parquet(tmp_path / "train.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "x.json").write_text('{"a": 1,\n "b" 2}')
    for read, name, words in (
        (read_table, "train.parquet", "column 'user' is missing"),
        (read_table, "broken.parquet", "not a readable parquet"),
        (read_table, "absent.parquet", "does not exist"),
        (lambda path, _: read_json(path), "x.json", "line 2"),
    ):
        with pytest.raises(UserError, match=words):
            read(tmp_path / name, "split")


def test_a_failed_write_keeps_the_old_file_and_folders_are_replaced_whole(tmp_path: Path) -> None:
    target = write_json({"a": 1}, tmp_path / "x.json")
    with pytest.raises(RuntimeError), atomic(target) as partial:
        partial.write_text("half")
        raise RuntimeError
    message = "cannot write .*x.json: No space left"
    with pytest.raises(UserError, match=message), atomic(target) as partial:
        partial.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert read_json(target) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]

    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "old").touch()
    with atomic(tmp_path / "adapter") as partial:
        partial.mkdir()
        (partial / "new").touch()
    assert [path.name for path in (tmp_path / "adapter").iterdir()] == ["new"]


def test_digest_ignores_times_and_nothing_else(tmp_path: Path) -> None:
    def of(**change: float) -> str:
        frame = pd.DataFrame([dict.fromkeys(SCHEMAS["runs"].names, 1) | change])
        frame = frame.astype(dict.fromkeys(("run", "backbone", "arm"), str))
        return digest(write_table(frame, tmp_path / "runs.parquet", "runs"))

    assert of() == of(seconds=99.0, peak_mib=2.0)
    assert of() != of(validation=0.2)
    one, other = (write_json({"a": 1, "seconds": n}, tmp_path / f"{n}.json") for n in (2, 3))
    assert digest(one) == digest(other)
