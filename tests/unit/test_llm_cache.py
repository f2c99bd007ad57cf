"""The answer cache: durable, shared, and clear about damage."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from llm_support import side_by_side

from dallrec_core.errors import UserError
from dallrec_core.llm.cache import AnswerCache, ask_once


def test_answers_come_back_and_the_first_one_stays(tmp_path: Path) -> None:
    with AnswerCache(tmp_path / "deep" / "a.sqlite") as cache:
        cache.put_many({str(i): {"p": i / 3} for i in range(1200)})
        cache.put_many({"7": "another"})
        found = cache.get_many([str(i) for i in range(100, 1300)])
        assert found == {str(i): {"p": i / 3} for i in range(100, 1200)}
    with AnswerCache(tmp_path / "deep" / "a.sqlite") as cache:
        assert len(cache) == 1200
        assert cache.get_many(["7"]) == {"7": {"p": 7 / 3}}


def write(path: Path, name: str) -> None:
    with AnswerCache(path) as cache:
        for i in range(40):
            cache.put_many({f"question {i}": i, f"{name} {i}": i})


def test_two_processes_may_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    side_by_side(write, (path, "one"), (path, "two"))
    with AnswerCache(path) as cache:
        assert len(cache) == 120


def test_what_cannot_be_written_is_explained_and_leaves_nothing(tmp_path: Path) -> None:
    with AnswerCache(tmp_path / "a.sqlite") as cache:
        cache._db.execute("PRAGMA max_page_count = 4")  # SQLite's own way of a full disk
        with pytest.raises(UserError, match="cannot be used: .*full"):
            cache.put_many({str(i): "x" * 1000 for i in range(100)})
        assert len(cache) == 0


QUESTIONS = [*(f"q{i}" for i in range(8)), "\ud800"]  # even a broken character can be asked


def die_while_asking(path: Path) -> None:
    def compute(unique: list[int], missing: set[int]) -> Iterator[dict[int, float]]:
        yield from ({i: i / 2, i + 1: i / 2} for i in range(0, 6, 2))
        os._exit(0)

    with AnswerCache(path) as cache:
        ask_once(QUESTIONS, "m", {}, cache, compute, desc="asking")


def test_who_is_killed_while_asking_asks_only_the_rest_again(tmp_path: Path) -> None:
    side_by_side(die_while_asking, (tmp_path / "a.sqlite",))
    asked = []

    def compute(unique: list[int], missing: set[int]) -> Iterator[dict[int, float]]:
        asked.extend(sorted(missing))
        yield {i: 9.0 for i in missing}

    with AnswerCache(tmp_path / "a.sqlite") as cache:
        answers = ask_once(QUESTIONS, "m", {}, cache, compute, desc="asking")
    assert asked == [6, 7, 8] and answers == [0, 0, 1, 1, 2, 2, 9, 9, 9]
