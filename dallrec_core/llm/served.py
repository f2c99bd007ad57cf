"""Ask a model behind an OpenAI-compatible address: vLLM, SGLang, `transformers serve`, and others.

`score.p_yes` and `generate.generate` take a `ServedModel` where they take a loaded one. The
server puts its chat template around each question and does the batching; here requests are sent
side by side, repeated with growing pauses when the server is busy or fails (by the `openai`
client), and every answer is kept the moment it arrives.

p(yes) needs the log-probabilities of the first token, which vLLM and SGLang return; words that are
not among the server's likeliest tokens (it tells twenty) count as impossible. `transformers serve`
5.23 ignores the wish for them: then the text decides, and p(yes) is 1 or 0, or NaN where it says
neither word.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product, takewhile
from typing import Any, NamedTuple

from joblib import Parallel, delayed

from dallrec_core.errors import UserError
from dallrec_core.llm.checkpoints import one_line
from dallrec_core.llm.ledger import usage

KEY_VARIABLE = "DALLREC_LLM_KEY"
"""Environment variable that holds the server's key, where it wants one."""

_THINKING_OFF = {"chat_template_kwargs": {"enable_thinking": False}}
_PATIENCE = 60.0  # seconds to wait for an answer


@dataclass(frozen=True)
class ServedModel:
    """A model behind an address; made by `connect`."""

    url: str
    """Address of the server, up to and including `/v1`."""
    name: str
    """Name by which the server knows the model."""
    revision: str
    """What the user says the model is; a server does not tell which weights it has."""
    logprobs: int
    """How many tokens it returns log-probabilities of; 0 when it returns none."""
    extra: dict[str, Any] = field(repr=False)
    """Fields of every request that not all servers understand."""
    client: Any = field(repr=False)
    """The `openai.OpenAI` client."""
    concurrency: int = 32
    """Requests under way at a time."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over address, name and revision: the cache's key, as of a loaded model."""
        identity = ["served", self.url, self.name, self.revision]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def connect(url: str, names: Sequence[str], *, revision: str = "") -> ServedModel:
    """Connect to a server and try it with one short question.

    The key is read from the environment variable `DALLREC_LLM_KEY` and goes nowhere else. A request
    is repeated four times after a timeout, a lost connection, or status 408, 409, 429 or 5xx, with
    pauses that double from half a second, or as the server asks.

    Args:
        url: such as `http://localhost:8000/v1`.
        names: the model's name at the server; of several, the first that the server lists, so that
            an adapter can be preferred to its base. If it lists none of them, the last.
        revision: part of the cache's key; change it when other weights are served by that name.

    Raises:
        UserError: when nothing answers at the address, the key is refused, or the server does not
            have the model.
    """
    try:
        import openai
    except ImportError as error:
        what = "a served model needs the openai client: pip install 'dallrec-core[serve]'"
        raise UserError(what) from error
    # always given, or the client would send OpenAI's own key to whatever server this is
    key = os.environ.get(KEY_VARIABLE) or "none"
    client = openai.OpenAI(base_url=url, api_key=key, timeout=_PATIENCE, max_retries=4)
    try:
        listed = {model.id for model in client.with_options(max_retries=0).models.list()}
    except Exception:  # a server need not list its models; the first question will tell
        listed = set()
    name = next((name for name in names if name in listed), names[-1])
    refusal: UserError
    for extra, n in product((_THINKING_OFF, {}), (20, 5, 0)):  # servers differ in what they know
        lm = ServedModel(url, name, revision, n, extra, client)
        try:
            answer = _request(lm, "Is water wet? Answer yes or no.", 1, logprobs=n)
            return lm if answer.top else replace(lm, logprobs=0)
        except _Refused as error:
            refusal = error
    raise refusal


