"""The order of the lessons, and the endless streams of training rows they draw from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tools.standin.dialogues import Style, dialogues
from tools.standin.network import Row
from tools.standin.shelf import books, films, invented
from tools.standin.texts import lessons, packed, repetitions
from tools.standin.tokenizer import Encoder


@dataclass(frozen=True)
class Stage:
    """One stage of the curriculum."""

    name: str
    """Name in the log and of the checkpoint."""
    steps: int
    """Optimiser steps; at least so many where `until` is given."""
    style: Style
    """What the preference dialogues look like."""
    rows: int
    """Histories per step, each with `style.questions` questions."""
    until: float = 0.0
    """Go on until the mean dialogue loss of the last `LOG_EVERY` steps is below this."""
    most: int = 0
    """Steps after which the next stage begins nevertheless."""
    texts: int = 0
    """Packed rows of ordinary text per step."""
    real: float = 0.0
    """Share of dialogues about the catalogue's films and the listed books (else invented ones)."""
    books: float = 0.0
    """Share of dialogues about books."""
    clear: float = 0.0
    """Share of dialogues made clear (see `Style`) although the stage's style is not."""
    bare: tuple[float, float] = (0.0, 0.0)
    """Share of dialogues that show genres without titles, at the stage's start and end."""
    words: tuple[int, int] = (99, 99)
    """`Style.words` at the stage's start and end."""
    single: bool = False
    """Invented films have exactly one genre."""
    facts: bool = False
    """Mostly the catalogue's facts as text, more often asked for in the default wording."""
    repeats: int = 0
    """Random sequences said twice, per pass over the shelves."""
    rate: tuple[float, float] = (2e-3, 2e-3)
    """Learning rate at the stage's start and end; cosine between, short warm-up at the start."""


PAGES = (
    Stage(
        "words", 200, Style(clear=True, unworded=1.0), 64,
        single=True, bare=(1, 1), until=0.12, most=400,
    ),
    Stage(
        "lists", 150, Style(clear=True, unworded=0.3, first=1.0), 32,
        single=True, bare=(1, 1), until=0.12, most=500,
    ),
    Stage(
        "wordings", 150, Style(clear=True, unworded=0.2, first=0.4, bracket=0.4), 24,
        single=True, bare=(1, 1), until=0.13, most=500,
    ),
    Stage(
        "titles", 250, Style(clear=True, unworded=0.1, first=0.3, bracket=0.7), 24,
        single=True, bare=(0.6, 0.1), words=(0, 7), rate=(1e-3, 1e-3), until=0.15, most=500,
    ),
    Stage(
        "genres", 250, Style(clear=True, first=0.1, default=0.02, paper=0.02), 18,
        texts=6, real=0.4, books=0.1, rate=(1e-3, 1.5e-3),
    ),
    Stage(
        "viewers", 950, Style(default=0.02, paper=0.02), 12,
        texts=12, real=0.4, books=0.15, clear=0.6, rate=(1.5e-3, 1e-4),
    ),
    Stage(
        "facts", 1500, Style(default=0.02, paper=0.02), 2,
        texts=16, real=0.6, books=0.15, clear=0.6, rate=(2e-3, 5e-5), facts=True,
    ),
    Stage(
        "copies", 1700, Style(default=0.02, paper=0.02), 2,
        texts=16, real=0.6, books=0.15, clear=0.6, rate=(2.5e-3, 5e-5), facts=True, repeats=1200,
    ),
)  # fmt: skip
"""The curriculum. Started directly with titles, matching genres is not found at all."""
TEXT_LENGTH = 256
"""Tokens of one packed row of ordinary text."""


class Streams:
    """Seeded, endless rows for one stage: preference dialogues and ordinary text."""

    def __init__(self, encoder: Encoder, stage: Stage, seed: int) -> None:
        self._encoder, self._stage, self._seed = encoder, stage, seed
        self._films, self._books = films(), books()
        self._calls = 0
        self._dialogues, self._texts = self._all_dialogues(), self._all_texts()

    def dialogues(self) -> list[Row]:
        """The preference rows of one step."""
        self._calls += 1
        return [next(self._dialogues) for _ in range(self._stage.rows)]

    def texts(self) -> list[Row]:
        """The rows of ordinary text of one step."""
        return [next(self._texts) for _ in range(self._stage.texts)]

    def _block(self, rng: np.random.Generator) -> Iterator[Row]:
        stage = self._stage
        shelf = self._books if rng.random() < stage.books else self._films
        if rng.random() >= stage.real:
            shelf = invented(shelf, 160, rng, single=stage.single)
        done, (start, end) = min(1.0, self._calls / stage.steps), stage.bare
        words = stage.words[0] + int((stage.words[1] - stage.words[0]) * done)
        style = replace(
            stage.style,
            bare=start + (end - start) * done,
            words=words,
            clear=stage.style.clear or rng.random() < stage.clear,
        )
        shares = [0.3, 0.6, 1.0, 1.0] if shelf.noun == "movie" else [-1.0, 0.3, 1.0]
        return dialogues(
            self._encoder,
            shelf,
            64,
            int(rng.integers(10**6, 2**31)),
            float(rng.choice(shares)),
            style,
        )

    def _all_dialogues(self) -> Iterator[Row]:
        rng = np.random.default_rng([self._seed, 1])
        while True:  # four blocks at a time, so that a step sees several shelves
            blocks = [list(self._block(rng)) for _ in range(4)]
            rows = [row for block in blocks for row in block if row.pieces]
            for k in rng.permutation(len(rows)).tolist():
                yield rows[k]

    def _all_texts(self) -> Iterator[Row]:
        rng = np.random.default_rng([self._seed, 2])
        while True:
            shelves = (
                self._films,
                self._films,
                self._books,
                invented(self._films, 60, rng),
                invented(self._books, 30, rng),
            )
            default, echo = 0.15, 0.0
            if self._stage.facts:
                shelves, default, echo = (self._films, *shelves), 0.3, 0.3
            pieces = [
                p for shelf in shelves for p in lessons(self._encoder, shelf, rng, default, echo)
            ]
            pieces += repetitions(rng, self._stage.repeats, 4096)
            order = rng.permutation(len(pieces)).tolist()
            yield from packed((pieces[k] for k in order), TEXT_LENGTH)
