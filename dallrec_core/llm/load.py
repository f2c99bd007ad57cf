"""Load a causal language model by name, hub id or folder, and put questions into its format.

Any checkpoint that `AutoModelForCausalLM` opens will do. Code from checkpoints is never run and
pickled weights are never opened. Hub models are downloaded as a snapshot of one commit and then
treated as a local folder. Device and number format are chosen for the machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as hf_logging

from dallrec_core.chain.artefacts import read_json, sha256
from dallrec_core.errors import UserError

BUNDLED: dict[str, Path] = {"standin": Path(__file__).with_name("standin")}
"""Models shipped inside the package, by name."""

ADAPTER_RECORD = "finetune.json"
"""File beside an adapter that says which base model it was trained on and how."""

_ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately "
    "completes the request.\n\n### Instruction:\n{instruction}\n\n### Response:\n"
)


# ---------------------------------------------------------------- files


@dataclass(frozen=True)
class Checkpoint:
    """A model folder and the identity of its weights."""

    name: str
    """Name as the user gave it."""
    folder: Path
    """Folder that holds config, tokenizer and weights."""
    revision: str
    """Commit of a hub model, else the first twelve digits of the files' hash."""
    identity: str
    """`sha256:<hash of the files>` or `hub:<id>@<commit>`."""


def find_checkpoint(name: str, revision: str | None = None) -> Checkpoint:
    """Find the files of model `name`, downloading them when it is a hub id.

    Args:
        name: a bundled name, a folder, or a Hugging Face id such as `Qwen/Qwen2.5-1.5B-Instruct`.
        revision: branch, tag or commit of a hub model; empty for the newest.

    Raises:
        UserError: when nothing of that name exists.
    """
    folder = BUNDLED.get(name, Path(name).expanduser())
    if not folder.is_dir() or not name:
        folder = _download(name, revision)
        return Checkpoint(name, folder, folder.name, f"hub:{name}@{folder.name}")
    if revision:
        raise UserError(
            f"model '{name}' is a folder on this machine, so revision '{revision}' means nothing; "
            "leave the revision empty, or give a Hugging Face id"
        )
    kinds = {".safetensors", ".json", ".jinja", ".model", ".txt"}
    files = sorted(p for p in folder.iterdir() if p.suffix in kinds and p.is_file())
    digest = hashlib.sha256("".join(p.name + _hash(p) for p in files).encode()).hexdigest()
    return Checkpoint(name, folder, digest[:12], f"sha256:{digest}")


def _hash(path: Path) -> str:
    stat = path.stat()
    return _hash_once(path.resolve(), stat.st_size, stat.st_mtime_ns)


@cache
def _hash_once(path: Path, size: int, modified: int) -> str:
    return sha256(path)  # weights may be gigabytes


def _download(name: str, revision: str | None) -> Path:
    import httpx
    from huggingface_hub import errors, snapshot_download

    try:
        folder = snapshot_download(
            name,
            revision=revision or None,
            allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"],
            ignore_patterns=["*/*", "consolidated*"],
        )
    except errors.GatedRepoError as error:
        raise UserError(
            f"model '{name}' is gated: accept its licence at https://huggingface.co/{name}, then "
            "log in with `hf auth login` (or set HF_TOKEN)"
        ) from error
    except (errors.HFValidationError, errors.HfHubHTTPError, httpx.HTTPError, OSError) as error:
        at = f" (revision '{revision}')" if revision else ""
        raise UserError(
            f"model '{name}'{at} is neither bundled ({', '.join(BUNDLED)}), nor a folder here, nor "
            f"to be had from the Hugging Face hub: {first_line(error).split('. ')[0]}. Check the "
            f"name and the network, log in with `hf auth login` if it is private, or fetch it "
            f"elsewhere with `hf download {name}` and give the folder"
        ) from error
    return Path(folder)


def adapter_identity(folder: Path, base: Checkpoint) -> str:
    """Check that `folder` is a safetensors LoRA adapter made for `base` and return its hash.

    Raises:
        UserError: when it is missing, incomplete, pickled, or was made for another model.
    """
    config, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    if not config.is_file() or not weights.is_file():
        raise UserError(
            f"adapter {folder} lacks {config.name} or {weights.name} (pickled adapters are "
            "refused); run the fine-tuning notebook first"
        )
    content = read_json(config)
    _check_base(folder, str(content.get("base_model_name_or_path") or ""), base)
    scaling = ("peft_type", "r", "lora_alpha", "use_rslora", "alpha_pattern", "rank_pattern")
    steady = json.dumps({name: content.get(name) for name in scaling}, sort_keys=True)
    return hashlib.sha256((steady + _hash(weights)).encode()).hexdigest()


def _check_base(folder: Path, named: str, base: Checkpoint) -> None:
    """Refuse an adapter of another model; PEFT would put it on any with layers of that shape."""
    record = folder / ADAPTER_RECORD
    trained_on = read_json(record).get("base", {}) if record.exists() else {}
    identity, name = trained_on.get("identity", ""), trained_on.get("name", named)
    # A hub model and a copy of it in a folder have identities of different kinds: not comparable.
    if identity.split(":")[0] == base.identity.split(":")[0]:
        differs = identity != base.identity
    else:
        differs = "/" in named and base.identity.startswith("hub:") and named != base.name
    if differs:
        raise UserError(
            f"adapter {folder} was trained on '{name}', not on '{base.name}' as it is here "
            f"({base.revision}); load that model or fine-tune again"
        )