def side_by_side(
    lm: ServedModel, texts: Sequence[str], positions: Iterable[int], max_tokens: int, logprobs: int
) -> Iterator[tuple[int, Answer]]:
    """Ask the questions at `positions` side by side; yield (position, answer) as they come.

    Args:
        lm: from `connect`.
        texts: all questions.
        positions: those to ask.
        max_tokens: longest answer, in tokens.
        logprobs: how many of the first token's log-probabilities are wanted; 0 for none.

    Raises:
        UserError: when a request fails for good, after the answers to those still under way.
    """
    failures: list[UserError] = []

    def ask(position: int) -> tuple[int, Answer | None]:
        try:
            answer = _request(lm, texts[position], max_tokens, logprobs=logprobs)
            if logprobs and not answer.top:
                raise UserError(_said(lm, "it left out the log-probabilities that it gave before."))
            return position, answer
        except UserError as error:
            failures.append(error)
            return position, None

    todo, counts = takewhile(lambda _: not failures, positions), usage()
    how = {"backend": "threading", "return_as": "generator_unordered", "pre_dispatch": "n_jobs"}
    for position, answer in Parallel(lm.concurrency, **how)(delayed(ask)(i) for i in todo):
        if answer is not None:
            counts.tokens_in += answer.read
            counts.tokens_out += answer.tokens
            yield position, answer
    if failures:
        raise failures[0]


# ---------------------------------------------------------------- requests


class _Refused(UserError):
    """The server does not accept the request as it stands; asking again would not help."""


def _request(lm: ServedModel, text: str, max_tokens: int, *, logprobs: int = 0) -> Answer:
    """Ask one question; every failure is a `UserError` that does not hold the key."""
    import openai

    options: dict[str, Any] = {"logprobs": True, "top_logprobs": logprobs} if logprobs else {}
    kind: type[UserError] = UserError
    try:
        answer = lm.client.chat.completions.create(
            model=lm.name,
            messages=[{"role": "user", "content": text}],
            max_tokens=max_tokens,
            temperature=0.0,
            extra_body=lm.extra,
            **options,
        )
        return read_answer(answer)
    except (openai.OpenAIError, ValueError) as error:
        if getattr(error, "status_code", 0) in (400, 404, 422):
            kind = _Refused
        body = getattr(error, "body", None)  # where not every server writes its message
        reason = without_key(f"{error}. {body or ''}")
    # without its cause, which holds the request and with it the key
    raise kind(_said(lm, reason)) from None


def _said(lm: ServedModel, what: str) -> str:
    return (
        f"the model server {lm.url} ('{lm.name}') failed: {what} Is llm_backend right, and the "
        "server at work? Finished answers are kept: run again, and only the rest is asked"
    )


# ---------------------------------------------------------------- what a server says


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
        ValueError: when it is not one.
    """
    try:
        choice = answer.choices[0]
        text, cut = choice.message.content or "", choice.finish_reason == "length"
        counts = ("prompt_tokens", "completion_tokens")
        read, tokens = (int(getattr(answer.usage, name, None) or 0) for name in counts)
        first = choice.logprobs.content[0].top_logprobs if choice.logprobs else []
        top = {each.token: float(each.logprob) for each in first}
    except (AttributeError, IndexError, TypeError) as error:
        raise ValueError(f"it sent what is no answer: {answer}") from error
    return Answer(text, read, tokens, cut, top)


def chance(answer: Answer, yes: set[str], no: set[str]) -> float | None:
    """`P(yes) / (P(yes) + P(no))`, each summed over the first tokens of its spellings.

    Where there are no log-probabilities the text decides. None where it says neither, or where no
    such token is among the likeliest.
    """
    if not answer.top:
        return from_text(answer.text, yes, no)
    sums = []
    for words, others in ((yes, no), (no, yes)):
        tokens = {t for t in answer.top if _begins(t, words) and not _begins(t, others)}
        sums.append(math.fsum(math.exp(answer.top[t]) for t in tokens))
    return sums[0] / sum(sums) if sum(sums) > 0 else None


def _begins(token: str, words: set[str]) -> bool:
    return bool(token.strip()) and any(word.startswith(token.strip()) for word in words)


def from_text(text: str, yes: set[str], no: set[str]) -> float | None:
    """1 where only yes is said, 0 where only no is said, else None."""
    said = set(re.findall(r"\w+", text))
    both = bool(said & yes), bool(said & no)
    return None if both[0] == both[1] else float(both[0])


def without_key(text: str) -> str:
    """Return what a server said on one short line, without the key."""
    key = os.environ.get(KEY_VARIABLE)
    return one_line(text.replace(key, "***") if key else text)
