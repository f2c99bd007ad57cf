"""Read tables strictly: no row is skipped, ids stay text, and every row keeps its number.

CSV in any dress, JSON lines, parquet and Excel meet in a frame whose index holds line numbers
(text) or row numbers. :func:`open_table` reads the names of the columns, so that the caller can
say what each is before the cells are read: a column of numbers never becomes text on the way.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from dallrec_core.data.checks import BLANKS, Table
from dallrec_core.errors import UserError

OLD = "utf-8 or latin-1"
"""The encoding of files from before everybody used UTF-8."""
KINDS = {"user_id": "id", "item_id": "id"} | dict.fromkeys(
    ("rating", "timestamp", "year", "p_yes"), "number"
)
"""What the cells of our columns are; of all others: text."""
_TYPES = {"id": pa.dictionary(pa.int32(), pa.string()), "number": pa.float64()}
_MARKS = (",", "\t", ";", "::", "|")
_RARE = "\x1f"  # stands for separators of several characters


@dataclass(frozen=True)
class Source:
    """A table whose names are known and whose cells are still to be read."""

    path: Path
    """of the file"""
    names: list[str]
    """of its columns"""
    cells: Callable[[Mapping[str, str]], pd.DataFrame]
    """of column -> kind ("id", "number" or "text"), the frame of these columns"""
    remarks: Sequence[str] = ()
    """what had to be guessed about the file"""

    def read(self, columns: Mapping[str, str] | None = None) -> Table:
        """Read columns by our name -> theirs; by default all of them, as they are called.

        Raises:
            UserError: naming the line that cannot be read.
        """
        theirs = dict(columns or zip(self.names, self.names, strict=True))
        frame = self.cells({name: KINDS.get(ours, "text") for ours, name in theirs.items()})
        frame = frame[list(theirs.values())].set_axis(list(theirs), axis=1)
        table = Table(frame, str(self.path), theirs, list(self.remarks))
        for ours in frame.columns[frame.dtypes == "object"]:
            nested = dict if ours not in KINDS else (dict, list, np.ndarray)
            objects = frame[ours].map(lambda cell, nested=nested: isinstance(cell, nested))
            remedy = "Store text or numbers, or leave the column out."
            table.refuse(objects, ours, "{value} cannot be used", remedy)
        return table


def open_table(
    path: Path,
    *,
    separator: str = "",
    encoding: str = "",
    names: Sequence[str] = (),
    quoted: bool = True,
) -> Source:
    """Open a table by the ending of its name, packed (.gz, .zip, .bz2, .xz, .zst) or not.

    Args:
        path: ``*.parquet``, ``*.jsonl``, ``*.xlsx``; anything else is text with separated fields.
        separator: of the fields; empty means the one that the first line shows.
        encoding: of the text; empty means UTF-8.
        names: of the columns, in this order, if the first line turns out to be data (it holds a
            number); () refuses that.
        quoted: whether fields that hold the separator stand in quotes.

    Raises:
        UserError: absent, unreadable, wrongly encoded, or without usable names.
    """
    ending = path.suffix.lower()
    if ending in (".parquet", ".pq"):
        return _parquet(path)
    if ending in (".xlsx", ".xls"):
        return _excel(path)
    text, ending = _unpacked(path, encoding or "utf-8")
    if ending in (".jsonl", ".ndjson", ".json"):
        return _json(path, text)
    if ending in (".inter", ".item"):  # RecBole's atomic files
        separator, quoted = separator or "\t", False
    table = _Text(path, text.encode(), separator.replace("\\t", "\t"), names, quoted)
    return Source(path, table.header, table.cells, table.remarks)


def read_fields(path: Path, separator: str, names: Sequence[str] = ()) -> Table:
    """Read a file of a known form: fields that are not quoted, in UTF-8 or Latin-1.

    Args:
        path: the file.
        separator: of the fields.
        names: as in :func:`open_table`.

    Raises:
        UserError: absent, empty, or naming the first line that has not as many fields as names.
    """
    source = open_table(path, separator=separator, names=names, quoted=False, encoding=OLD)
    table = source.read()
    table.require(*names)
    table.notes.clear()  # that there is no header line goes without saying
    return table


def read_text(path: Path) -> str:
    """Return the text of a file, in UTF-8 or Latin-1, unpacked.

    Raises:
        UserError: when it is absent, empty or cannot be read.
    """
    return _unpacked(path, OLD)[0]


# ---------------------------------------------------------------- bytes and text


def _member(path: Path) -> IO[bytes]:
    bundle = zipfile.ZipFile(path)
    names = [name for name in bundle.namelist() if not name.startswith("__MACOSX")]
    if len(names) != 1 or names[0].endswith("/"):
        held = ", ".join(names[:5])
        raise UserError(f"{path} holds {len(names)} files ({held}); unpack it and name one.")
    return bundle.open(names[0])


_OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": pa.input_stream,
    ".zip": _member,
}


def _unpacked(path: Path, encoding: str) -> tuple[str, str]:
    """A file's text without packing, and the ending of the name of what is inside."""
    packed = path.suffix.lower()
    try:
        with _OPENERS.get(packed, pa.input_stream)(path) as file:
            data = file.read()
            inside = file.name if packed == ".zip" else path.stem
    except (OSError, EOFError, lzma.LZMAError, zipfile.BadZipFile, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {path}: {reason}.") from error
    if not data[:4096].strip() and not data.strip():
        raise UserError(f"{path} is empty. Put a complete copy in its place.")
    text = _decoded(path, data, encoding)
    return text, Path(inside).suffix.lower() if packed in _OPENERS else packed


def _decoded(path: Path, data: bytes, encoding: str) -> str:
    """Text without a byte order mark; of two encodings ("utf-8 or latin-1") the first that fits."""
    encoding, _, other = encoding.partition(" or ")
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except LookupError as error:
        raise UserError(
            f"encoding '{encoding}' is not known. Use e.g. 'utf-8', 'latin-1' or 'cp1252'."
        ) from error
    except UnicodeDecodeError as error:
        if other:
            return _decoded(path, data, other)
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not valid {encoding}. Save "
            "the file as UTF-8, or give the option encoding, e.g. 'latin-1' or 'cp1252'."
        ) from error


