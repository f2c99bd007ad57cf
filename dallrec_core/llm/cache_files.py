"""Caches as files: what one holds, several joined into one, and a copy as parquet."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dallrec_core.artifacts import atomic
from dallrec_core.errors import UserError
from dallrec_core.llm.cache import AnswerCache

_SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("key", "value")])


def shard_of(key: str, shards: int) -> int:
    """Return the shard, from 1, that holds `key` when answers are split into `shards` parts."""
    return zlib.crc32(key.encode()) % shards + 1


def stats(path: Path) -> dict[str, float]:
    """Return the number of answers, how many are yes/no and how many texts, and the file's MiB.

    Raises:
        UserError: when there is no such cache, or it is damaged.
    """
    with _existing(path) as cache:
        texts = sum(isinstance(value, list) for page in cache.pages() for value in page.values())
        answers = len(cache)
    files = [path, path.with_name(path.name + "-wal")]
    size = sum(file.stat().st_size for file in files if file.is_file())
    return {"answers": answers, "yes or no": answers - texts, "texts": texts, "MiB": size / 2**20}


def merge(path: Path, sources: Sequence[Path]) -> int:
    """Add the answers of other caches, or of their parquet exports, to the cache at `path`.

    An answer that is already there stays. A source that is cut off adds what was read of it.

    Returns:
        The number of answers that are new.

    Raises:
        UserError: when a source is absent, or is neither a cache nor an export of one.
    """
    for source in sources:
        if not source.is_file():
            raise UserError(f"there is no file {source}, so nothing can be merged from it")
    with AnswerCache(path) as cache:
        before = len(cache)
        for source in sources:
            for page in _pages(source):
                cache.put_many(page)
        return len(cache) - before


def export(path: Path, out: Path, *, shard: int = 1, shards: int = 1) -> int:
    """Write the answers as parquet: `key`, and `value` as JSON, sorted by key.

    Args:
        path: the cache.
        out: file to write, replaced when it exists.
        shard: which part to write, from 1.
        shards: number of parts; the keys decide which answer belongs to which.

    Returns:
        The number of answers written.

    Raises:
        UserError: when there is no such cache or shard, or `out` cannot be written.
    """
    if not 1 <= shard <= shards:
        raise UserError(f"there is no shard {shard} of {shards}; they count from 1")
    written = 0
    with _existing(path) as cache, atomic(out) as partial:
        with pq.ParquetWriter(partial, _SCHEMA, compression="zstd") as writer:
            for page in cache.pages():
                keys = [key for key in page if shard_of(key, shards) == shard]
                rows = [{"key": key, "value": json.dumps(page[key])} for key in keys]
                writer.write_table(pa.Table.from_pylist(rows, _SCHEMA))
                written += len(rows)
    return written


def _existing(path: Path) -> AnswerCache:
    if not path.is_file():
        raise UserError(f"there is no answer cache {path}; runs that ask a model make one")
    return AnswerCache(path)


def _pages(source: Path) -> Iterator[dict[str, Any]]:
    if source.suffix != ".parquet":
        with AnswerCache(source) as cache:
            yield from cache.pages()
        return
    try:
        with pq.ParquetFile(source) as file:
            file.schema_arrow.empty_table().select(_SCHEMA.names)  # even if it has no rows
            for batch in file.iter_batches(columns=_SCHEMA.names):
                keys, values = (batch.column(name).to_pylist() for name in _SCHEMA.names)
                yield dict(zip(keys, map(json.loads, values), strict=True))
    except (pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{source} is no export of an answer cache: {error}") from error
