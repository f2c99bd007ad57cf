"""Who asks: a language model, the wording of the questions, and where answers are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dallrec_core.augmentation.prompts import NO_WORDS, YES_WORDS, Prompt


class Asker(NamedTuple):
    """A model that can be asked; every task of this room takes one."""

    lm: Any
    """from `llm.open_model`"""
    wording: str = "default"
    """one of `prompts.WORDINGS`"""
    cache: Any = None
    """an `llm.AnswerCache`; None keeps no answer"""

    def p_yes(self, prompts: Sequence[Prompt]) -> np.ndarray:
        """Return the probability of yes, [n]; NaN where the model says neither yes nor no."""
        from dallrec_core.llm.score import p_yes

        return np.asarray(p_yes(self.lm, prompts, YES_WORDS, NO_WORDS, cache=self.cache))

    def write(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[Any]:
        """Return one answer per prompt, greedy: `llm.generate.Generated` with text and tokens."""
        from dallrec_core.llm.generate import generate

        return generate(self.lm, prompts, max_new_tokens=max_new_tokens, cache=self.cache)

    def log_likelihood(self, questions: Sequence[tuple[str, str]]) -> np.ndarray:
        """Return the log-likelihood of answers after their instructions, [n]."""
        from dallrec_core.llm.generate import log_likelihood

        return log_likelihood(self.lm, questions, cache=self.cache)