# ---------------------------------------------------------------- separated text


class _Text:
    """Separated text whose header is read, and whose cells are about to be parsed."""

    def __init__(
        self, path: Path, data: bytes, separator: str, names: Sequence[str], quoted: bool
    ) -> None:
        self.path, self.quoted, self.remarks = path, quoted, list[str]()
        first = (data[: data.find(b"\n") + 1] or data).decode()
        if not separator:
            separator = max(_MARKS, key=first.count)
            separator = " " if separator not in first and " " in first.strip() else separator
            if separator not in ",\t":
                self.remarks.append(f"{path.name}: fields are separated by {separator!r}")
        if set(separator) & set('"\r\n'):
            raise UserError(
                f"separator {separator!r} cannot be one; try ',', ';', '|', '::' or '\\t'."
            )
        self.separator = separator
        self.mark = separator if len(separator.encode()) == 1 else _RARE
        self.data = data.replace(separator.encode(), self.mark.encode())
        records = self._records()
        self.header = [name.strip() for name in next(filter(None, records))]
        self.skip = records.line_num  # lines above the first row
        if any(map(_is_number, self.header)):
            if not 2 <= len(self.header) <= len(names):
                raise UserError(
                    f"{path}, line 1: '{first.strip()[:60]}' is no header line. Put the names of "
                    "the columns above it."
                )
            self.header, self.skip = list(names[: len(self.header)]), 0
            self.remarks.append(f"{path.name}: no header line; read as {', '.join(self.header)}")
        repeated = sorted({name for name in self.header if self.header.count(name) > 1})
        if repeated:
            raise UserError(f"{path}, line 1: column '{repeated[0]}' appears twice. Rename one.")

    def cells(self, kinds: Mapping[str, str]) -> pd.DataFrame:
        """The columns of `kinds`; one of numbers is text if it holds anything else."""
        wrong: list[pa_csv.InvalidRow] = []

        def refuse(row: pa_csv.InvalidRow) -> str:
            wrong.append(row)
            return "error"

        try:
            table = self._parse(kinds, None)
        except pa.ArrowException:  # once more, slower: as text, and to find out where
            try:
                table = self._parse(dict.fromkeys(kinds, "text"), refuse)
            except pa.ArrowException as error:
                if not wrong:
                    raise UserError(f"{self.path} cannot be read as CSV ({error}).") from error
                raise self._bad(wrong[0]) from error
        frame = table.to_pandas(self_destruct=True, split_blocks=True)
        lines: Iterable[int] = range(self.skip + 1, self.skip + 1 + len(frame))
        if self.data.count(b"\n") + (not self.data.endswith(b"\n")) != len(frame) + self.skip:
            lines = self._lines()  # some are blank, or hold a part of a record
        return frame.set_axis(pd.Index(lines, name="line"))

    def _parse(self, kinds: Mapping[str, str], refuse: Callable[[Any], str] | None) -> pa.Table:
        return pa_csv.read_csv(
            pa.BufferReader(self.data),
            read_options=pa_csv.ReadOptions(
                use_threads=refuse is None, column_names=self.header, skip_rows=self.skip
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=self.mark,
                quote_char='"' if self.quoted else False,
                newlines_in_values=self.quoted and b'"' in self.data,
                invalid_row_handler=refuse,
            ),
            convert_options=pa_csv.ConvertOptions(
                include_columns=list(kinds),
                column_types={n: _TYPES.get(kind, pa.string()) for n, kind in kinds.items()},
                strings_can_be_null=False,
                null_values=[spelling for word in BLANKS for spelling in (word, word.upper())],
            ),
        )

    def _bad(self, row: pa_csv.InvalidRow) -> UserError:
        line = self._lines()[row.number - self.skip - 1]
        expected = "the header" if self.skip else self.separator.join(self.header)
        remedy = f"Put values that hold the separator {self.separator!r} in quotes."
        if not self.quoted:
            remedy = "Correct the line, or get the file anew."
        if row.actual_columns < row.expected_columns:
            remedy = "Complete the line, or get the file anew if it was cut short."
        return UserError(
            f"{self.path}, line {line}: {row.actual_columns} fields where {expected} has "
            f"{row.expected_columns} ('{row.text.replace(_RARE, ' ')[:60]}'). {remedy}"
        )

    def _records(self) -> Any:
        """A csv.reader of the whole file, which knows its place and is slow."""
        text = TextIOWrapper(BytesIO(self.data), encoding="utf-8", newline="")
        quote = '"' if self.quoted else None
        return csv.reader(text, delimiter=self.mark, quotechar=quote)

    def _lines(self) -> list[int]:
        """The line on which each record below the header starts; blank lines are none."""
        reader, starts, line = self._records(), [], 1
        for row in reader:
            starts += [line] if row and line > self.skip else []
            line = reader.line_num + 1
        return starts


