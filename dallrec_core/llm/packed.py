"""One forward pass over packed rows: the logits after every question's last token.

Behind a prefix, a mask hides a question's neighbours. The last layer needs the keys and values of
all tokens, but only the queries that are read: at the ends of questions. The rest of that layer is
not computed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import accumulate
from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from dallrec_core.llm.batching import Group
from dallrec_core.llm.models import LanguageModel, head_on


@torch.inference_mode()
def last_logits(lm: LanguageModel, batch: list[Group]) -> torch.Tensor:
    """Float32 logits `[questions, vocabulary]` after the last token of every question.

    A group is one row: its questions stand behind one another. Rows are padded on the right: with
    causal attention no real token ever sees a later one, so results do not depend on the batch.
    """
    ids = _pad(lm, [[t for _, tokens in group.rows for t in tokens] for group in batch], lm.pad_id)
    sizes = [[len(tokens) for _, tokens in group.rows] for group in batch]
    ends = [[end - 1 for end in accumulate(each)] for each in sizes]
    past = _prefixes(lm, batch) if batch[0].prefix else None
    options = {"use_cache": False} if past is None else _behind(lm, batch, sizes, ids, past)
    with _only_at(lm, ends, past):
        return lm.model(input_ids=ids, **options).logits[:, 0].float()


def _prefixes(lm: LanguageModel, batch: list[Group]) -> Cache:
    """Keys and values of the rows' prefixes; each is read once, whatever the number of its rows."""
    number = {prefix: i for i, prefix in enumerate(dict.fromkeys(g.prefix for g in batch))}
    past = DynamicCache(config=lm.model.config)
    if _last_layer(lm):
        past.layers[-1] = _LastLayer()
    with _only_at(lm, [[0]] * len(number), past):
        lm.model(input_ids=_pad(lm, number, lm.pad_id), past_key_values=past, use_cache=True)
    if len(number) < len(batch):
        owner = torch.tensor([number[group.prefix] for group in batch], device=lm.device)
        past.batch_select_indices(owner)
    return past


def _behind(
    lm: LanguageModel,
    batch: list[Group],
    sizes: list[list[int]],
    ids: torch.Tensor,
    past: Cache,
) -> dict[str, Any]:
    """What the model needs to read rows `ids` `[B, W]` behind their prefixes.

    A question sees the prefix and itself, not its neighbours in the row, and counts its positions
    from the prefix on.
    """
    own = _pad(lm, [[i for i, n in enumerate(each) for _ in range(n)] for each in sizes], -1)
    place = _pad(lm, [[i for n in each for i in range(n)] for each in sizes], 0)
    causal = torch.ones(2 * ids.shape[1:], dtype=torch.bool, device=ids.device).tril()
    start = torch.tensor([[len(group.prefix)] for group in batch], device=ids.device)
    real = (torch.arange(past.get_seq_length(), device=ids.device) < start)[:, None]
    alike = (own[:, :, None] == own[:, None]) & causal
    low = torch.finfo(lm.dtype).min
    mask = torch.cat([torch.where(real, 0.0, low).expand(-1, ids.shape[1], -1),
                      torch.where(alike, 0.0, low)], dim=-1).to(lm.dtype)  # fmt: skip
    return {"past_key_values": past, "attention_mask": mask[:, None], "position_ids": start + place}


class _Stored(Exception):  # noqa: N818
    """No error: keys and values are stored, and the rest of this call is not needed."""


class _LastLayer(DynamicLayer):
    """Keys and values of the last layer, which is called twice: for all tokens, then for a few."""

    stored = False

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store what the first call brings and end that call; show all that to the second."""
        self.stored = not self.stored
        if self.stored:
            super().update(key_states, value_states, *args, **kwargs)
            raise _Stored
        assert self.keys is not None and self.values is not None
        return self.keys, self.values


def _last_layer(lm: LanguageModel) -> torch.nn.Module | None:
    """The decoder's last layer, if it is called with what `_only_at` changes."""
    layers = getattr(lm.model.get_decoder(), "layers", None)  # type: ignore[operator]
    if layers is None:
        return None
    needed = {"attention_mask", "position_embeddings", "past_key_values"}
    takes = inspect.signature(layers[-1].forward).parameters.keys()
    return layers[-1] if needed <= takes else None


@contextmanager
def _only_at(lm: LanguageModel, ends: list[list[int]], past: Cache | None) -> Iterator[None]:
    """Show only the `ends` of each row to the output layer and, where possible, to the last one."""
    layer = _last_layer(lm) if past is not None else None
    if layer is None:
        with head_on(lm.model, _at([(row, end) for row, each in enumerate(ends) for end in each])):
            yield
        return
    at = _pad(lm, ends, 0)
    rows = torch.arange(len(ends), device=at.device)[:, None]

    def shorten(layer: torch.nn.Module, args: Any, options: dict[str, Any]) -> Any:
        with suppress(_Stored):
            layer.forward(*args, **options)
        mask, angles = options["attention_mask"], options["position_embeddings"]
        few = {
            "attention_mask": None if mask is None else mask[rows, :, at].transpose(1, 2),
            "position_embeddings": [a.expand(len(ends), -1, -1)[rows, at] for a in angles],
        }
        return (args[0][rows, at], *args[1:]), options | few

    handle = layer.register_forward_pre_hook(shorten, with_kwargs=True)
    places = [(row, place) for row, each in enumerate(ends) for place in range(len(each))]
    try:
        with head_on(lm.model, _at(places)):
            yield
    finally:
        handle.remove()


def _pad(lm: LanguageModel, rows: Collection[Sequence[int]], fill: int) -> torch.Tensor:
    """Rows padded on the right with `fill`: `[B, T]`."""
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows], device=lm.device)


def _at(places: Sequence[tuple[int, int]]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Selects the hidden states at (row, position): `[B, T, d]` -> `[places, 1, d]`."""
    rows, positions = torch.tensor(places).T

    def select(hidden: torch.Tensor) -> torch.Tensor:
        return hidden[rows.to(hidden.device), positions.to(hidden.device)].unsqueeze(1)

    return select
