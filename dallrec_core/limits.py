"""What the notebooks' parameters may be, so that a slip is refused before anything has run.

The library checks its arguments too, for callers of their own; here a wrong one is found before
the hour-long stage in front of it, and before an older result is cleared away.
"""

from __future__ import annotations

import difflib
import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dallrec_core.errors import UserError


@dataclass(frozen=True)
class Number:
    """A number between two bounds, or a list of such numbers."""

    low: float
    "Smallest value."
    high: float = math.inf
    "Largest value; infinity itself is never allowed."
    above: bool = False
    "Whether `low` itself is excluded."

    def problem(self, value: float | list[float]) -> str:
        """Say what the value should be; empty when it is that."""
        given = value if isinstance(value, list) else [value]
        if all(self._holds(number) for number in given):
            return ""
        low = f"{'above' if self.above else 'at least'} {self.low:g}"
        return f"{low} and " + (f"at most {self.high:,.12g}" if self.high < math.inf else "finite")

    def _holds(self, value: float) -> bool:
        inside = value > self.low if self.above else value >= self.low
        return inside and value <= self.high and value < math.inf


@dataclass(frozen=True)
class Choice:
    """A word, or a list of different words, out of a few."""

    words: str | tuple[str, ...]
    "The words, or where the library holds them, as `room.module:NAME`."
    must: str = ""
    "A word that a list has to hold."
    least: int = 1
    "Length of a list at least."
    own: str = ""
    "What takes a word with a colon, `room.module:function`; it raises when it cannot."

    def problem(self, value: Any) -> str:
        """Say what the value should be; empty when it is that."""
        words = self._words()
        given = value if isinstance(value, list) else [value]
        own = [word for word in given if self.own and ":" in str(word)]
        for word in own:
            _named(self.own)(word)
        wrong = [word for word in given if word not in (*words, *own)]
        if wrong:
            near = difflib.get_close_matches(str(wrong[0]), words, n=1)
            guess = f" (did you mean '{near[0]}'?)" if near else ""
            return f"{'a list out' if given is value else 'one'} of {', '.join(words)}{guess}"
        if len(set(given)) < len(given):
            return "a list without repetitions"
        if len(given) < self.least:
            return f"a list of at least {self.least} out of {', '.join(words)}"
        return f"a list with '{self.must}'" if self.must and self.must not in given else ""

    def _words(self) -> Sequence[str]:
        if not isinstance(self.words, str):
            return self.words
        found: Sequence[str] | Callable[[], Sequence[str]] = _named(self.words)
        return found() if callable(found) else found


@dataclass(frozen=True)
class Form:
    """A word that only the library can judge, as one of its functions does."""

    judge: str
    "`room.module:function`, which says what the word should be, or nothing."

    def problem(self, value: str) -> str:
        """Say what the value should be; empty when it is that."""
        return str(_named(self.judge)(value))


def _named(place: str) -> Any:
    # By name, because the room may be heavy to import and is seldom needed.
    room, _, name = place.partition(":")
    return getattr(importlib.import_module(f"dallrec_core.{room}"), name)


Limit = Number | Choice | Form

SEED = Number(0, 2_000_000_000)
"""Seeds of every notebook; they have to fit into 32 bits with those that follow them."""

_COUNT, _ONE = Number(0), Number(1)
_MODELS, _OWN = "recommenders:names", "recommenders:model_class"

LIMITS: dict[str, dict[str, Limit]] = {
    "01_data": {
        "dataset": Choice("datasets:NAMES"),
        "split": Choice("datasets.splits:KINDS"),
        "train_fraction": Number(0, 1, above=True),
        "noun": Choice("datasets.files:NOUNS"),
        "min_interactions": _COUNT,
    },
    "02_finetune": {
        "quantize": Choice(("none", "4bit")),
        "wording": Choice("prompts:WORDINGS"),
        "n_examples": Number(2),
        "held_out": _COUNT,
        "epochs": _ONE,
        "learning_rate": Number(0, above=True),
        "lora_rank": _ONE,
        "batch_size": _ONE,
        "gradient_accumulation": _ONE,
        "patience": _COUNT,
        "curve_sizes": Number(2),
    },
    "03_interactions": {
        "strategy": Choice("augmentation.interactions:STRATEGIES"),
        "budget": _ONE,
        "calibration_method": Choice("augmentation.calibration:METHODS"),
        "max_share": Number(0),
        "precision": Number(0, 1),
        "max_per_user": _COUNT,
        "base": Choice(("EASE", "ItemKNN", "Popularity")),
    },
    "04_attributes": {"max_items": _COUNT, "max_new_tokens": _ONE, "fact_tokens": _ONE},
    "05_summaries": {"max_items": _COUNT, "max_new_tokens": _ONE},
    "06_recommenders": {
        "backbones": Choice(_MODELS, own=_OWN),
        "references": Choice(_MODELS, least=0, own=_OWN),
        "arms": Choice("arms:ARMS", must="base"),
        "seeds": Number(1, 1000),
        "encoder": Form("features:problem"),
        "epochs": _COUNT,
        "hard_negatives": Number(0, 1),
        "top_k": Number(1, 100),
        "jobs": _COUNT,
    },
    "07_analysis": {"resamples": _ONE},
    "A1_published_split": {"seeds": Number(1, 1000), "jobs": _COUNT},
    "A2_released_edges": {
        "backbones": Choice(_MODELS),
        "seeds": Number(1, 1000),
        "resamples": _ONE,
        "jobs": _COUNT,
    },
}
"""By notebook and parameter; what is not named here may be anything of its type."""


def check(stage: str, name: str, value: Any) -> None:
    """Refuse a value that no run could use.

    Args:
        stage: name of the notebook.
        name: of its parameter.
        value: of the annotated type.

    Raises:
        UserError: saying what the value should be.
    """
    limit = SEED if name == "seed" else LIMITS.get(stage, {}).get(name)
    problem = limit.problem(value) if limit else ""
    if problem:
        raise UserError(f"{stage}.{name} should be {problem}, but is {value!r}")
