"""The stand-in's network and the packing of many questions into one training sequence.

A packed row is one shared history followed by several questions that cannot see each other:
each question sees the history and itself, and its positions continue from the history's end.
So one row of about 500 tokens trains sixteen prompts exactly as they appear at inference.
Plain documents are packed the same way without a shared part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional
from transformers import LlamaConfig, LlamaForCausalLM

IGNORED = -100
"""Label of the positions that carry no loss."""


@dataclass(frozen=True)
class Piece:
    """A run of tokens and the labels of the tokens themselves (`IGNORED` where not learnt)."""

    tokens: list[int]
    learnt: list[bool]


@dataclass(frozen=True)
class Row:
    """One packed row: a shared part (may be empty) and the pieces that follow it."""

    shared: list[int]
    pieces: list[Piece]


@dataclass(frozen=True)
class Batch:
    """Tensors of one step: tokens, positions, labels `[B, T]` and the mask `[B, 1, T, T]`."""

    tokens: torch.Tensor
    positions: torch.Tensor
    labels: torch.Tensor
    mask: torch.Tensor


def make_model(
    vocabulary: int,
    *,
    width: int,
    layers: int,
    heads: int,
    hidden: int,
    pad: int,
    end: int,
    seed: int,
) -> LlamaForCausalLM:
    """A small Llama whose attention starts out looking for equal words.

    The key projection starts equal to the query projection, both N(0, 1/width), so that a token
    attends to its own earlier occurrences from the first step; without it the in-prompt matching
    of genres hardly starts. Theta 1e6 keeps that match independent of the distance.
    """
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        pad_token_id=pad,
        bos_token_id=None,
        eos_token_id=end,
        initializer_range=width**-0.5,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for layer in model.model.layers:
            attention = layer.self_attn
            attention.k_proj.weight.copy_(attention.q_proj.weight)
            for out in (attention.o_proj, layer.mlp.down_proj):
                out.weight.mul_((2 * layers) ** -0.5)
    return model


def pack(rows: Sequence[Row], pad: int) -> Batch:
    """Lay `rows` out as one batch, padded to the longest."""
    lengths = [len(r.shared) + sum(len(p.tokens) for p in r.pieces) for r in rows]
    shape = (len(rows), max(lengths))
    tokens = np.full(shape, pad, dtype=np.int64)
    positions = np.zeros(shape, dtype=np.int64)
    labels = np.full(shape, IGNORED, dtype=np.int64)
    segment = np.full(shape, -1, dtype=np.int16)
    for i, row in enumerate(rows):
        at = start = len(row.shared)
        tokens[i, :at], positions[i, :at], segment[i, :at] = row.shared, np.arange(at), 0
        for k, piece in enumerate(row.pieces, start=1):
            end = at + len(piece.tokens)
            tokens[i, at:end] = piece.tokens
            positions[i, at:end] = np.arange(start, start + end - at)
            segment[i, at:end] = k
            # The label of a position is the token after it.
            learnt = np.flatnonzero(piece.learnt)
            learnt = learnt[learnt > 0]
            labels[i, at + learnt - 1] = np.asarray(piece.tokens)[learnt]
            at = end
    seg = torch.from_numpy(segment)
    seen = (seg[:, :, None] == seg[:, None, :]) | (seg[:, None, :] == 0)
    seen &= torch.ones(shape[1], shape[1], dtype=torch.bool).tril()
    return Batch(
        torch.from_numpy(tokens),
        torch.from_numpy(positions),
        torch.from_numpy(labels),
        seen[:, None],
    )


def batch_loss(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    """Mean cross-entropy over the learnt positions (the head runs on those only)."""
    hidden = model.model(
        input_ids=batch.tokens,
        position_ids=batch.positions,
        attention_mask=batch.mask,
        use_cache=False,
    ).last_hidden_state
    wanted = batch.labels != IGNORED
    logits = functional.linear(hidden[wanted], model.lm_head.weight)
    return functional.cross_entropy(logits, batch.labels[wanted])
