"""Texts as vectors: the mean of a transformer's last hidden states over the tokens of a text.

The transformer is an encoder (BERT and its kin, as `AutoModel` opens them) or a causal language
model itself. Its checkpoint is opened as those of language models are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from dallrec_core.chain.progress import progress
from dallrec_core.llm.checkpoints import explained, find_checkpoint, open_weights
from dallrec_core.llm.load import LanguageModel, pick_device, quiet
from dallrec_core.llm.packing import Group, batches, pad


class TextEncoder(NamedTuple):
    """A transformer that turns texts into vectors."""

    model: PreTrainedModel
    """Gives `last_hidden_state` [B, T, d]; in evaluation mode."""
    tokenizer: PreTrainedTokenizerBase
    max_tokens: int
    """Longest text, in tokens; the rest of a longer one is cut off and counted."""
    skip: int | None
    """Token id that is left out of the mean; None for none."""


def load_encoder(name: str) -> TextEncoder:
    """Load a text encoder in float32, on the machine's best device.

    Args:
        name: folder, or Hugging Face id such as `sentence-transformers/all-MiniLM-L6-v2`.

    Raises:
        UserError: when there is no such model, or it cannot be loaded.
    """
    checkpoint = find_checkpoint(name)
    with quiet(), explained(f"encoder '{name}' cannot be loaded from {checkpoint.folder}"):
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder, trust_remote_code=False)
        model = open_weights(AutoModel, checkpoint.folder, dtype=torch.float32)
        model = model.to(pick_device()).eval()
    return TextEncoder(model, tokenizer, _room(model, tokenizer), None)


def of_language_model(lm: LanguageModel) -> TextEncoder:
    """Read texts with a causal language model, without any instruction around them.

    A token that begins every text is left out of the mean: it sees nothing but itself, so it is the
    same for all texts, and in large models it is much longer than the others.
    """
    inner: Any = lm.model.base_model
    return TextEncoder(inner, lm.tokenizer, lm.max_tokens, lm.tokenizer.bos_token_id)


def _room(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    places = getattr(model.config, "max_position_embeddings", None) or 1 << 30
    padding = getattr(getattr(model, "embeddings", None), "padding_idx", None)
    if padding is not None:
        places -= padding + 1  # RoBERTa and its kin count positions from there
    return int(min(places, tokenizer.model_max_length))


def mean_states(
    encoder: TextEncoder, texts: Sequence[str], *, batch_tokens: int = 16384
) -> tuple[np.ndarray, int]:
    """Return the mean last hidden state of each text, and how many texts were cut off.

    Padding takes no part: the result does not depend on which texts share a batch (to 1e-5).

    Args:
        encoder: from `load_encoder` or `of_language_model`.
        texts: `[n]`.
        batch_tokens: rows x tokens per row of one forward pass, the bound on memory.

    Returns:
        float32 `[n, d]` (zeros for a text without tokens), and a count.
    """
    rows, cut = _tokens(encoder, list(texts))
    width = int(encoder.model.config.get_text_config().hidden_size)
    vectors = np.zeros((len(texts), width), np.float32)
    alone = [Group((), [(i, row)]) for i, row in enumerate(rows) if row]
    for batch in progress(list(batches(alone, batch_tokens)), desc="encoding", unit="batches"):
        vectors[[group.rows[0][0] for group in batch]] = _means(encoder, batch)
    return vectors, cut


def _tokens(encoder: TextEncoder, texts: list[str]) -> tuple[list[list[int]], int]:
    """Token ids of each text, and how many texts were longer than the model can read."""
    if not texts:
        return [], 0
    with quiet():
        whole = encoder.tokenizer(texts)["input_ids"]
        # cut by the tokenizer, which keeps the tokens that have to end a text
        rows = encoder.tokenizer(texts, truncation=True, max_length=encoder.max_tokens)["input_ids"]
    return rows, sum(len(a) > len(b) for a, b in zip(whole, rows, strict=True))


@torch.inference_mode()
def _means(encoder: TextEncoder, batch: list[Group]) -> np.ndarray:
    rows = [group.tokens for group in batch]
    device = encoder.model.device
    ids = pad(rows, encoder.tokenizer.pad_token_id or 0, device=device)
    real = pad([[1] * len(row) for row in rows], 0, device=device)
    states = encoder.model(input_ids=ids, attention_mask=real).last_hidden_state
    counted = real.clone()
    if encoder.skip is not None:
        counted[:, 0] = (ids[:, 0] != encoder.skip) | (real.sum(dim=1) == 1)
    sums = (states.float() * counted[:, :, None]).sum(dim=1)
    return (sums / counted.sum(dim=1, keepdim=True)).cpu().numpy()
