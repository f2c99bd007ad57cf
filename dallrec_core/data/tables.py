"""Read tables strictly: no row is skipped, cells stay text, and every row keeps its number.

Formats meet in a frame whose index holds line numbers (text) or row numbers (parquet). A further
format is a function from a path to such a frame.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from dallrec_core.errors import UserError

PARQUET = (".parquet", ".pq")
_RARE = "\x1f"  # stands for separators of several characters
AGAIN = "Delete the file to fetch it anew, or correct the line."
"""Remedy for lines of files that came from their publisher."""


def read_table_file(path: Path, *, separator: str = "", encoding: str = "utf-8") -> pd.DataFrame:
    """Read a table whose index, called "line" (CSV) or "row" (parquet), holds their numbers.

    CSV cells stay text. Blank lines are the only thing skipped, and they keep their number.

    Args:
        path: ``*.parquet`` or ``*.pq``; anything else is read as CSV with a header line.
        separator: of the CSV fields; empty means tab for ``*.tsv`` and comma otherwise.
        encoding: of the CSV text.

    Raises:
        UserError: absent, unreadable, wrongly encoded, or a line with too many or few fields.
    """
    if path.suffix.lower() in PARQUET:
        return _read_parquet(path)
    mark = separator.replace("\\t", "\t") or ("\t" if path.suffix.lower() == ".tsv" else ",")
    if len(mark) != 1 or not mark.isascii() or mark in '"\r\n':
        raise UserError(
            f"separator {separator!r} must be a single character such as ',', ';', '|' or '\\t'."
        )
    text = _decode(path, read_bytes(path), encoding)
    names = [name.strip() for name in next(csv.reader(StringIO(text), delimiter=mark))]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(f"{path}, line 1: column '{repeated[0]}' appears twice. Rename one.")
    return _parse(path, text, mark, names)


def read_fields(path: Path, separator: str, names: Sequence[str]) -> pd.DataFrame:
    """Read lines of text fields without header and quotes; the index is the line number.

    Args:
        path: UTF-8 or Latin-1.
        separator: between the fields, e.g. "::".
        names: of the columns.

    Raises:
        UserError: absent, empty, or naming the first line that has not as many fields as names.
    """
    text = decode(read_bytes(path)).rstrip("\r\n").replace(separator, _RARE)
    return _parse(path, text, _RARE, names, separator.replace("\t", " ").join(names))


def _parse(
    path: Path, text: str, separator: str, names: Sequence[str], form: str = ""
) -> pd.DataFrame:
    """Parse CSV with a header line, or with `form` lines that are neither named nor quoted."""
    wrong: list[pa_csv.InvalidRow] = []

    def refuse(row: pa_csv.InvalidRow) -> str:
        wrong.append(row)
        return "error"

    try:
        table = pa_csv.read_csv(
            BytesIO(text.encode()),
            read_options=pa_csv.ReadOptions(
                use_threads=False, column_names=list(names), skip_rows=0 if form else 1
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=separator,
                quote_char=False if form else '"',
                newlines_in_values=not form,
                ignore_empty_lines=not form,
                invalid_row_handler=refuse,
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowException as error:
        if not wrong:
            raise UserError(f"{path} cannot be read as CSV ({error}).") from error
        row, remedy = wrong[0], f"Put values that hold the separator {separator!r} in quotes."
        if row.actual_columns < row.expected_columns:
            remedy = "Complete the line, or the file if it was cut short."
        line = row.number if form else _starts(text, separator)[row.number - 1]
        raise UserError(
            f"{path}, line {line}: {row.actual_columns} fields where {form or 'the header'} has "
            f"{row.expected_columns} ('{row.text.replace(_RARE, ' ')[:60]}'). "
            f"{AGAIN if form else remedy}"
        ) from error
    frame = table.to_pandas()
    plain = form or text.count("\n") + (not text.endswith("\n")) == len(frame) + 1
    first = 1 if form else 2
    starts = range(first, first + len(frame)) if plain else _starts(text, separator)[1:]
    return frame.set_axis(pd.Index(starts, name="line"))


def _starts(text: str, separator: str) -> list[int]:
    """The line on which each record of a CSV starts; blank lines are none."""
    reader, starts, line = csv.reader(StringIO(text), delimiter=separator), [], 1
    for row in reader:
        starts += [line] if row else []
        line = reader.line_num + 1
    return starts


def _read_parquet(path: Path) -> pd.DataFrame:
    read_bytes(path)
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is not a readable parquet file ({error}).") from error
    frame = table.to_pandas()
    for field in table.schema:
        if field.type in (pa.list_(pa.string()), pa.large_list(pa.string())):
            cells = ["" if cell is None else "|".join(cell) for cell in frame[field.name]]
            frame[field.name] = cells
        elif pa.types.is_nested(field.type):
            raise UserError(
                f"{path}, column '{field.name}': type {field.type} cannot be used. Store text or "
                "numbers, or leave the column out."
            )
    return frame.set_axis(pd.RangeIndex(1, len(frame) + 1, name="row"))


def _decode(path: Path, data: bytes, encoding: str) -> str:
    try:
        text = data.decode(encoding)
    except LookupError as error:
        raise UserError(
            f"encoding '{encoding}' is not known. Use e.g. 'utf-8', 'latin-1' or 'cp1252'."
        ) from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not valid {encoding}. Save "
            "the file as UTF-8, or give the option encoding, e.g. 'latin-1' or 'cp1252'."
        ) from error
    return text.removeprefix("\ufeff")


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        UserError: when it is absent, empty or cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}.") from error
    if not data.strip():
        raise UserError(f"{path} is empty. Put a complete copy in its place.")
    return data


def decode(data: bytes) -> str:
    """Decode UTF-8, or else Latin-1, which the original MovieLens files use."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def codes_in(ids: Iterable[str], known: Iterable[str]) -> np.ndarray:
    """Return the position of each id in `known`, int32 [rows], -1 where it is absent."""
    return pd.Index(known).get_indexer(pd.Index(ids, dtype="str")).astype(np.int32)
