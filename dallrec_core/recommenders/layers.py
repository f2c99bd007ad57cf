"""Building blocks that several backbones share."""

from __future__ import annotations

import torch
from torch import Tensor


def dropout(hidden: Tensor, share: float, training: bool) -> Tensor:
    """Set a share of `hidden` (any shape) to zero and scale the rest up, in training only.

    On a CPU `torch.nn.functional.dropout` spends most of its time on random numbers. One random
    byte per entry is a seventh of that; `share` is rounded to a multiple of 1/256.

    Args:
        hidden: float32.
        share: in [0, 1).
        training: without it `hidden` is returned as it is.
    """
    dropped = round(share * 256)
    if not training or not dropped:
        return hidden
    words = torch.empty(-(-hidden.numel() // 8), dtype=torch.int64, device=hidden.device)
    random = words.random_(-(2**63), None).view(torch.uint8)[: hidden.numel()].view(hidden.shape)
    return hidden * (random >= dropped) * (256 / (256 - dropped))
