"""Counts of what asking and tuning cost, filled where the work is done."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class Usage:
    """Questions and tokens since the counting began."""

    questions: int = 0
    """Questions to be answered, or examples to be learnt."""
    from_cache: int = 0
    """Of these questions, those that were not put to the model: stored before, or asked twice."""
    tokens_in: int = 0
    """Tokens of prompts and examples that the model read, padding left out, or a server reports."""
    tokens_out: int = 0
    """Tokens that it wrote."""
    saved_by_prefix: int = 0
    """Tokens that it need not read because questions share a beginning; a server keeps its own."""
    saved_by_cache: int = 0
    """Tokens, read and written, of the different questions that were stored before."""
    todo: float = 0.0
    """Work planned by the call under way, in a unit of its own."""
    done: float = 0.0
    """How much of it is done."""

    def plan(self, rows: Collection[tuple[int, list[int]]], missing: set[int], todo: float) -> None:
        """Note the work of one call before it begins.

        Args:
            rows: (position, tokens) of all different questions.
            missing: positions of those that must be asked.
            todo: their work, in the unit in which `done` is going to be counted.
        """
        self.saved_by_cache += sum(len(tokens) for at, tokens in rows if at not in missing)
        self.todo, self.done = todo, 0.0


_counting: ContextVar[Usage | None] = ContextVar("usage", default=None)


def usage() -> Usage:
    """Return the counts to add to; outside of `metered` they are thrown away."""
    return _counting.get() or Usage()


def is_metered() -> bool:
    """Tell whether somebody wants to know the counts."""
    return _counting.get() is not None


@contextmanager
def metered(counts: Usage) -> Iterator[Usage]:
    """Count everything asked, written and learnt inside this block into `counts`."""
    token = _counting.set(counts)
    try:
        yield counts
    finally:
        _counting.reset(token)
