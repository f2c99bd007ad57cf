"""A model server's address, checked, and what it says, read: text, log-probabilities, p(yes)."""

from __future__ import annotations

import math
import os
import re
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from dallrec_core.errors import UserError

KEY_VARIABLE = "DALLREC_LLM_KEY"
"""Environment variable that holds the server's key, where it wants one."""


class Answer(NamedTuple):
    """The part of a completion that is used."""

    text: str
    read: int
    """Tokens of the prompt; 0 when the server does not tell."""
    tokens: int
    """Tokens of the text; 0 when the server does not tell."""
    cut: bool
    """Whether it ran into the limit."""
    top: dict[str, float]
    """The likeliest first tokens with their log-probabilities; empty when there are none."""


def read_answer(answer: Any) -> Answer:
    """Take from a chat completion what is needed.

    Raises:
        ValueError: when it is not one, or its log-probabilities are no logarithms.
    """
    try:
        choice = answer.choices[0]
        text, cut = choice.message.content or "", choice.finish_reason == "length"
        counts = ("prompt_tokens", "completion_tokens")
        read, tokens = (int(getattr(answer.usage, name, None) or 0) for name in counts)
        first = choice.logprobs.content[0].top_logprobs if choice.logprobs else []
        top = {each.token: float(each.logprob) for each in first}
        values = list(top.values())
    except (AttributeError, IndexError, TypeError) as error:
        raise ValueError(str(answer)) from error
    if not isinstance(text, str) or not all(value <= 1e-3 for value in values):  # nor NaN
        raise ValueError(str(answer))
    return Answer(text, read, tokens, cut, top)


def from_logprobs(top: dict[str, float], yes: set[str], no: set[str]) -> float | None:
    """`P(yes) / (P(yes) + P(no))`, each summed over the first tokens of its spellings.

    None where no such token is among the likeliest.
    """
    sums = []
    for words, others in ((yes, no), (no, yes)):
        tokens = {t for t in top if _begins(t, words) and not _begins(t, others)}
        sums.append(math.fsum(math.exp(top[t]) for t in tokens))
    return sums[0] / sum(sums) if sum(sums) > 0 else None


def _begins(token: str, words: set[str]) -> bool:
    return bool(token.strip()) and any(word.startswith(token.strip()) for word in words)


def from_text(text: str, yes: set[str], no: set[str]) -> float | None:
    """1 where only yes is said, 0 where only no is said, else None."""
    said = set(re.findall(r"\w+", text))
    both = bool(said & yes), bool(said & no)
    return None if both[0] == both[1] else float(both[0])


def without_key(text: str, limit: int = 200) -> str:
    """Return what a server said on one line, at most `limit` characters, without the key."""
    key = os.environ.get(KEY_VARIABLE)
    text = " ".join((text.replace(key, "***") if key else text).split())
    return text if len(text) <= limit else text[:limit] + "..."


def checked_address(url: str) -> str:
    """Return the address.

    Raises:
        UserError: when it is none, or holds a password or a query.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.username or parts.password or parts.query:
        raise UserError(
            "llm_backend is an address with a user, a password or a query in it, and parameters "
            f"are recorded with the run; put the key into the environment variable {KEY_VARIABLE}"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"llm_backend is {url!r}; it should look like http://localhost:8000/v1")
    return url
