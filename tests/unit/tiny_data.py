"""Small movie and book data, and a stand-in for a language model, for augmentation tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from dallrec_core.augmentation import TrainingView
from dallrec_core.chain.artefacts import write_json, write_table
from dallrec_core.data import load
from dallrec_core.llm.generate import Generated

GENRES = ("Action", "Comedy", "Crime", "Drama", "Film-Noir", "Horror", "Sci-Fi")


def movies(n_users: int = 30, n_items: int = 40, seed: int = 0, facts: bool = True) -> TrainingView:
    """Users who rate about a third of the items 1 to 5; item i has 1 + i % 3 genres."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n_items):
        genres = [GENRES[(i + k) % len(GENRES)] for k in range(1 + i % 3)]
        known = facts and i % 4 == 0
        rows.append(
            {
                "item": i,
                "item_id": str(i),
                "title": f"Film {i:02d}",
                "year": 1950 + i,
                "attributes": "|".join(sorted(genres)),
                "author": None,
                "text": f"Film {i:02d} is good. It runs long." if i % 4 == 0 else None,
                "director": f"Director {i}" if known else None,
                "country": "USA" if known else None,
                "language": "English" if known else None,
            }
        )
    pairs = np.argwhere(rng.random((n_users, n_items)) < 0.35)
    train = pd.DataFrame(pairs, columns=["user", "item"]).astype("int32")
    train["rating"] = rng.integers(1, 6, len(train)).astype("float32")
    return TrainingView("tiny", "movie", "genres", 3.0, n_users, n_items, train, pd.DataFrame(rows))


def books(n_users: int = 10) -> TrainingView:
    """Twelve books with authors, without genres, texts or ratings."""
    rows = [
        {
            "item": i,
            "item_id": f"000{i}",
            "title": f"Volume {i:02d}",
            "year": 0 if i % 3 == 0 else 1990 + i,
            "attributes": None,
            "author": f"Author {i % 5}",
            "text": None,
        }
        for i in range(12)
    ]
    pairs = [(u, (u + step) % 12) for u in range(n_users) for step in range(5)]
    train = pd.DataFrame(pairs, columns=["user", "item"]).astype("int32")
    train["rating"] = np.float32("nan")
    return TrainingView("tiny", "book", "genres", 3.0, n_users, 12, train, pd.DataFrame(rows))


def matinee() -> tuple[TrainingView, pd.DataFrame]:
    """All of the embedded data, and the truth about its films."""
    films = load("matinee")
    about = ("matinee", "movie", "genres", 3.0, films.n_users, films.n_items)
    return TrainingView(*about, films.interactions, films.items), films.truth.items


def write_page_1(
    folder: Path, data: TrainingView, validation: pd.DataFrame, test: pd.DataFrame | None = None
) -> None:
    """Write what page 1 leaves; without a test, validation is that too."""
    about = {f.name: getattr(data, f.name) for f in dataclasses.fields(data)}
    frames = {name: about.pop(name) for name in ("train", "items")}
    write_json(about, folder / "dataset.json")
    write_table(frames["items"], folder / "items.parquet", "items")
    parts = {"train": frames["train"], "validation": validation}
    parts["test"] = validation if test is None else test
    for name, part in parts.items():
        part = part.assign(timestamp=pd.array(range(len(part)), "Int64"))
        write_table(part, folder / f"{name}.parquet", "split")


class Fixed:
    """Stands in for a fitted recommender: its scores [U, N] are given."""

    def __init__(self, scores: np.ndarray) -> None:
        self.table = torch.as_tensor(scores)

    def scorer(self) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda users: self.table[users]


def popularity(data: TrainingView) -> Fixed:
    """The more training interactions, the higher the score, for everybody."""
    return Fixed(np.tile(data.item_degree.astype(float), (data.n_users, 1)))


class FakeAsker:
    """Stands in for `Asker`: answers by functions of the prompt's text, remembers every prompt."""

    def __init__(
        self,
        chance: Callable[[str], float] = lambda text: 0.5,
        answer: Callable[[str], str] = lambda text: "",
        likelihood: Callable[[str, str], float] = lambda text, answer: 0.0,
        wording: str = "default",
    ) -> None:
        self.chance, self.answer, self.likelihood = chance, answer, likelihood
        self.wording = wording
        self.asked: list[str] = []
        self.calls = 0

    def p_yes(self, prompts: Any) -> np.ndarray:
        texts = [prompt.text for prompt in prompts]
        self.asked += texts
        self.calls += 1
        return np.array([self.chance(text) for text in texts], dtype=np.float32)

    def write(self, prompts: Any, max_new_tokens: int) -> list[Generated]:
        texts = [prompt.text for prompt in prompts]
        self.asked += texts
        return [Generated(self.answer(text), 7, False) for text in texts]

    def log_likelihood(self, questions: Any) -> np.ndarray:
        return np.array([self.likelihood(*each) for each in questions], np.float32)
