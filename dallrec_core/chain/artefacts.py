"""Files that stages hand to each other: schemas, atomic writes, and content digests.

Every table is checked against its schema when it is written *and* when it is read, so that a file
made by another tool can be dropped in and a wrong one is refused with its row and column.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dallrec_core.errors import UserError


def _schema(columns: Mapping[str, str]) -> pa.Schema:
    """Return a schema from names of columns by type; those of a type with "?" may be empty."""
    return pa.schema(
        pa.field(name, pa.type_for_alias(kind.rstrip("?")), nullable=kind.endswith("?"))
        for kind, names in columns.items()
        for name in names.split()
    )


SCHEMAS: dict[str, pa.Schema] = {
    name: _schema(columns)
    for name, columns in {
        "split": {"int32": "user item", "float32?": "rating", "int64?": "timestamp"},
        "users": {"int32": "user", "string": "user_id"},
        "items": {"int32": "item year", "string": "item_id title"}
        | {"string?": "attributes author text"},
        "truth": {"int32": "item", "string": "attributes"},
        # p(yes) is empty where a served model's answer is neither yes nor no
        "added": {"int32": "user item", "string": "answer strategy prompt_key"}
        | {"bool": "added", "float32?": "p_yes"},
        "attributes": {"int32": "item", "string": "field value origin raw", "bool": "parsed"},
        "summaries": {"int32": "item tokens", "string": "summary", "bool": "truncated"},
        "scores": {"int32": "seed user", "string": "run backbone arm metric", "float32": "value"},
        "runs": {"int32": "seed epochs best_epoch edges", "string": "run backbone arm"}
        | {"float32": "validation seconds peak_mib"},
        "effects": {"string": "metric backbone arm over verdict", "int32": "users seeds family"}
        | {"float64?": "base other difference relative low high se df p_corrected detectable"},
        "ledger": {"string": "stage task device"}
        | {"int64": "questions from_cache tokens_in tokens_out saved_by_prefix saved_by_cache"}
        | {"float32": "seconds peak_mib"},
        "training_log": {"string": "task", "int32": "step", "float32": "epoch"}
        | {"float32?": "loss eval_loss"},
    }.items()
}
"""Required columns of every table, by schema name; more may be present."""
SCHEMAS |= dict.fromkeys(("train", "validation", "test", "held_back"), SCHEMAS["split"])
SCHEMAS |= dict.fromkeys(("interactions", "zero_shot"), SCHEMAS["added"])

VOLATILE = frozenset(
    ("seconds", "peak_mib", "device")
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
        place = table.column_names.index(field.name)
        try:
            column = table.column(place).cast(field.type)
        except pa.ArrowException as error:
            raise UserError(
                f"{path}: column '{field.name}' should be {field.type}: {error}"
            ) from error
        if not field.nullable and column.null_count:
            row = column.is_null().index(True)
            raise UserError(f"{path}: row {row}, column '{field.name}' is empty")
        table = table.set_column(place, field, column)
    return table.replace_schema_metadata(None)


def write_table(frame: pd.DataFrame, path: Path, schema: str) -> Path:
    """Write `frame` as parquet after checking it against `SCHEMAS[schema]`.

    Raises:
        UserError: naming file, row and column when the frame does not fit its schema.
    """
    table = _check(pa.Table.from_pandas(frame, preserve_index=False), SCHEMAS[schema], path)
    with atomic(path) as partial:
        pq.write_table(table, partial, compression="zstd")
    return path


def read_table(path: Path, schema: str) -> pd.DataFrame:
    """Read a parquet file that must fit `SCHEMAS[schema]`.

    Raises:
        UserError: when the file is absent, unreadable, or does not fit.
    """
    try:
        return _check(pq.read_table(path), SCHEMAS[schema], path).to_pandas()
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
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
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:  # where it succeeded, nothing is left to remove
        shutil.rmtree(partial) if partial.is_dir() else partial.unlink(missing_ok=True)


def write_json(value: Any, path: Path) -> Path:
    """Write `value` as readable JSON (NumPy numbers and arrays become plain ones)."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=lambda array: array.tolist())
    with atomic(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")
    return path


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: when it is absent or not JSON, with line and column.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from error


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(path: Path) -> str:
    """Return a hash of an artefact's content that two equal runs share.

    Volatile columns of tables and keys of JSON are left out. Pictures have none: they show what
    tables hold, and kernels draw a few pixels otherwise. Other files count byte by byte.
    """
    if path.suffix == ".png":
        return ""
    if path.suffix == ".parquet":
        frame = pd.read_parquet(path).drop(columns=list(VOLATILE), errors="ignore")
        rows = pd.util.hash_pandas_object(frame, index=False).to_numpy()
        return hashlib.sha256(",".join(frame.columns).encode() + rows.tobytes()).hexdigest()
    if path.suffix == ".json":
        content = json.dumps(json.loads(path.read_bytes(), object_hook=_steady), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()
    return sha256(path)


def _steady(content: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in VOLATILE}
