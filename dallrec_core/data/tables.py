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

from dallrec_core.errors import UserError

BLANKS = ("", "-", "–", "—", "?", "n/a", "na", "nan", "null", "none", "\\n", "<na>")
"""Cells that stand for nothing, in lower case.

:meta hide-value:
"""
AGAIN = "Delete the file to fetch it anew, or correct the line."
"""Remedy for lines of files that came from their publisher."""
_TYPES = {"id": pa.dictionary(pa.int32(), pa.string()), "number": pa.float64()}
_MARKS = (",", "\t", ";", "::", "|")
_RARE = "\x1f"  # stands for separators of several characters


@dataclass(frozen=True)
class Source:
    """A table whose names are known and whose cells are still to be read."""

    names: list[str]
    """of its columns"""
    read: Callable[[Mapping[str, str]], pd.DataFrame]
    """of column -> kind ("id", "number" or "text"), the frame of these columns"""
    remarks: tuple[str, ...] = ()
    """what had to be guessed about the file"""


def open_table(
    path: Path,
    *,
    separator: str = "",
    encoding: str = "",
    names: Sequence[str] = (),
    usual: Sequence[str] = (),
    quoted: bool = True,
) -> Source:
    """Open a table by the ending of its name, packed (.gz, .zip, .bz2, .xz, .zst) or not.

    Args:
        path: ``*.parquet``, ``*.jsonl``, ``*.xlsx``; anything else is text with separated fields.
        separator: of the fields; empty means the one that the first line shows.
        encoding: of the text; empty means UTF-8.
        names: of the columns of a file without a header line.
        usual: the names, in this order, if the first line turns out to be data; () refuses that.
        quoted: whether fields that hold the separator stand in quotes.

    Raises:
        UserError: absent, unreadable, wrongly encoded, or without usable names.
    """
    ending = path.suffix.lower()
    if ending in (".parquet", ".pq"):
        return _parquet(path)
    if ending in (".xlsx", ".xls"):
        return _excel(path)
    data, ending = _unpacked(path)
    if ending in (".jsonl", ".ndjson", ".json"):
        return _json(path, _decode(path, data, encoding or "utf-8"))
    return _text(path, data, ending, separator, encoding, names, usual, quoted)


def read_fields(path: Path, separator: str, names: Sequence[str]) -> pd.DataFrame:
    """Read lines of text fields without header and quotes; the index is the line number.

    Raises:
        UserError: absent, empty, or naming the first line that has not as many fields as names.
    """
    source = open_table(path, separator=separator, names=names, quoted=False, encoding=OLD)
    return source.read(dict.fromkeys(names, "text"))


# ---------------------------------------------------------------- separated text

OLD = "utf-8 or latin-1"
"""The encoding of files from before everybody used UTF-8."""


def _text(
    path: Path,
    data: bytes,
    ending: str,
    separator: str,
    encoding: str,
    names: Sequence[str],
    usual: Sequence[str],
    quoted: bool,
) -> Source:
    if ending in (".inter", ".item"):  # RecBole's atomic files
        separator, quoted = separator or "\t", False
    if encoding in ("", "utf-8"):
        data = data.removeprefix(b"\xef\xbb\xbf")
    else:
        data = _decode(path, data, encoding).encode()
    first = _decode(path, data[: data.find(b"\n") + 1] or data, "utf-8")
    shown, remarks = separator.replace("\\t", "\t"), []
    if not shown:
        shown = "\t" if ending == ".tsv" else max(_MARKS, key=first.count)
        shown = " " if shown not in first and " " in first.strip() else shown
        remarks = [] if shown in ",\t" else [f"{path.name}: fields are separated by {shown!r}"]
    if not shown.isascii() or set(shown) & set('"\r\n'):
        raise UserError(f"separator {separator!r} cannot be one; try ',', ';', '|', '::' or '\\t'.")
    if len(shown) > 1:
        data = data.replace(shown.encode(), _RARE.encode())
    mark, skip, header = shown if len(shown) == 1 else _RARE, 0, list(names)
    if not names:
        reader = _records(data, mark, quoted)
        header, skip = [name.strip() for name in next(filter(None, reader))], reader.line_num
        if any(map(_is_number, header)):
            if not 2 <= len(header) <= len(usual):
                raise UserError(
                    f"{path}, line 1: '{first.strip()[:60]}' is no header line. Put the names of "
                    "the columns above it."
                )
            names, skip = usual[: len(header)], 0
            header = list(names)
            remarks.append(f"{path.name}: no header line; read as {', '.join(names)}")
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise UserError(f"{path}, line 1: column '{repeated[0]}' appears twice. Rename one.")
    form = shown.replace("\t", " ").join(names)
    text = _Text(path, data, header, mark, shown, skip, form, quoted)
    return Source(header, text.read, tuple(remarks))


