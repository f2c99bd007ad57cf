"""Which device, number format and quantisation this machine can use."""

from __future__ import annotations

import os
from typing import Any

import torch

from dallrec_core.errors import UserError

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
"""Number formats by name."""

QUANTIZE = ("none", "4bit")
"""How weights may be stored."""


def pick_device(device: str = "auto") -> torch.device:
    """Return the device to use: the best one for `auto`.

    Raises:
        UserError: when the named device is unknown or absent on this machine.
    """
    if device == "auto":
        if torch.cuda.is_available():
            # set by accelerate and torchrun: which of this machine's processes this one is
            own = os.environ.get("LOCAL_RANK")
            return torch.device(f"cuda:{int(own) % torch.cuda.device_count()}" if own else "cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(
            f"device '{device}' is not available on this machine ({first_line(error)}); "
            "use 'auto' or 'cpu'"
        ) from error
    return place


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """Return the number format to use on `device`.

    Raises:
        UserError: for an unknown name.
    """
    if dtype == "auto":
        if device.type != "cuda":
            return torch.float32
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    if dtype not in DTYPES:
        raise UserError(f"dtype '{dtype}' is unknown; use one of: auto, {', '.join(DTYPES)}")
    return DTYPES[dtype]


def check_quantize(quantize: str, device: torch.device) -> None:
    """Refuse a quantisation that is unknown or cannot run on `device`.

    Raises:
        UserError: saying what is missing.
    """
    if quantize not in QUANTIZE:
        raise UserError(f"quantize '{quantize}' is unknown; use one of: {', '.join(QUANTIZE)}")
    if quantize == "none":
        return
    if device.type != "cuda":
        raise UserError(
            f"quantize '4bit' needs an NVIDIA GPU (CUDA), and the model would run on "
            f"'{device.type}' here; use quantize 'none' with a smaller model, or a GPU machine"
        )
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        what = "quantize '4bit' needs bitsandbytes: pip install 'dallrec-core[gpu]'"
        raise UserError(what) from error


def first_line(error: BaseException, limit: int = 300) -> str:
    """What an error's message says first, or the error's class where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    said = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return said[:limit]


def four_bit(dtype: torch.dtype) -> Any:
    """Return the bitsandbytes settings of QLoRA: NF4, quantised twice, computing in `dtype`."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
