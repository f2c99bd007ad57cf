"""Load a causal language model by name, hub id or folder, and put questions into its format.

Any checkpoint that `AutoModelForCausalLM` opens will do. Code from checkpoints is never run and
pickled weights are never opened. Hub models are downloaded as a snapshot of one commit and then
treated as a local folder. Device and number format are chosen for the machine.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as hf_logging

from dallrec_core.errors import UserError
from dallrec_core.llm import checkpoints
from dallrec_core.llm.served import ServedModel, connect

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
    checkpoint: checkpoints.Checkpoint
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
        if not rendered:
            return []
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
        name: bundled name (`standin`), `smollm2`, folder, GGUF file, or Hugging Face id.
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
    number = _pick_dtype(dtype, place)
    files = checkpoints.find_checkpoint(name, revision)
    adapter_hash = checkpoints.adapter_identity(Path(adapter), files) if adapter else ""
    with quiet(), checkpoints.explained(f"model '{name}' cannot be loaded from {files.folder}"):
        tokenizer = AutoTokenizer.from_pretrained(files.folder, trust_remote_code=False)
        model = checkpoints.open_causal(files.folder, place, number, quantize)
    if adapter:
        # Merging saves two products per layer; below float32 it would round the adapter away.
        merge = number == torch.float32 and quantize == "none"
        with quiet(), checkpoints.explained(f"adapter {adapter} cannot be put on model '{name}'"):
            model = checkpoints.with_adapter(model, Path(adapter), merge=merge)
    model.eval()
    identity = json.dumps([files.identity, str(number), quantize, adapter_hash])
    fingerprint = hashlib.sha256(identity.encode()).hexdigest()
    return LanguageModel(
        model, tokenizer, name, files.revision, place, number, quantize, files, fingerprint
    )


def processes() -> PartialState:
    """Return what accelerate knows of this process and of those that were started beside it.

    Where `accelerate launch` or `torchrun` started several, each asks its share of the batches and
    receives all answers, and all train one adapter together. One that is done waits up to a day.
    """
    return PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=1))


def pick_device(device: str = "auto") -> torch.device:
    """Return the device of that name: for `auto` cuda, else mps, else cpu."""
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return processes().device  # of several processes on a machine, each has its own
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    if dtype != "auto":
        return getattr(torch, dtype)
    if device.type != "cuda":
        return torch.float32
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float16


# ---------------------------------------------------------------- prompts


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


def tokenize(
    lm: LanguageModel, texts: Sequence[str], positions: Sequence[int], *, answer: int = 0
) -> dict[int, list[int]]:
    """Render and tokenize the prompts at `positions`; token ids by position.

    Args:
        lm: the model whose template and tokenizer are used.
        texts: all prompts.
        positions: those that are wanted.
        answer: tokens that must still fit behind a prompt.

    Raises:
        UserError: when one leaves no room for `answer` more tokens.
    """
    rows = dict(zip(positions, lm.encode([render(lm, texts[i]) for i in positions]), strict=True))
    most = lm.max_tokens
    for position, tokens in rows.items():
        if len(tokens) + answer > most:
            raise UserError(
                f"prompt {position + 1} of {len(texts)} is too long for model '{lm.name}': "
                f"{len(tokens)} tokens and {answer} for the answer, where {most} fit; "
                f"shorten it (fewer history items): {texts[position][:60]!r}..."
            )
    return rows


# ---------------------------------------------------------------- helpers


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


def open_model(
    chosen: Mapping[str, Any], task: str, adapter: Path | None, llm_backend: str = ""
) -> LanguageModel | ServedModel:
    """Load the chosen model with its adapter, or connect to the server that has it.

    Args:
        chosen: `language_model`, `revision`, `quantize` and `dtype`, as page 2 noted them; and its
            `llm_backend`, if it asked a served model, which then has no adapters.
        task: name of the adapter's task. A server that lists a model of this name (vLLM:
            `--lora-modules`) is asked for it, any other for `language_model`.
        adapter: folder of the adapter, for a model that is loaded here.
        llm_backend: address of a server; empty for that of page 2, if any.

    Raises:
        UserError: as `load` and `served.connect` do.
    """
    name, revision = chosen["language_model"], chosen["revision"]
    address = llm_backend or chosen.get("llm_backend", "")
    if not address:
        how = {"quantize": chosen["quantize"], "dtype": chosen["dtype"]}
        return load(name, adapter=adapter, revision=revision or None, **how)
    lm = connect(address, [task, name] if llm_backend else [name], revision=revision)
    source = "log-probabilities" if lm.logprobs else "the text: 1 or 0"
    _say_once(f"asking '{lm.name}' at {address}; p(yes) is read from {source}")
    return lm


_say_once = cache(print)
"""Prints each different line once: a page opens its model many times."""
