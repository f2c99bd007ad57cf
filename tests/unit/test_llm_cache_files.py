"""Caches as files: counted, joined, exported in parts, and the command line around that."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from dallrec_core.cli import main
from dallrec_core.errors import UserError
from dallrec_core.llm.cache import AnswerCache, answer_key
from dallrec_core.llm.cache_files import export, merge, shard_of, stats

ANSWERS = {
    answer_key(f"q{i}", "m", {}): 0.1 * i if i % 3 else [f"täxt {i}", i, False] for i in range(90)
}


def make(path: Path, answers: dict[str, object]) -> Path:
    with AnswerCache(path) as cache:
        cache.put_many(answers)
    return path


def content(path: Path) -> dict[str, object]:
    with AnswerCache(path) as cache:
        return {key: value for page in cache.pages(7) for key, value in page.items()}


def dallrec(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


def test_pages_are_ordered_and_complete(tmp_path: Path) -> None:
    make(tmp_path / "a.sqlite", ANSWERS)
    with AnswerCache(tmp_path / "a.sqlite") as cache:
        pages = list(cache.pages(40))
    assert [len(page) for page in pages] == [40, 40, 10]
    assert [key for page in pages for key in page] == sorted(ANSWERS)
    assert content(tmp_path / "a.sqlite") == ANSWERS


def test_stats_count_kinds(tmp_path: Path) -> None:
    found = stats(make(tmp_path / "a.sqlite", ANSWERS))
    assert found == {"answers": 90, "yes or no": 60, "texts": 30, "MiB": found["MiB"]}
    assert 0.001 < found["MiB"] < 1


def test_shards_split_all_answers_and_merge_again(tmp_path: Path) -> None:
    source = make(tmp_path / "a.sqlite", ANSWERS)
    parts = [tmp_path / f"{n}.parquet" for n in (1, 2, 3)]
    counts = [export(source, part, shard=n, shards=3) for n, part in enumerate(parts, 1)]
    assert sum(counts) == 90 and min(counts) > 10
    for n, part in enumerate(parts, 1):
        table = pq.read_table(part).to_pydict()
        assert {shard_of(key, 3) for key in table["key"]} == {n}
        pairs = zip(table["key"], table["value"], strict=True)
        assert all(ANSWERS[key] == json.loads(value) for key, value in pairs)
    assert merge(tmp_path / "b.sqlite", parts) == 90
    assert content(tmp_path / "b.sqlite") == ANSWERS
    assert merge(tmp_path / "b.sqlite", [source]) == 0


def test_an_answer_that_is_there_stays(tmp_path: Path) -> None:
    one, two = make(tmp_path / "1", {"a": 1, "b": 2}), make(tmp_path / "2", {"b": 9, "c": 3})
    assert merge(one, [two]) == 1
    assert content(one) == {"a": 1, "b": 2, "c": 3}
    assert content(two) == {"b": 9, "c": 3}


def test_mistakes_are_explained(tmp_path: Path) -> None:
    cache = make(tmp_path / "a.sqlite", ANSWERS)
    (tmp_path / "poem.parquet").write_text("no parquet")
    pq.write_table(pq.read_schema(_other(tmp_path)).empty_table(), tmp_path / "other.parquet")
    for source, message in [
        ("none", "there is no file .*none"),
        ("poem.parquet", "poem.parquet is no export"),
        ("other.parquet", "other.parquet is no export"),
    ]:
        with pytest.raises(UserError, match=message):
            merge(cache, [tmp_path / source])
    for call in (lambda: stats(tmp_path / "none"), lambda: export(tmp_path / "none", cache)):
        with pytest.raises(UserError, match="there is no answer cache"):
            call()
    assert not (tmp_path / "none").exists()
    with pytest.raises(UserError, match="no shard 4 of 3"):
        export(cache, tmp_path / "x.parquet", shard=4, shards=3)
    assert not (tmp_path / "x.parquet").exists()


def _other(folder: Path) -> Path:
    import pyarrow as pa

    path = folder / "schema.parquet"
    pq.write_table(pa.table({"user": [1]}), path)
    return path


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DALLREC_RUNS_DIR", str(tmp_path / "runs"))
    missing = dallrec("cache", "stats")
    assert missing.exit_code == 2 and "there is no answer cache" in missing.output
    (tmp_path / "runs" / "cache").mkdir(parents=True)
    make(tmp_path / "runs" / "cache" / "answers.sqlite", ANSWERS)
    assert "answers    90\n" in dallrec("cache", "stats").output
    out = tmp_path / "half.parquet"
    written = dallrec("cache", "export", out, "--shard", "2/2").output
    assert written == f"{pq.read_metadata(out).num_rows} answers in {out}\n"
    other = tmp_path / "b.sqlite"
    merged = dallrec("cache", "merge", out, "--file", other).output
    assert merged == f"{len(content(other))} answers were new\n"
    for shard, message in (("two", "such as 1/4"), ("3/2", "no shard 3 of 2")):
        result = dallrec("cache", "export", out, "--shard", shard)
        assert result.exit_code == 2 and message in result.output
