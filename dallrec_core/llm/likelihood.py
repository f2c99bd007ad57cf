"""How likely is an answer? Log-likelihoods of given answers, for probing what a model knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from dallrec_core.errors import UserError
from dallrec_core.llm.cache import AnswerCache, ask_once
from dallrec_core.llm.examples import IGNORED, Collate, encode_examples
from dallrec_core.llm.ledger import usage
from dallrec_core.llm.load import LanguageModel, head_on, quiet
from dallrec_core.llm.processes import own


def log_likelihood(
    lm: LanguageModel,
    questions: Sequence[tuple[str, str]],
    *,
    cache: AnswerCache | None = None,
    batch_size: int = 32,
) -> np.ndarray:
    """Return the log-likelihood of answers to instructions, their end included.

    Args:
        lm: a model that is loaded here.
        questions: `[n]` pairs of instruction and answer.
        cache: where results are kept; pairs found there are not computed.
        batch_size: pairs per forward pass.

    Returns:
        `[n]` float32, natural logarithms, summed over the answer's tokens and its end token.

    Raises:
        UserError: when a pair is too long for the model, or memory ends.
    """
    texts = [f"{question}\n\n{answer}" for question, answer in questions]
    records = [{"instruction": question, "output": answer} for question, answer in questions]
    counts = usage()

    def compute(unique: list[int], missing: set[int]) -> Iterator[dict[int, float]]:
        rows = encode_examples(lm, [records[i] for i in unique], 0, "probe")
        tokens = [(i, row["input_ids"]) for i, row in zip(unique, rows, strict=True)]
        counts.plan(tokens, missing, len(missing))
        order = sorted(range(len(rows)), key=lambda place: -len(rows[place]["input_ids"]))
        for start in own(range(0, len(order), batch_size)):
            batch = [p for p in order[start : start + batch_size] if unique[p] in missing]
            if not batch:
                continue
            found = _sums(lm, Collate(lm.pad_id)([rows[place] for place in batch]))
            counts.tokens_in += sum(len(rows[place]["input_ids"]) for place in batch)
            counts.done += len(batch)
            yield dict(zip((unique[place] for place in batch), found, strict=True))

    with quiet():
        settings = {"task": "log_likelihood"}
        found = ask_once(texts, lm.fingerprint, settings, cache, compute, desc="probing")
    return np.asarray(found, dtype=np.float32)


@torch.inference_mode()
def _sums(lm: LanguageModel, batch: dict[str, torch.Tensor]) -> list[float]:
    """Sum the log-probabilities of the labelled tokens of each row; logits exist only there."""
    labels = batch["labels"][:, 1:].to(lm.device)
    learnt = labels != IGNORED
    inputs = {name: batch[name].to(lm.device) for name in ("input_ids", "attention_mask")}
    try:
        with head_on(lm.model, lambda hidden: hidden[:, :-1][learnt].unsqueeze(0)):
            logits = lm.model(**inputs, use_cache=False).logits[0].float()
    except torch.OutOfMemoryError as error:
        raise UserError("the device's memory is full; lower batch_size") from error
    each = torch.zeros(labels.shape, device=lm.device)
    each[learnt] = -torch.nn.functional.cross_entropy(logits, labels[learnt], reduction="none")
    return [float(value) for value in each.sum(dim=1)]
