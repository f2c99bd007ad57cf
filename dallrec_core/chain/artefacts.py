"""Files that stages hand to each other: schemas, atomic writes, and content digests.

Every table is checked against its schema when it is written *and* when it is read, so that a file
made by another tool can be dropped in and a wrong one is refused with its row and column.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dallrec_core.errors import UserError


def _schema(
    required: dict[str, pa.DataType], nullable: dict[str, pa.DataType] | None = None
) -> pa.Schema:
    fields = [pa.field(name, kind, nullable=False) for name, kind in required.items()]
    fields += [pa.field(name, kind) for name, kind in (nullable or {}).items()]
    return pa.schema(fields)


_I32, _I64, _F32, _F64 = pa.int32(), pa.int64(), pa.float32(), pa.float64()
_STR, _BOOL = pa.string(), pa.bool_()

SCHEMAS: dict[str, pa.Schema] = {
    "split": _schema({"user": _I32, "item": _I32}, {"rating": _F32, "timestamp": _I64}),
    "users": _schema({"user": _I32, "user_id": _STR}),
    "items": _schema(
        {"item": _I32, "item_id": _STR, "title": _STR, "year": _I32},
        {"attributes": _STR, "author": _STR, "text": _STR},
    ),
    "truth": _schema({"item": _I32, "attributes": _STR}),
    "added": _schema(
        {"user": _I32, "item": _I32, "answer": _STR, "added": _BOOL}
        | {"strategy": _STR, "prompt_key": _STR},
        {"p_yes": _F32},  # empty where a served model's answer is neither yes nor no
    ),
    "attributes": _schema(
        {"item": _I32, "field": _STR, "value": _STR, "origin": _STR, "raw": _STR, "parsed": _BOOL}
    ),
    "summaries": _schema({"item": _I32, "summary": _STR, "tokens": _I32, "truncated": _BOOL}),
    "scores": _schema(
        {"run": _STR, "backbone": _STR, "arm": _STR, "seed": _I32}
        | {"user": _I32, "metric": _STR, "value": _F32}
    ),
    "runs": _schema(
        {"run": _STR, "backbone": _STR, "arm": _STR, "seed": _I32, "epochs": _I32}
        | {"best_epoch": _I32, "validation": _F32, "edges": _I32, "seconds": _F32, "peak_mib": _F32}
    ),
    "effects": _schema(
        dict.fromkeys(("metric", "backbone", "arm", "over", "verdict"), _STR)
        | {"users": _I32, "seeds": _I32},
        dict.fromkeys(("base", "other", "difference", "relative", "low", "high"), _F64)
        | dict.fromkeys(("p_value", "p_holm", "detectable"), _F64),
    ),
    "ledger": _schema(
        {"stage": _STR, "task": _STR, "device": _STR}
        | dict.fromkeys(("questions", "from_cache", "tokens_in", "tokens_out"), _I64)
        | {"saved_by_prefix": _I64, "saved_by_cache": _I64, "seconds": _F32, "peak_mib": _F32}
    ),
    "training_log": _schema(
        {"task": _STR, "step": _I32, "epoch": _F32}, {"loss": _F32, "eval_loss": _F32}
    ),
}
"""Required (and nullable) columns of every table, by schema name; more may be present."""

VOLATILE = frozenset(
    ("seconds", "peak_mib", "wall_seconds", "started", "finished", "device", "costs")
    # what the model had to read depends on what the cache has kept from earlier runs
    + ("from_cache", "tokens_in", "tokens_out", "saved_by_prefix", "saved_by_cache")
)
"""Columns and keys that measure the machine that day, not the result; digests leave them out."""


def _check(table: pa.Table, schema: pa.Schema, path: Path) -> pa.Table:
    """Cast the schema's columns and refuse what does not fit, naming row and column."""
    for field in schema:
        if field.name not in table.column_names:
            raise UserError(
                f"{path}: column '{field.name}' is missing (it has {', '.join(table.column_names)})"
            )
        position = table.column_names.index(field.name)
        column = table.column(position)
        try:
            column = column.cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise UserError(
                f"{path}: column '{field.name}' should be {field.type}: {error}"
            ) from error
        if not field.nullable and column.null_count:
            row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
            raise UserError(f"{path}: row {row}, column '{field.name}' is empty")
        table = table.set_column(position, field, column)
    return table.replace_schema_metadata(None)


def write_table(frame: pd.DataFrame, path: Path, schema: str) -> Path:
    """Write `frame` as parquet after checking it against `SCHEMAS[schema]`.

    Raises:
        UserError: naming file, row and column when the frame does not fit its schema.
    """
    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = _check(table, SCHEMAS[schema], path)
    with atomic(path) as partial:
        pq.write_table(table, partial, compression="zstd")
    return path


def read_table(path: Path, schema: str) -> pd.DataFrame:
    """Read a parquet file that must fit `SCHEMAS[schema]`.

    Raises:
        UserError: when the file is absent, unreadable, or does not fit.
    """
    return _check(_load(path), SCHEMAS[schema], path).to_pandas()


def _load(path: Path) -> pa.Table:
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    try:
        return pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} is not a readable parquet file: {error}") from error


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield `<path>.partial` to write a file or a folder to; rename it to `path` on success.

    On an exception the partial is removed and `path` stays as it was.

    Raises:
        UserError: when the folder cannot be written or the disk is full.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        if path.is_dir():
            shutil.rmtree(path)
        partial.replace(path)
    except OSError as error:
        _remove(partial)
        reason = error.strerror or str(error)
        raise UserError(f"cannot write {path}: {reason}") from error
    except BaseException:
        _remove(partial)
        raise


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_json(value: Any, path: Path) -> Path:
    """Write `value` as readable JSON (NumPy numbers become plain ones)."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=_plain)
    with atomic(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")
    return path


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: when it is absent or not JSON, with line and column.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid JSON: {error}") from error


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(path: Path) -> str:
    """Return a hash of an artefact's content that two equal runs share.

    Volatile columns of tables and keys of JSON are left out; other files count byte by byte.
    """
    if path.suffix == ".parquet":
        frame = _load(path).to_pandas().drop(columns=list(VOLATILE), errors="ignore")
        hashed = pd.util.hash_pandas_object(frame, index=False).to_numpy()
        head = ",".join(frame.columns).encode()
        return hashlib.sha256(head + np.ascontiguousarray(hashed).tobytes()).hexdigest()
    if path.suffix == ".json":
        content = json.dumps(_steady(read_json(path)), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()
    return sha256(path)


def _steady(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _steady(inner) for key, inner in value.items() if key not in VOLATILE}
    return [_steady(inner) for inner in value] if isinstance(value, list) else value