@dataclass(frozen=True)
class _Text:
    """Separated text that is about to be parsed."""

    path: Path
    data: bytes
    header: list[str]
    mark: str
    shown: str
    """the separator as it stands in the file"""
    skip: int
    """lines above the first record"""
    form: str
    """what a line without a header must look like"""
    quoted: bool

    def read(self, kinds: Mapping[str, str]) -> pd.DataFrame:
        """The columns of `kinds`; one of numbers is text if it holds anything else."""
        wrong: list[pa_csv.InvalidRow] = []
        try:
            table = self._parse(kinds)
        except pa.ArrowException:  # once more, slower: as text, and to find out where
            try:
                table = self._parse(dict.fromkeys(kinds, "text"), wrong)
            except pa.ArrowException as error:
                _decode(self.path, self.data, "utf-8")
                if not wrong:
                    raise UserError(f"{self.path} cannot be read as CSV ({error}).") from error
                raise self._bad(wrong[0]) from error
        frame = table.to_pandas(self_destruct=True, split_blocks=True)
        ends = self.data.count(b"\n") + (not self.data.endswith(b"\n"))
        lines: Iterable[int] = range(self.skip + 1, self.skip + 1 + len(frame))
        if not self.form and ends != len(frame) + self.skip:
            lines = [line for line in self._starts() if line > self.skip]
        return frame.set_axis(pd.Index(lines, name="line"))

    def _parse(self, kinds: Mapping[str, str], wrong: list[Any] | None = None) -> pa.Table:
        def refuse(row: pa_csv.InvalidRow) -> str:
            if wrong is not None:
                wrong.append(row)
            return "error"

        return pa_csv.read_csv(
            pa.BufferReader(self.data),
            read_options=pa_csv.ReadOptions(
                use_threads=wrong is None, column_names=self.header, skip_rows=self.skip
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=self.mark,
                quote_char='"' if self.quoted else False,
                newlines_in_values=self.quoted and b'"' in self.data,
                ignore_empty_lines=not self.form,
                invalid_row_handler=None if wrong is None else refuse,
            ),
            convert_options=pa_csv.ConvertOptions(
                include_columns=list(kinds),
                column_types={n: _TYPES.get(kind, pa.string()) for n, kind in kinds.items()},
                strings_can_be_null=False,
                null_values=[spelling for word in BLANKS for spelling in (word, word.upper())],
            ),
        )

    def _bad(self, row: pa_csv.InvalidRow) -> UserError:
        line = row.number if self.form else self._starts()[row.number - 1]
        remedy = f"Put values that hold the separator {self.shown!r} in quotes."
        if row.actual_columns < row.expected_columns:
            remedy = "Complete the line, or the file if it was cut short."
        return UserError(
            f"{self.path}, line {line}: {row.actual_columns} fields where "
            f"{self.form or 'the header'} has {row.expected_columns} "
            f"('{row.text.replace(_RARE, ' ')[:60]}'). {AGAIN if self.form else remedy}"
        )

    def _starts(self) -> list[int]:
        """The line on which each record starts, the header included; blank lines are none."""
        reader, starts, line = _records(self.data, self.mark, self.quoted), [], 1
        for row in reader:
            starts += [line] if row else []
            line = reader.line_num + 1
        return starts


def _records(data: bytes, mark: str, quoted: bool) -> Any:
    text = TextIOWrapper(BytesIO(data), encoding="utf-8", errors="replace", newline="")
    return csv.reader(text, delimiter=mark, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def _decode(path: Path, data: bytes, encoding: str) -> str:
    if encoding == OLD:
        return decode(data)
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


def decode(data: bytes) -> str:
    """Decode UTF-8, or else Latin-1, which the original MovieLens files use."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


# ---------------------------------------------------------------- packed files


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
    ".zst": lambda path: pa.input_stream(str(path), compression="zstd"),
    ".zip": _member,
}


def _unpacked(path: Path) -> tuple[bytes, str]:
    """A file's bytes without packing, and the ending of the name of what is inside."""
    packed = path.suffix.lower()
    try:
        with _OPENERS.get(packed, Path.open)(path, *([] if packed in _OPENERS else ["rb"])) as file:
            data = file.read()
            inside = getattr(file, "name", "") if packed == ".zip" else path.stem
    except (OSError, EOFError, lzma.LZMAError, zipfile.BadZipFile, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {path}: {reason}.") from error
    if not data[:4096].strip() and not data.strip():
        raise UserError(f"{path} is empty. Put a complete copy in its place.")
    return data, Path(inside).suffix.lower() if packed in _OPENERS else packed


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes, unpacked.

    Raises:
        UserError: when it is absent, empty or cannot be read.
    """
    return _unpacked(path)[0]


# ---------------------------------------------------------------- other forms


def _chosen(frame: pd.DataFrame) -> Source:
    return Source([str(name) for name in frame], lambda kinds: frame[list(kinds)])


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
    return _chosen(pd.DataFrame(list(rows.values()), pd.Index(list(rows), name=kind), dtype=object))


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
    return _chosen(frame.set_axis(pd.RangeIndex(2, len(frame) + 2, name="row")))


def _parquet(path: Path) -> Source:
    read_bytes(path)

    def read(kinds: Mapping[str, str]) -> pd.DataFrame:
        for name in kinds:
            kind = schema.field(name).type
            if pa.types.is_struct(kind) or pa.types.is_map(kind):
                raise UserError(
                    f"{path}, column '{name}': type {kind} cannot be used. Store text or numbers, "
                    "or leave the column out."
                )
        ids = [n for n, k in kinds.items() if k == "id" and schema.field(n).type == pa.string()]
        frame = pq.read_table(path, columns=list(kinds), read_dictionary=ids).to_pandas()
        return frame.set_axis(pd.RangeIndex(1, len(frame) + 1, name="row"))

    try:
        schema = pq.read_schema(path)
        return Source(schema.names, read)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is not a readable parquet file ({error}).") from error


def codes_in(ids: Iterable[str], known: Iterable[str]) -> np.ndarray:
    """Return the position of each id in `known`, int32 [rows], -1 where it is absent."""
    return pd.Index(known).get_indexer(pd.Index(ids, dtype="str")).astype(np.int32)
