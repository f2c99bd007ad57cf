"""Small movie and book data, and a stand-in for the language-model wing, for augmentation tests."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from dallrec_core.augmentation.data import Data

GENRES = ("Action", "Comedy", "Crime", "Drama", "Film-Noir", "Horror", "Sci-Fi")


def movies(n_users: int = 30, n_items: int = 40, seed: int = 0, facts: bool = True) -> Data:
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
    return Data("tiny", "movie", "genres", 3.0, n_users, n_items, train, pd.DataFrame(rows))


def books(n_users: int = 10) -> Data:
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
    return Data("tiny", "book", "genres", 3.0, n_users, 12, train, pd.DataFrame(rows))


class Generated(NamedTuple):
    """What the real generation returns."""

    text: str
    tokens: int
    truncated: bool


class FakeModel:
    """Answers by functions of the prompt's text and remembers every prompt."""

    def __init__(
        self,
        chance: Callable[[str], float] = lambda text: 0.5,
        answer: Callable[[str], str] = lambda text: "",
    ) -> None:
        self.chance, self.answer = chance, answer
        self.asked: list[str] = []
        self.calls = 0


def _p_yes(lm: FakeModel, prompts: Any, yes: Any, no: Any, *, cache: Any = None) -> np.ndarray:
    texts = [p.prefix + p.suffix for p in prompts]
    lm.asked += texts
    lm.calls += 1
    return np.array([lm.chance(t) for t in texts], dtype=np.float32)


def _generate(
    lm: FakeModel, prompts: Any, *, max_new_tokens: int, cache: Any = None
) -> list[Generated]:
    texts = [p.prefix + p.suffix for p in prompts]
    lm.asked += texts
    return [Generated(lm.answer(t), 7, False) for t in texts]


@pytest.fixture
def fake_llm(monkeypatch: pytest.MonkeyPatch) -> type[FakeModel]:
    """Replace scoring and generation, so that neither torch nor a checkpoint is needed."""
    for name, function in (("scoring", _p_yes), ("generation", _generate)):
        module = ModuleType(f"dallrec_core.llm.{name}")
        setattr(module, "p_yes" if name == "scoring" else "generate", function)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return FakeModel
