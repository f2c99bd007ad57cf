"""Progress for long loops: a bar for people at a screen, a few plain lines for logs."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

from tqdm.auto import tqdm

T = TypeVar("T")

LINE = re.compile(
    r"^.+: \d+(/\d+)? \S+ in [\d.]+ (s|min|h)(, about [\d.]+ (s|min|h) left)?\n?", re.MULTILINE
)
"""A line of a headless loop; it tells about the machine that day, and nothing about the result."""


def is_interactive() -> bool:
    """Tell whether somebody watches: a terminal or JupyterLab, not Papermill and not nbval."""
    in_jupyter = "JPY_SESSION_NAME" in os.environ or "VSCODE_PID" in os.environ
    return sys.stderr.isatty() or in_jupyter or "google.colab" in sys.modules


def progress(
    iterable: Iterable[T],
    *,
    total: int | None = None,
    desc: str = "",
    unit: str = "it",
    size: Callable[[T], int] = lambda _: 1,
) -> Iterator[T]:
    """Yield from `iterable` while telling how far it is.

    Interactively this is a tqdm bar with rate and remaining time. Headless it prints a line to
    stdout after ten seconds, and again each time three times as long has passed: nine in a day.

    Args:
        iterable: what to loop over.
        total: number of units where it is not the length of `iterable`.
        desc: what is being done, in a few words.
        unit: the word for one of them.
        size: how many units an element stands for, where things are done in batches.
    """
    if total is None:
        total = len(iterable) if isinstance(iterable, Sized) else None
    headless, start, due, done = not is_interactive(), time.monotonic(), 10.0, 0
    with tqdm(total=total, desc=desc, unit=unit, leave=False, disable=headless) as bar:
        for element in iterable:
            yield element
            done += size(element)
            bar.update(size(element))
            elapsed = time.monotonic() - start
            if headless and elapsed >= due and done not in (0, total):
                left = f", about {span(elapsed * (total - done) / done)} left" if total else ""
                of = f"/{total}" if total else ""
                print(f"{desc}: {done}{of} {unit} in {span(elapsed)}{left}")
                due = elapsed * 3


def span(seconds: float) -> str:
    """Return a time in words: seconds, from 100 s on minutes, from 100 min on hours."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"