# ---------------------------------------------------------------- models


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
    number = _pick_dtype(dtype, place)
    checkpoint = find_checkpoint(name, revision)
    adapter_hash = adapter_identity(Path(adapter), checkpoint) if adapter else ""
    with quiet(), explained(f"model '{name}' cannot be loaded from {checkpoint.folder}"):
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder, trust_remote_code=False)
        model = _open(checkpoint.folder, len(tokenizer), place, number, quantize)
    if adapter:
        # Merging saves two products per layer; below float32 it would round the adapter away.
        merge = number == torch.float32 and quantize == "none"
        with quiet(), explained(f"adapter {adapter} cannot be put on model '{name}'"):
            model = _with_adapter(model, Path(adapter), merge=merge)
    model.eval()
    identity = [checkpoint.identity, str(number), quantize, adapter_hash]
    fingerprint = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    return LanguageModel(
        model,
        tokenizer,
        name,
        checkpoint.revision,
        place,
        number,
        quantize,
        checkpoint,
        fingerprint,
    )


def pick_device(device: str = "auto") -> torch.device:
    """Return the device of that name: for `auto` cuda, else mps, else cpu."""
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        # set by accelerate and torchrun: which of this machine's processes this one is
        own = os.environ.get("LOCAL_RANK")
        return torch.device(f"cuda:{int(own) % torch.cuda.device_count()}" if own else "cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    if dtype != "auto":
        return getattr(torch, dtype)
    if device.type != "cuda":
        return torch.float32
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float16


def _open(
    folder: Path, tokens: int, device: torch.device, dtype: torch.dtype, quantize: str
) -> PreTrainedModel:
    options: dict[str, Any] = {} if device.type == "cpu" else {"device_map": {"": device}}
    if quantize == "4bit":  # QLoRA (Dettmers et al. 2023)
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        trust_remote_code=False,
        use_safetensors=True,
        output_loading_info=True,
        **options,
    )
    model, report = loaded
    # Transformers would carry on with the next three, and answers would be noise.
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(f"its files lack {len(missing)} weights, e.g. {missing[0]}")
    if "MaskedLM" in (model.config.architectures or [""])[0]:
        raise ValueError("it fills gaps and cannot continue a text; choose a causal language model")
    rows = model.get_input_embeddings().num_embeddings
    if tokens > rows:
        raise ValueError(f"its tokenizer has {tokens} tokens but the model only {rows}")
    return model


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
) -> list[tuple[int, list[int]]]:
    """Render and tokenize the prompts at `positions`: (position, token ids) of each.

    Args:
        lm: the model whose template and tokenizer are used.
        texts: all prompts.
        positions: those that are wanted.
        answer: tokens that must still fit behind a prompt.

    Raises:
        UserError: when one leaves no room for `answer` more tokens.
    """
    if not positions:
        return []
    rows = list(zip(positions, lm.encode([render(lm, texts[i]) for i in positions]), strict=True))
    most = lm.max_tokens
    for position, tokens in rows:
        if len(tokens) + answer > most:
            room = f" and {answer} for the answer" if answer else ""
            raise UserError(
                f"prompt {position + 1} of {len(texts)} is too long for model '{lm.name}': "
                f"{len(tokens)} tokens{room}, where {most} fit; shorten it (fewer history "
                f"items): {texts[position][:60]!r}..."
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


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn the many ways in which a foreign checkpoint can fail into one `UserError`."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        remedy = "use quantize '4bit' or a smaller model"
        raise UserError(f"{what}: not enough memory; {remedy}") from error
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ImportError,
            SafetensorError) as error:  # fmt: skip
        raise UserError(f"{what}: {first_line(error)}") from error


def first_line(error: BaseException, limit: int = 300) -> str:
    """What an error's message says first, or the error's class where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    said = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return said[:limit]


def open_model(
    chosen: Mapping[str, Any], task: str, adapter: Path | None, llm_backend: str = ""
) -> Any:
    """Load the chosen model with its adapter, or connect to the server that has it.

    Args:
        chosen: `language_model`, `revision` and `quantize`, as page 2 noted them; and its
            `llm_backend`, if it asked a served model, which then has no adapters.
        task: name of the adapter's task. A server that lists a model of this name (vLLM:
            `--lora-modules`) is asked for it, any other for `language_model`.
        adapter: folder of the adapter, for a model that is loaded here.
        llm_backend: address of a server; empty for that of page 2, if any.

    Returns:
        A `LanguageModel`, or a `served.ServedModel`.

    Raises:
        UserError: as `load` and `served.connect` do.
    """
    name, revision = chosen["language_model"], chosen["revision"]
    address = llm_backend or chosen.get("llm_backend", "")
    if not address:
        return load(name, adapter=adapter, quantize=chosen["quantize"], revision=revision or None)
    from dallrec_core.llm.served import connect

    lm = connect(address, [task, name] if llm_backend else [name], revision=revision)
    source = "log-probabilities" if lm.logprobs else "the text: 1 or 0"
    _say_once(f"asking '{lm.name}' at {address}; p(yes) is read from {source}")
    return lm


_say_once = cache(print)
"""Prints each different line once: a page opens its model many times."""
