"""Answers kept for ever: a question is asked of the same model in the same way only once.

Every batch is committed to an SQLite file before the next one is asked, so a killed process loses
at most the batch in flight; several processes may use one file.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from accelerate.utils import gather_object

from dallrec_core.chain.progress import progress
from dallrec_core.errors import UserError
from dallrec_core.llm.ledger import usage
from dallrec_core.llm.load import processes, quiet

T = TypeVar("T")

Compute = Callable[[list[int], set[int]], Iterable[dict[int, Any]]]
"""What `ask_once` needs to know of a task."""

_TABLE = "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
_FOUND = "SELECT key, value FROM answers WHERE key IN (SELECT value FROM json_each(?))"


def answer_key(prompt: str, fingerprint: str, settings: Mapping[str, Any]) -> str:
    """SHA-256 (hexadecimal) of a question: prompt text, model fingerprint, decoding settings."""
    text = json.dumps([prompt, fingerprint, settings], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class AnswerCache:
    """A durable store of answers (any JSON value) by key; use it in one thread.

    Args:
        path: the database file; its folder is made when it is missing.

    Raises:
        UserError: here and in every method, when the file is damaged, locked or not writable.
    """

    def __init__(self, path: Path) -> None:
        """Open the store, or make an empty one."""
        self.path = Path(path)
        with self._explained():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=60)  # seconds, while another writes
            self._db.execute(_TABLE)

    def __len__(self) -> int:
        """Number of stored answers."""
        with self._explained():
            return int(self._db.execute("SELECT count(*) FROM answers").fetchone()[0])

    def __enter__(self) -> AnswerCache:
        """Return the store itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the store."""
        self.close()

    def close(self) -> None:
        """Close the database file; closing twice is allowed."""
        self._db.close()

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the stored answers among `keys`."""
        with self._explained():
            rows = self._db.execute(_FOUND, [json.dumps(list(keys))]).fetchall()
            return {key: json.loads(value) for key, value in rows}

    def put_many(self, answers: Mapping[str, Any]) -> None:
        """Store answers durably in one transaction; an answer already there stays."""
        rows = [(key, json.dumps(value)) for key, value in answers.items()]
        with self._explained(), self._db:
            self._db.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?)", rows)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error, ValueError) as error:
            raise UserError(
                f"answer cache {self.path} cannot be used: {error}; if it is damaged, delete it: "
                "its questions will be asked anew"
            ) from error


def own(batches: Iterable[T]) -> Iterator[T]:
    """Yield the batches that are this process's share: every n-th of n processes."""
    return islice(batches, processes().process_index, None, processes().num_processes)


def ask_once(
    prompts: Sequence[str],
    fingerprint: str,
    settings: Mapping[str, Any],
    cache: AnswerCache | None,
    compute: Compute,
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
            position: all, or this process's share of the batches (see `own`). Batches are planned
            over all questions, so that a resumed run asks the rest in the same company, several
            processes ask in the company in which one would, and answers are the same to the last
            bit.
        desc: the progress bar's label.

    Returns:
        `[n]` answers in the order of `prompts`.
    """
    keys = [answer_key(prompt, fingerprint, settings) for prompt in prompts]
    first: dict[str, int] = {}
    for position, key in enumerate(keys):
        first.setdefault(key, position)
    known = cache.get_many(first) if cache is not None else {}
    missing = {position for key, position in first.items() if key not in known}
    counts, group = usage(), processes()
    counts.questions += len(prompts)
    counts.from_cache += len(prompts) - len(missing)

    def keep(answers: dict[str, Any]) -> None:
        if cache is not None:
            cache.put_many(answers)
        known.update(answers)

    def asked() -> Iterator[int]:
        for batch in compute(list(first.values()), missing):
            keep({keys[position]: value for position, value in batch.items()})
            yield len(batch)

    sizes = asked()
    if group.is_main_process:
        share = -(-len(missing) // group.num_processes)
        sizes = progress(sizes, total=share, desc=desc, unit="questions", size=int)
    with quiet():
        for _ in sizes:
            pass
    for part in gather_object([known]):  # each machine may have a cache of its own
        keep({key: value for key, value in part.items() if key not in known})
    return [known[key] for key in keys]
