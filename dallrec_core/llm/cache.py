"""Answers kept for ever: a question is asked of the same model in the same way only once.

SQLite in WAL mode. Every batch is committed before the next one is asked, so a killed process
loses at most the batch in flight; several processes may use one file.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dallrec_core.chain.progress import announce, progress
from dallrec_core.errors import UserError
from dallrec_core.llm.ledger import is_metered, usage
from dallrec_core.llm.processes import gather, place

_TABLE = "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
_CHUNK = 500  # keys per SELECT; old SQLite builds allow 999 parameters
_TIMED = 0.2  # seconds of asking from which the rest is estimated


def answer_key(prompt: str, fingerprint: str, settings: Mapping[str, Any]) -> str:
    """SHA-256 (hexadecimal) of a question: prompt text, model fingerprint, decoding settings."""
    text = json.dumps([prompt, fingerprint, settings], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class AnswerCache:
    """A durable store of answers (any JSON value) by key; use it in one thread.

    Args:
        path: the database file; its folder is made when it is missing.
        timeout: seconds to wait while another process writes.

    Raises:
        UserError: here and in every method, when the file is damaged, locked or not writable.
    """

    def __init__(self, path: Path, *, timeout: float = 60.0) -> None:
        """Open the store, or make an empty one."""
        self.path = Path(path)
        self.hits = 0
        """Questions answered from the store since it was opened."""
        self.misses = 0
        """Questions that were not in the store."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot make the folder {self.path.parent}: {error.strerror}"
            ) from error
        try:
            self._db = sqlite3.connect(self.path, timeout=timeout)
            self._switch_to_wal(timeout)
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute(_TABLE)
            self._db.commit()
        except sqlite3.Error as error:
            raise self._explain(error) from error

    def _switch_to_wal(self, timeout: float) -> None:
        """Use the write-ahead log, unless a network drive refuses: then all is as safe but slower.

        Where several processes open a new file, SQLite ends all but one at once instead of waiting.
        """
        end = time.monotonic() + timeout
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() >= end:
                    raise
                time.sleep(0.01)

    def __len__(self) -> int:
        """Number of stored answers."""
        return int(self._run("SELECT count(*) FROM answers")[0][0])

    def __enter__(self) -> AnswerCache:
        """Return the store itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the store."""
        self.close()

    def close(self) -> None:
        """Close the database file; closing twice is allowed."""
        self._db.close()

    def get_many(self, keys: Sequence[str]) -> dict[str, Any]:
        """Return the stored answers among `keys`, counting hits and misses."""
        found: dict[str, Any] = {}
        for start in range(0, len(keys), _CHUNK):
            chunk = list(keys[start : start + _CHUNK])
            marks = ",".join("?" * len(chunk))
            rows = self._run(f"SELECT key, value FROM answers WHERE key IN ({marks})", chunk)
            found.update((key, self._decode(value)) for key, value in rows)
        self.hits += len(found)
        self.misses += len(keys) - len(found)
        return found

    def put_many(self, answers: Mapping[str, Any]) -> None:
        """Store answers durably in one transaction; an answer already there stays."""
        rows = [(key, json.dumps(value)) for key, value in answers.items()]
        try:
            with self._db:
                self._db.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?)", rows)
        except sqlite3.Error as error:
            raise self._explain(error) from error

    def _run(self, sql: str, values: Sequence[str] = ()) -> list[Any]:
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._explain(error) from error

    def _decode(self, value: str) -> Any:
        try:
            return json.loads(value)
        except ValueError as error:
            raise UserError(self._damaged("an answer in it is not JSON")) from error

    def _explain(self, error: sqlite3.Error) -> UserError:
        reason = str(error)
        if "locked" in reason:
            return UserError(f"answer cache {self.path} is in use by another process; try again")
        if isinstance(error, sqlite3.OperationalError) and "no such" not in reason:
            return UserError(
                f"answer cache {self.path} cannot be used: {reason}; is the disk full, "
                "or the folder not writable?"
            )
        return UserError(self._damaged(reason))

    def _damaged(self, reason: str) -> str:
        return (
            f"answer cache {self.path} is damaged ({reason}); delete it (and its -wal and -shm "
            "files) and run again: the questions will be asked anew"
        )


def ask_once(
    prompts: Sequence[str],
    fingerprint: str,
    settings: Mapping[str, Any],
    cache: AnswerCache | None,
    compute: Callable[[list[int], set[int]], Iterable[dict[int, Any]]],
    *,
    desc: str,
) -> list[Any]:
    """Answer all prompts: equal ones once, stored ones from the cache, the others by `compute`.

    Args:
        prompts: `[n]` texts of the questions.
        fingerprint: of the model that answers.
        settings: everything else that determines the answer (JSON values).
        cache: where answers are kept, or None.
        compute: takes the positions in `prompts` of all different questions, and the set of
            those that must be asked; yields, batch by batch, the answers of the latter by
            position: all, or this process's share of the batches (see `processes.own`). Batches
            are planned over all questions, so that a resumed run asks the rest in the same company
            and its answers are the same to the last bit.
        desc: the progress bar's label.

    Returns:
        `[n]` answers in the order of `prompts`.
    """
    keys = [answer_key(prompt, fingerprint, settings) for prompt in prompts]
    first: dict[str, int] = {}
    for position, key in enumerate(keys):
        first.setdefault(key, position)
    known = cache.get_many(list(first)) if cache is not None else {}
    missing = {position for key, position in first.items() if key not in known}
    rank, count = place()
    share = -(-len(missing) // count)
    counts = usage()
    counts.questions += len(prompts)
    counts.from_cache += len(prompts) - len(missing)

    def answers() -> Iterator[int]:
        start, told = None, False
        for batch in compute(list(first.values()), missing):
            now = time.monotonic(), counts.done
            start = start or now  # the first batch warms up; then some are timed
            if not told and not rank and now[0] - start[0] >= _TIMED and now[1] > start[1]:
                seconds = (now[0] - start[0]) / (now[1] - start[1]) * counts.todo
                announce(desc, share, "questions", seconds)
                told = True
            by_key = {keys[position]: value for position, value in batch.items()}
            if cache is not None:
                cache.put_many(by_key)
            known.update(by_key)
            yield len(by_key)

    if missing or is_metered():  # to count what the cache saves, questions must be tokenized
        asked = answers()
        if not rank:
            asked = progress(asked, total=share, desc=desc, unit="questions", size=int)
        for _ in asked:
            pass
    if count > 1:
        theirs = {key: value for key, value in gather(known).items() if key not in known}
        if cache is not None:  # each machine may have a cache of its own
            cache.put_many(theirs)
        known.update(theirs)
    return [known[key] for key in keys]
