"""Read CSV and parquet files strictly: no row is skipped, and every row keeps its number."""

from __future__ import annotations

import codecs
import csv
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from dallrec_core.errors import UserError

PARQUET = (".parquet", ".pq")
_COMMON_SEPARATORS = ",;\t|"


def read_table_file(path: Path, *, separator: str = "", encoding: str = "utf-8") -> pd.DataFrame:
    """Read a table whose index holds the line (CSV) or row (parquet) numbers.

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
    mark = _separator(separator, path)
    text = _decode(path, read_bytes(path), encoding)
    frame = _read_csv(path, text, mark)
    return frame.set_axis(pd.Index(_line_numbers(text, mark, len(frame))))


def _read_parquet(path: Path) -> pd.DataFrame:
    read_bytes(path)
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is not a readable parquet file ({error}).") from error
    for field in table.schema:
        if pa.types.is_nested(field.type) and not _is_text_list(field.type):
            raise UserError(
                f"{path}, column '{field.name}': type {field.type} cannot be used. Store text or "
                "numbers, or leave the column out."
            )
    frame = table.to_pandas()
    for field in table.schema:
        if _is_text_list(field.type):
            cells = ["" if cell is None else "|".join(cell) for cell in frame[field.name]]
            frame[field.name] = cells
    return frame.set_axis(pd.RangeIndex(1, len(frame) + 1))


def _is_text_list(kind: pa.DataType) -> bool:
    return kind in (pa.list_(pa.string()), pa.large_list(pa.string()))


def _separator(separator: str, path: Path) -> str:
    mark = separator.replace("\\t", "\t") or ("\t" if path.suffix.lower() == ".tsv" else ",")
    if len(mark) != 1 or not mark.isascii() or mark in '"\r\n':
        raise UserError(
            f"separator {separator!r} must be a single character such as ',', ';', '|' or '\\t'."
        )
    return mark


def _decode(path: Path, data: bytes, encoding: str) -> str:
    try:
        name = codecs.lookup(encoding).name
    except LookupError as error:
        raise UserError(
            f"encoding '{encoding}' is not known. Use e.g. 'utf-8', 'latin-1' or 'cp1252'."
        ) from error
    try:
        return data.decode("utf-8-sig" if name == "utf-8" else name)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not valid {encoding}. Save "
            "the file as UTF-8, or give the option encoding, e.g. 'latin-1' or 'cp1252'."
        ) from error


def _read_csv(path: Path, text: str, separator: str) -> pd.DataFrame:
    names = next(csv.reader(StringIO(text), delimiter=separator), [])
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(f"{path}, line 1: column '{repeated[0]}' appears twice. Rename one.")
    wrong: list[pa_csv.InvalidRow] = []

    def refuse(row: pa_csv.InvalidRow) -> str:
        wrong.append(row)
        return "error"

    try:
        table = pa_csv.read_csv(
            BytesIO(text.encode()),
            read_options=pa_csv.ReadOptions(use_threads=False),
            parse_options=pa_csv.ParseOptions(
                delimiter=separator, newlines_in_values=True, invalid_row_handler=refuse
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types={name: pa.string() for name in names}, strings_can_be_null=False
            ),
        )
    except pa.ArrowException as error:
        if wrong:
            _refuse_row(path, text, separator, wrong[0])
        raise UserError(f"{path} cannot be read as CSV ({error}).") from error
    frame = table.to_pandas()
    frame.columns = [str(name).strip() for name in frame.columns]
    return frame


def _refuse_row(path: Path, text: str, separator: str, row: pa_csv.InvalidRow) -> None:
    """Name the line of a row that has too many or too few fields."""
    reader = csv.reader(StringIO(text), delimiter=separator)
    line = next(
        (reader.line_num for fields in reader if 0 < len(fields) != row.expected_columns), 0
    )
    where = f"{path}, line {line}" if line else str(path)
    remedy = f"Put values that hold the separator {separator!r} in quotes."
    if row.actual_columns < row.expected_columns:
        remedy = "Complete the line, or the file if it was cut short."
    raise UserError(
        f"{where}: {row.actual_columns} fields where the header has {row.expected_columns} "
        f"('{row.text[:60]}'). {remedy}"
    )


def _line_numbers(text: str, separator: str, size: int) -> np.ndarray:
    """The line on which each record starts [size]; the header is on line 1."""
    if text.count("\n") + (not text.endswith("\n")) == size + 1:
        return np.arange(2, size + 2)
    reader = csv.reader(StringIO(text), delimiter=separator)
    ends = np.array([(reader.line_num, len(row)) for row in reader]).reshape(-1, 2)
    starts = np.concatenate(([0], ends[:-1, 0])) + 1
    starts = starts[ends[:, 1] > 0][1:]
    return starts if len(starts) == size else np.arange(2, size + 2)


def separator_hint(frame: pd.DataFrame, separator: str) -> str:
    """A hint where a CSV came out as a single column that holds another usual separator."""
    if len(frame.columns) != 1:
        return ""
    name = str(frame.columns[0])
    likely = [mark for mark in _COMMON_SEPARATORS if mark in name and mark != separator]
    if not likely:
        return ""
    return f" The only column is '{name}': does it want the option separator={likely[0]!r}?"


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
