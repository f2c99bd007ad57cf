"""Load a causal language model by name, hub id or folder, and put questions into its format.

Any checkpoint that `AutoModelForCausalLM` opens will do. Code from checkpoints is never run and
pickled weights are never opened. Device and number format are chosen for the machine.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as hf_logging

from dallrec_core.errors import UserError
from dallrec_core.llm.checkpoints import Checkpoint, check_adapter, resolve
from dallrec_core.llm.devices import check_quantize, first_line, four_bit, pick_device, pick_dtype

_LOAD_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError,
                SafetensorError)  # fmt: skip
_ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately "
    "completes the request.\n\n### Instruction:\n{instruction}\n\n### Response:\n"
)


@dataclass
class LanguageModel:
    """A loaded model with its tokenizer, and what identifies its answers."""

    model: PreTrainedModel
    """The causal language model, in evaluation mode (a PEFT model when an adapter stays apart)."""
    tokenizer: PreTrainedTokenizerBase
    name: str
    """Name as the user gave it."""
    revision: str
    """Commit of a hub model, else the start of the files' hash."""
    device: torch.device
    dtype: torch.dtype
    quantize: str
    """`none` or `4bit`."""
    checkpoint: Checkpoint
    """Files and identity of the base weights."""
    fingerprint: str
    """SHA-256 over weights' identity, number format, quantisation and adapter: the cache's key."""

    @property
    def max_tokens(self) -> int:
        """Longest sequence (prompt and answer, in tokens) that the model can read."""
        config = self.model.config.get_text_config()
        return int(getattr(config, "max_position_embeddings", None) or 1 << 30)

    @property
    def end_ids(self) -> set[int]:
        """Token ids that end an answer."""
        ids: Any = self.model.generation_config.eos_token_id
        ends = set(ids if isinstance(ids, list) else [ids])
        return {i for i in ends | {self.tokenizer.eos_token_id} if i is not None}

    @property
    def pad_id(self) -> int:
        """A token id to fill rows with (padding is always masked, so any will do)."""
        if self.tokenizer.pad_token_id is not None:
            return int(self.tokenizer.pad_token_id)
        return min(self.end_ids, default=0)

    def encode(self, rendered: Sequence[str]) -> list[list[int]]:
        """Token ids of rendered prompts (a chat template writes its own special tokens)."""
        special = not self.tokenizer.chat_template
        return self.tokenizer(list(rendered), add_special_tokens=special)["input_ids"]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids` without special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def encode_answer(self, answer: str) -> list[int]:
        """Token ids of `answer` as they follow a rendered prompt."""
        head = render(self, "x")
        before, whole = self.encode([head, head + answer])
        if whole[: len(before)] == before:
            return whole[len(before) :]
        return self.tokenizer(answer, add_special_tokens=False)["input_ids"]


def load(
    name: str = "standin",
    *,
    adapter: Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    quantize: str = "none",
    revision: str | None = None,
) -> LanguageModel:
    """Load a causal language model and, on top of it, a LoRA adapter.

    Args:
        name: bundled name (`standin`), folder, or Hugging Face id.
        adapter: folder of a LoRA adapter trained on this model.
        device: `auto` (cuda, else mps, else cpu) or a torch device such as `cuda:1`.
        dtype: `auto`, `float32`, `bfloat16` or `float16`. Auto is bfloat16 on CUDA devices that
            have it, float16 on older ones, float32 elsewhere.
        quantize: `4bit` loads NF4 weights through bitsandbytes (CUDA only).
        revision: branch, tag or commit of a hub model, to pin it.

    Raises:
        UserError: when the model, adapter, device or format does not exist or does not fit.
    """
    place = pick_device(device)
    number = pick_dtype(dtype, place)
    check_quantize(quantize, place)
    checkpoint = resolve(name, revision)
    adapter_hash = check_adapter(Path(adapter), checkpoint) if adapter else ""
    with quiet():
        with explained(f"model '{name}' cannot be loaded from {checkpoint.folder}"):
            tokenizer, model = _open(checkpoint, place, number, quantize)
        if adapter:
            with explained(f"adapter {adapter} cannot be put on model '{name}'"):
                model = _with_adapter(model, Path(adapter), merge=_can_merge(number, quantize))
    model.eval()
    identity = [checkpoint.identity, str(number), quantize, adapter_hash]
    fingerprint = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    return LanguageModel(model, tokenizer, name, checkpoint.revision, place, number, quantize,
                         checkpoint, fingerprint)  # fmt: skip


def render(lm: LanguageModel, instruction: str) -> str:
    """Put `instruction` into the model's chat template, or the Alpaca form where it has none."""
    if not lm.tokenizer.chat_template:
        return _ALPACA.format(instruction=instruction)
    # enable_thinking is read by reasoning models only: the answer must be the first token.
    rendered = lm.tokenizer.apply_chat_template(
        [{"role": "user", "content": instruction}],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=False,
    )
    return str(rendered)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' and peft's warnings and loading bars off the screen, then restore them."""
    verbosity, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()


@contextmanager
def head_on(
    model: torch.nn.Module, select: Callable[[torch.Tensor], torch.Tensor]
) -> Iterator[None]:
    """Show the output layer only the hidden states that `select` takes from `[B, T, d]`.

    Logits for a vocabulary of 100,000 at every position are most of the memory and, in small
    models, of the time; a few positions are wanted. A hook before the layer leaves whatever the
    model does after it (soft caps, scaling) in place.
    """

    def pick(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (select(inputs[0]), *inputs[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(pick)  # type: ignore[operator]
    try:
        yield
    finally:
        handle.remove()


def _open(
    checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype, quantize: str
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder, trust_remote_code=False)
    options: dict[str, Any] = {} if device.type == "cpu" else {"device_map": {"": device}}
    if quantize == "4bit":
        options["quantization_config"] = four_bit(dtype)
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        checkpoint.folder,
        dtype=dtype,
        trust_remote_code=False,
        use_safetensors=True,
        output_loading_info=True,
        **options,
    )
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        # Transformers would fill them with random numbers and carry on.
        raise ValueError(f"its files lack {len(missing)} weights, e.g. {missing[0]}")
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise ValueError(f"its tokenizer has {len(tokenizer)} tokens but the model only {rows}")
    return tokenizer, model


def _can_merge(dtype: torch.dtype, quantize: str) -> bool:
    """Merging saves two products per layer; below float32 it would round the adapter away."""
    return dtype == torch.float32 and quantize == "none"


def _with_adapter(model: PreTrainedModel, folder: Path, *, merge: bool) -> Any:
    from peft import PeftModel

    with warnings.catch_warnings():
        # PEFT only warns when weights are missing, and would go on with random ones.
        warnings.filterwarnings("error", message=".*missing adapter keys.*")
        try:
            tuned = PeftModel.from_pretrained(model, str(folder), autocast_adapter_dtype=False)
        except UserWarning as warning:
            raise ValueError("it was made for another model (weights are missing)") from warning
    return tuned.merge_and_unload() if merge else tuned


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn the many ways in which a foreign checkpoint can fail into one `UserError`."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(f"{what}: not enough memory; use quantize '4bit' or a smaller model") from (
            error
        )
    except _LOAD_ERRORS as error:
        reason = first_line(error)
        if "ignore_mismatched_sizes" in reason:
            reason = "config.json describes layers of other sizes than the weights have"
        raise UserError(f"{what}: {reason}") from error
