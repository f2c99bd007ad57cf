"""The answer cache: durable, shared, and clear about damage."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dallrec_core.errors import UserError
from dallrec_core.llm.cache import AnswerCache, answer_key, ask_once

ASKER = """
import sys, time
from pathlib import Path
from dallrec_core.llm.cache import AnswerCache, ask_once
path, log, pause = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
def compute(unique, missing):
    for start in range(0, len(unique), 10):
        rest = [i for i in unique[start:start + 10] if i in missing]
        if rest:
            time.sleep(pause)
            with log.open("a") as file:
                file.write("".join(f"{i}\\n" for i in rest))
            yield {i: i * 0.1 for i in rest}
with AnswerCache(path) as cache:
    texts = [f"question {i}" for i in range(200)]
    answers = ask_once(texts, "model", {"task": "t"}, cache, compute, desc="asking")
assert answers == [i * 0.1 for i in range(200)]
"""


def start(tmp_path: Path, log: str, pause: float) -> subprocess.Popen[bytes]:
    arguments = [str(tmp_path / "a.sqlite"), str(tmp_path / log), str(pause)]
    return subprocess.Popen([sys.executable, "-c", ASKER, *arguments], cwd=Path.cwd())


def test_key_depends_on_prompt_model_and_settings() -> None:
    keys = {
        answer_key("p", "m", {"a": 1, "b": 2}),
        answer_key("q", "m", {"a": 1, "b": 2}),
        answer_key("p", "n", {"a": 1, "b": 2}),
        answer_key("p", "m", {"a": 1, "b": 3}),
    }
    assert len(keys) == 4
    assert answer_key("p", "m", {"b": 2, "a": 1}) in keys
    assert len(answer_key("\ud800", "m", {})) == 64  # even a broken character has a key


def test_answers_come_back_and_the_first_one_stays(tmp_path: Path) -> None:
    with AnswerCache(tmp_path / "deep" / "a.sqlite") as cache:
        cache.put_many({str(i): {"p": i / 3} for i in range(1200)})
        cache.put_many({"7": "another"})
        found = cache.get_many([str(i) for i in range(1100, 1300)])
        assert found == {str(i): {"p": i / 3} for i in range(1100, 1200)}
        assert (cache.hits, cache.misses) == (100, 100)
    with AnswerCache(tmp_path / "deep" / "a.sqlite") as cache:
        assert len(cache) == 1200
        assert cache.get_many(["7"]) == {"7": {"p": 7 / 3}}


def test_batches_are_stored_before_the_next_is_asked(tmp_path: Path) -> None:
    stored = []
    other = AnswerCache(tmp_path / "a.sqlite")

    def compute(unique: list[int], missing: set[int]):
        for i in unique:
            stored.append(len(other))
            yield {i: i}

    with AnswerCache(tmp_path / "a.sqlite") as cache:
        assert ask_once(["a", "b", "a", "c"], "m", {}, cache, compute, desc="") == [0, 1, 0, 3]
    assert stored == [0, 1, 2]
    other.close()


def test_killed_process_loses_one_batch_at_most(tmp_path: Path) -> None:
    process = start(tmp_path, "first", 0.05)
    while not (tmp_path / "first").exists() or (tmp_path / "first").stat().st_size < 100:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    first = (tmp_path / "first").read_text().split()
    assert 0 < len(first) < 200
    assert start(tmp_path, "second", 0).wait() == 0
    second = (tmp_path / "second").read_text().split()
    assert len(set(first) & set(second)) <= 10
    assert set(first) | set(second) == {str(i) for i in range(200)}


def test_two_processes_may_write_at_once(tmp_path: Path) -> None:
    processes = [start(tmp_path, f"log{i}", 0.01) for i in range(2)]
    assert [p.wait() for p in processes] == [0, 0]
    with AnswerCache(tmp_path / "a.sqlite") as cache:
        assert len(cache) == 200


def test_a_new_file_that_others_open_too_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    class Contested(sqlite3.Connection):
        """Is refused the change of mode twice, as SQLite does without waiting."""

        def execute(self, sql: str, *given: object) -> sqlite3.Cursor:
            if "journal_mode" in sql:
                tries.append(sql)
                if len(tries) % 3:
                    error = sqlite3.OperationalError("database is locked")
                    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
                    raise error
            return super().execute(sql, *given)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, factory=Contested, **k))
    with AnswerCache(tmp_path / "a.sqlite") as cache:
        cache.put_many({"k": 1})
    assert len(tries) == 3
    with pytest.raises(UserError, match="in use by another process"):
        AnswerCache(tmp_path / "a.sqlite", timeout=0)


def test_damaged_files_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    path.write_bytes(b"this is no database, it is a poem" * 100)
    with pytest.raises(UserError, match=r"a.sqlite is damaged .*; delete it"):
        AnswerCache(path)
    path.unlink()
    with AnswerCache(path) as cache:
        cache.put_many({str(i): "x" * 500 for i in range(500)})
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(UserError, match="is damaged"), AnswerCache(path) as cache:
        cache.get_many(["1"])


def test_damaged_answer_is_explained(tmp_path: Path) -> None:
    with AnswerCache(tmp_path / "a.sqlite") as cache:
        cache.put_many({"k": 1})
    with sqlite3.connect(tmp_path / "a.sqlite") as db:
        db.execute("UPDATE answers SET value = '{'")
    with pytest.raises(UserError, match="not JSON"), AnswerCache(tmp_path / "a.sqlite") as cache:
        cache.get_many(["k"])


def test_foreign_table_is_explained(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.sqlite") as db:
        db.execute("CREATE TABLE answers (other TEXT)")
    with pytest.raises(UserError, match="is damaged"), AnswerCache(tmp_path / "a.sqlite") as cache:
        cache.get_many(["k"])


def test_locked_file_is_explained(tmp_path: Path) -> None:
    with AnswerCache(tmp_path / "a.sqlite", timeout=0.1) as cache:
        blocker = sqlite3.connect(tmp_path / "a.sqlite", isolation_level=None)
        blocker.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match="in use by another process"):
            cache.put_many({"k": 1})
        blocker.close()
        cache.put_many({"k": 1})


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot make the folder"):
        AnswerCache(tmp_path / "file" / "a.sqlite")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="cannot be used"):
        AnswerCache(tmp_path / "folder")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a Linux /dev/full")
def test_full_disk_is_explained(tmp_path: Path) -> None:
    with AnswerCache(tmp_path / "a.sqlite") as cache:
        cache._db.execute("PRAGMA max_page_count = 4")  # SQLite's own way of a full disk
        with pytest.raises(UserError, match="cannot be used: .*full"):
            cache.put_many({str(i): "x" * 1000 for i in range(100)})
        assert len(cache) == 0  # nothing half-written
