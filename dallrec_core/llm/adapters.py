"""The folder in which an adapter is trained: resumed after a kill, and moved into place whole."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout
from safetensors import SafetensorError

from dallrec_core.chain.artefacts import read_json, read_table, write_json, write_table
from dallrec_core.errors import UserError
from dallrec_core.llm.checkpoints import ADAPTER_RECORD
from dallrec_core.llm.load import LanguageModel, processes

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
    noted = out / ADAPTER_RECORD  # written last: what `publish` made is whole, or not there
    if not noted.exists() or read_json(noted).get("key") != record["key"]:
        return None
    return read_table(out / _LOG_FILE, "training_log")


@contextmanager
def workplace(out: Path, record: dict[str, Any]) -> Iterator[Path]:
    """Let one call at a time work on `out`, in the folder `<out>.partial`.

    A kill or an interrupt leaves the folder, for an equal call to continue. It is removed when its
    work is done or fails. Processes that were launched together count as one call, for which the
    first holds the lock and cleans up.

    Raises:
        UserError: when another process is at work, the disk is full, or the folder cannot be
            written.
    """
    group, partial = processes(), out.with_name(out.name + ".partial")
    lock = FileLock(partial / _LOCK, timeout=0)
    try:
        if group.is_main_process:
            partial.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            _prepare(partial, record)
        group.wait_for_everyone()
        yield partial
        group.wait_for_everyone()  # none goes on before the adapter is there
    except Timeout as error:
        raise UserError(
            f"another process is tuning {out}; wait for it, or start them with `accelerate launch`"
        ) from error
    except Exception as error:
        if lock.is_locked:
            shutil.rmtree(partial, ignore_errors=True)
        if problem := _problem(error, out):
            raise UserError(problem) from error
        raise
    finally:
        lock.release()


def _prepare(partial: Path, record: dict[str, Any]) -> None:
    """Empty the folder unless an equal call was interrupted in it."""
    previous = partial / ADAPTER_RECORD
    if previous.exists() and read_json(previous) == record:
        return
    for old in partial.iterdir():
        if old.name != _LOCK:
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    write_json(record, previous)


def _problem(error: Exception, out: Path) -> str | None:
    if isinstance(error, OSError):
        return f"cannot write {out}: {error.strerror or error}"
    # The writers of torch and safetensors do not pass on the system's error number.
    wrote = isinstance(error, (RuntimeError, SafetensorError))
    full = wrote and shutil.disk_usage(out.parent).free < _FULL
    return f"cannot write {out}: the disk is full" if full else None


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
        partial: of `workplace`; it is removed.
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
