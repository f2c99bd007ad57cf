"""Adapter folders: what stands beside the weights, resuming, and moving them into place whole."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError

from dallrec_core.chain.artefacts import read_json, read_table, write_json, write_table
from dallrec_core.errors import UserError
from dallrec_core.llm.load import ADAPTER_RECORD, LanguageModel
from dallrec_core.llm.processes import place

_COMPLETE = "complete"  # marks a checkpoint that was written to its end
_LOCK = "lock"
_LOG_FILE = "training_log.parquet"
_FULL = 32 * 1024**2  # bytes free below which a failed write is blamed on the disk


def make_record(lm: LanguageModel, content: Mapping[str, Any], data: Any) -> dict[str, Any]:
    """Return what is written beside an adapter.

    Args:
        lm: the base model.
        content: task and settings (JSON values), readable by people.
        data: the examples (JSON values); only their hash is kept.

    Returns:
        A record whose `key` is equal for calls that ask for the same adapter.
    """
    base = {"name": lm.name, "revision": lm.revision, "identity": lm.checkpoint.identity}
    number = str(lm.dtype).removeprefix("torch.")
    record = {"base": base, "dtype": number, "quantize": lm.quantize, **content}
    text = json.dumps([record, data], sort_keys=True)
    return record | {"key": hashlib.sha256(text.encode()).hexdigest()}


def finished_log(out: Path, record: Mapping[str, Any]) -> pd.DataFrame | None:
    """The training log of the adapter in `out` when it was made by an equal call, else None."""
    wanted = (ADAPTER_RECORD, _LOG_FILE, "adapter_model.safetensors", "adapter_config.json")
    if not all((out / name).exists() for name in wanted):
        return None
    if read_json(out / ADAPTER_RECORD).get("key") != record["key"]:
        return None
    return read_table(out / _LOG_FILE, "training_log")


def workplace(out: Path, record: dict[str, Any]) -> Path:
    """Return the folder `<out>.partial`, emptied unless an equal call was interrupted in it."""
    partial = _partial(out)
    previous = partial / ADAPTER_RECORD
    if place()[0] or (previous.exists() and read_json(previous) == record):
        return partial
    for old in partial.iterdir():
        if old.name != _LOCK:
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    write_json(record, previous)
    return partial


def _partial(out: Path) -> Path:
    return out.with_name(out.name + ".partial")


def mark_complete(checkpoint: Path) -> None:
    """Note that every file of a checkpoint has been written."""
    (checkpoint / _COMPLETE).touch()


def last_checkpoint(partial: Path) -> str | None:
    """The newest checkpoint that was written to its end."""
    done = [p.parent for p in partial.glob(f"checkpoint-*/{_COMPLETE}")]
    return str(max(done, key=lambda p: int(p.name.split("-")[1]))) if done else None


def publish(
    model: Any, name: str, log: pd.DataFrame, record: dict[str, Any], partial: Path, out: Path
) -> None:
    """Write a finished adapter inside `partial`, then move it to `out` in one step.

    Args:
        model: the PEFT model.
        name: of the base model, as the user gave it.
        log: the training log, schema `training_log`.
        record: as made by `make_record`.
        partial: as made by `workplace`; it is removed.
        out: the adapter's folder; an older one is replaced.
    """
    final = partial / "final"
    # The folder of a bundled model differs between machines; its name does not.
    config = model.peft_config["default"]
    config.base_model_name_or_path, config.revision = name, None
    model.save_pretrained(str(final), save_embedding_layers=False)
    (final / "README.md").unlink(missing_ok=True)
    _sort_config(final / "adapter_config.json")
    write_table(log, final / _LOG_FILE, "training_log")
    write_json(record, final / ADAPTER_RECORD)
    if out.exists():
        shutil.rmtree(out)
    final.replace(out)
    shutil.rmtree(partial)


def _sort_config(path: Path) -> None:
    """PEFT writes sets in the order of their hashes, which differs from run to run."""
    config = sorted(read_json(path).items())
    write_json({k: sorted(v) if isinstance(v, list) else v for k, v in config}, path)


@contextmanager
def explained_failure(out: Path) -> Iterator[None]:
    """Let one call at a time work on `out`; make its failures a `UserError`.

    Full memory, a full disk and an unwritable folder are explained, and what was half-written is
    removed; a kill or an interrupt leaves it, to be continued. Processes that were launched
    together count as one, for which the first holds the lock and cleans up.
    """
    lock = FileLock(_partial(out) / _LOCK, timeout=0)
    try:
        if not place()[0]:
            _partial(out).mkdir(parents=True, exist_ok=True)
            lock.acquire()
        yield
    except Timeout as error:
        raise UserError(
            f"another process is tuning {out}; wait for it, or start them with `accelerate launch`"
        ) from error
    except (UserError, RuntimeError, OSError, SafetensorError) as error:
        problem = _explain(error, out)
        if problem is None:
            raise
        if lock.is_locked:
            shutil.rmtree(_partial(out), ignore_errors=True)
        raise problem from error
    finally:
        lock.release()


def _explain(error: Exception, out: Path) -> UserError | None:
    if isinstance(error, UserError):
        return error
    if isinstance(error, torch.OutOfMemoryError):
        return UserError("the device's memory is full; lower batch_size or use quantize '4bit'")
    if isinstance(error, OSError):
        return UserError(f"cannot write {out}: {error.strerror or error}")
    # The writers of torch and safetensors do not pass on the system's error number.
    full = shutil.disk_usage(out.parent).free < _FULL
    return UserError(f"cannot write {out}: the disk is full") if full else None
