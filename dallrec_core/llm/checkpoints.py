"""Where a model's files lie and which weights they are: bundled, a local folder, or the hub.

Hub models are downloaded as a snapshot of one commit and then treated as a local folder, so only
configuration, tokenizer and safetensors files ever reach the disk, never code and never pickles.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dallrec_core.artifacts import read_json, sha256
from dallrec_core.errors import UserError
from dallrec_core.llm.devices import first_line
from dallrec_core.progress import is_interactive

BUNDLED: dict[str, Path] = {"standin": Path(__file__).with_name("standin")}
"""Models shipped inside the package, by name."""

ADAPTER_RECORD = "finetune.json"
"""File beside an adapter that says which base model it was trained on and how."""

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model",
               "tekken.json")  # fmt: skip
_IDENTITY_SUFFIXES = {".safetensors", ".json", ".jinja", ".model", ".txt"}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_HASHES: dict[tuple[str, int, int], str] = {}


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


def resolve(name: str, revision: str | None = None, *, causal: bool = True) -> Checkpoint:
    """Find the files of model `name`, downloading them when it is a hub id.

    Args:
        name: a bundled name, a folder, or a Hugging Face id such as `Qwen/Qwen2.5-1.5B-Instruct`.
        revision: branch, tag or commit of a hub model; empty for the newest.
        causal: whether it has to be able to continue a text; text encoders need not.

    Raises:
        UserError: when nothing of that name exists, or it has no complete safetensors weights.
    """
    if not name.strip():
        raise UserError("the language model's name is empty; use 'standin', a folder or a hub id")
    if name in BUNDLED:
        return _local(name, BUNDLED[name], revision, causal)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _local(name, folder, revision, causal)
    if folder.exists() or not _HUB_ID.fullmatch(name) or name.startswith("."):
        raise UserError(
            f"model '{name}': there is no such folder. Give 'standin', a folder that holds "
            "config.json and *.safetensors, or a Hugging Face id like 'Qwen/Qwen2.5-1.5B-Instruct'"
        )
    return _from_hub(name, revision, causal)


def _local(name: str, folder: Path, revision: str | None, causal: bool) -> Checkpoint:
    if revision:
        raise UserError(
            f"model '{name}' is a folder on this machine, so revision '{revision}' means nothing; "
            "leave the revision empty, or give a Hugging Face id"
        )
    _check_files(name, folder, causal)
    files = sorted(p for p in folder.iterdir() if p.suffix in _IDENTITY_SUFFIXES and p.is_file())
    digest = hashlib.sha256("".join(p.name + _hash(p) for p in files).encode()).hexdigest()
    return Checkpoint(name, folder, digest[:12], f"sha256:{digest}")


def _hash(path: Path) -> str:
    """Hash a file once per process: weights may be gigabytes."""
    stat = path.stat()
    key = (str(path.resolve()), stat.st_size, stat.st_mtime_ns)
    if key not in _HASHES:
        _HASHES[key] = sha256(path)
    return _HASHES[key]


def _check_files(name: str, folder: Path, causal: bool) -> None:
    if (folder / "adapter_config.json").exists() and not (folder / "config.json").exists():
        raise UserError(
            f"model '{name}' is a LoRA adapter, not a model; load its base model and pass this "
            "folder as the adapter"
        )
    if not (folder / "config.json").exists():
        raise UserError(f"model '{name}': {folder} has no config.json, so it is no model folder")
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"model '{name}': {_no_weights(folder)}")
    if not any((folder / file).exists() for file in _TOKENIZERS):
        raise UserError(f"model '{name}': {folder} has no tokenizer ({', '.join(_TOKENIZERS)})")
    written_for = read_json(folder / "config.json").get("architectures") or [""]
    if causal and "MaskedLM" in written_for[0]:
        raise UserError(
            f"model '{name}' is a {written_for[0]}: it fills gaps and cannot continue a text; "
            "choose a causal language model"
        )
    index = folder / "model.safetensors.index.json"
    if index.exists():
        shards = set(read_json(index).get("weight_map", {}).values())
        missing = sorted(s for s in shards if not (folder / s).exists())
        if missing:
            raise UserError(
                f"model '{name}': {len(missing)} weight files are missing in {folder}, "
                f"e.g. {missing[0]}; download it again"
            )


def _no_weights(folder: Path) -> str:
    pickles = [p.name for pattern in _PICKLES for p in folder.glob(pattern)]
    if pickles:
        return (
            f"{folder} has only pickled weights ({pickles[0]}), which can run code when opened and "
            "are refused; save the model anew with save_pretrained, or choose one with "
            "*.safetensors"
        )
    return f"{folder} holds no *.safetensors weights (pickled ones are never loaded or downloaded)"


def _from_hub(name: str, revision: str | None, causal: bool) -> Checkpoint:
    folder = _download(name, revision)
    _check_files(name, folder, causal)
    return Checkpoint(name, folder, folder.name, f"hub:{name}@{folder.name}")


def _download(name: str, revision: str | None) -> Path:
    import httpx
    from huggingface_hub import errors, snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    if not is_interactive():
        disable_progress_bars()
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
    except errors.RevisionNotFoundError as error:
        raise UserError(f"model '{name}' has no revision '{revision}' on the hub") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"model '{name}' is neither bundled ({', '.join(BUNDLED)}), nor a folder, nor on the "
            "Hugging Face hub (or it is private: log in with `hf auth login`)"
        ) from error
    except (errors.HFValidationError, errors.EntryNotFoundError, httpx.HTTPError, OSError) as error:
        reason = first_line(error).split(". ")[0]
        raise UserError(
            f"model '{name}' is neither bundled ({', '.join(BUNDLED)}), nor a folder here, nor in "
            f"the Hugging Face cache, and the hub cannot be asked ({reason}). "
            f"Check the name, connect to the network, or fetch it elsewhere with `hf download "
            f"{name}` and give the folder"
        ) from error
    return Path(folder)


# ---------------------------------------------------------------- adapters


def check_adapter(folder: Path, base: Checkpoint) -> str:
    """Check that `folder` is a safetensors LoRA adapter for `base` and return its hash.

    Raises:
        UserError: when it is missing, incomplete, pickled, or was made for another model.
    """
    if not folder.is_dir():
        raise UserError(f"adapter {folder} does not exist; run the fine-tuning notebook first")
    config_file, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    if not config_file.exists():
        raise UserError(f"adapter {folder} has no adapter_config.json; fine-tune it again")
    config = read_json(config_file)
    if not isinstance(config, dict) or "peft_type" not in config:
        raise UserError(f"{config_file} is not a PEFT adapter configuration")
    if not weights.exists():
        raise UserError(
            f"adapter {folder} has no adapter_model.safetensors (pickled adapters are refused); "
            "fine-tune it again"
        )
    _check_base(folder, config, base)
    scaling = ("peft_type", "r", "lora_alpha", "use_rslora", "alpha_pattern", "rank_pattern")
    steady = json.dumps({k: config.get(k) for k in scaling}, sort_keys=True)
    return hashlib.sha256((steady + _hash(weights)).encode()).hexdigest()


def _check_base(folder: Path, config: dict[str, Any], base: Checkpoint) -> None:
    record = folder / ADAPTER_RECORD
    trained_on = read_json(record).get("base", {}) if record.exists() else {}
    identity, name = trained_on.get("identity", ""), trained_on.get("name", "")
    # A hub model and a copy of it in a folder have identities of different kinds: not comparable.
    if identity.split(":")[0] == base.identity.split(":")[0]:
        if identity != base.identity:
            raise UserError(
                f"adapter {folder} was trained on '{name}' revision {trained_on.get('revision')}, "
                f"not on '{base.name}' revision {base.revision}; load that model or fine-tune again"
            )
        return
    named = config.get("base_model_name_or_path") or ""
    both_ids = all("/" in n and _HUB_ID.fullmatch(n) for n in (named, base.name))
    if both_ids and named.lower() != base.name.lower():
        raise UserError(
            f"adapter {folder} was trained on '{named}', not on '{base.name}'; load that model or "
            "fine-tune again"
        )