# ---------------------------------------------------------------- other forms


def _whole(path: Path, frame: pd.DataFrame) -> Source:
    return Source(path, [str(name) for name in frame], lambda kinds: frame[list(kinds)])


def _json(path: Path, text: str) -> Source:
    """JSON lines, one object each, or one array of objects."""
    kind, rows = "line", dict[int, Any]()
    whole = text.lstrip().startswith("[")
    lines = {1: text} if whole else dict(enumerate(text.split("\n"), start=1))
    for number, line in lines.items():  # not splitlines: a text may hold U+2028
        try:
            rows |= {number: json.loads(line)} if line.strip() else {}
        except ValueError as error:
            raise UserError(
                f"{path}, line {number} is no JSON ({error}). Each line must be one whole object."
            ) from error
    if whole:
        kind, rows = "row", dict(enumerate(rows[1], start=1))
    for number, row in rows.items():
        if not isinstance(row, dict):
            raise UserError(f"{path}, {kind} {number}: {str(row)[:40]} is no object with columns.")
    index = pd.Index(list(rows), name=kind)
    return _whole(path, pd.DataFrame(list(rows.values()), index, dtype=object))


def _excel(path: Path) -> Source:
    try:
        frame = pd.read_excel(path, dtype=str)
    except ImportError as error:
        raise UserError(
            f"{path}: Excel files need a further package: pip install openpyxl. Or save the sheet "
            "as CSV."
        ) from error
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is not a readable Excel file ({error}).") from error
    return _whole(path, frame.set_axis(pd.RangeIndex(2, len(frame) + 2, name="row")))


def _parquet(path: Path) -> Source:
    def cells(kinds: Mapping[str, str]) -> pd.DataFrame:
        frame = pq.read_table(path, columns=list(kinds)).to_pandas()
        return frame.set_axis(pd.RangeIndex(1, len(frame) + 1, name="row"))

    try:
        return Source(path, pq.read_schema(path).names, cells)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is not a readable parquet file ({error}).") from error


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False
