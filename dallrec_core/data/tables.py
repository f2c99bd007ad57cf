"""Read tables strictly: no row is skipped, ids stay text, and every row keeps its number.

CSV in any dress, JSON lines and parquet meet in a frame whose index holds line numbers
(text) or row numbers. :func:`open_table` reads the names of the columns, so that the caller can
say what each is before the cells are read: a column of numbers never becomes text on the way.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dallrec_core.data.checks import Table
from dallrec_core.data.separated import SeparatedText
from dallrec_core.errors import UserError

OLD = "utf-8 or latin-1"
"""The encoding of files from before everybody used UTF-8."""
PACKED = (".gz", ".zip", ".bz2", ".zst")
"""Endings of packed files."""
KINDS = {"user_id": "id", "item_id": "id"} | dict.fromkeys(
    ("rating", "timestamp", "year", "p_yes"), "number"
)
"""What the cells of our columns are; of all others: text."""


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
    """Open a table by the ending of its name, packed (.gz, .zip, .bz2, .zst) or not.

    Args:
        path: ``*.parquet``, ``*.jsonl``; anything else is text with separated fields.
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
    text, ending = _unpacked(path, encoding or "utf-8")
    if ending in (".jsonl", ".ndjson", ".json"):
        return _json(path, text)
    if ending in (".inter", ".item"):  # RecBole's atomic files
        separator, quoted = separator or "\t", False
    table = SeparatedText(path, text.encode(), separator, names, quoted)
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
        held = f"{len(names)} files ({', '.join(names[:5])})"
        raise UserError(f"{path} holds {held}; unpack it and name one.")
    return bundle.open(names[0])


def _unpacked(path: Path, encoding: str) -> tuple[str, str]:
    """A file's text without packing, and the ending of the name of what is inside."""
    packed = path.suffix.lower()
    try:
        with _member(path) if packed == ".zip" else pa.input_stream(path) as file:
            data = file.read()
            inside = file.name if packed == ".zip" else path.stem
    except (OSError, zipfile.BadZipFile, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {path}: {reason}.") from error
    text = _decoded(path, data, encoding)
    if not text[:4096].strip() and not text.strip():
        raise UserError(f"{path} is empty. Put a complete copy in its place.")
    return text, Path(inside).suffix.lower() if packed in PACKED else packed


def _decoded(path: Path, data: bytes, encoding: str) -> str:
    """Text without a byte order mark; of two encodings ("utf-8 or latin-1") the first that fits."""
    encoding, _, other = encoding.partition(" or ")
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        if other:
            return _decoded(path, data, other)
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not valid {encoding}. Save "
            "the file as UTF-8, or give the option encoding, e.g. 'latin-1' or 'cp1252'."
        ) from error


# ---------------------------------------------------------------- other forms


def _whole(path: Path, frame: pd.DataFrame) -> Source:
    return Source(path, [str(name) for name in frame], lambda kinds: frame[list(kinds)])


def _json(path: Path, text: str) -> Source:
    """JSON lines: one object each."""
    rows = {}
    for number, line in enumerate(text.split("\n"), start=1):  # a text may hold U+2028
        if line.strip():
            try:
                rows[number] = dict(json.loads(line))
            except (TypeError, ValueError) as error:
                remedy = "Each line must be one whole object."
                raise UserError(f"{path}, line {number} is no JSON ({error}). {remedy}") from error
    index = pd.Index(list(rows), name="line")
    return _whole(path, pd.DataFrame(list(rows.values()), index, dtype=object))


def _parquet(path: Path) -> Source:
    def cells(kinds: Mapping[str, str]) -> pd.DataFrame:
        frame = pq.read_table(path, columns=list(kinds)).to_pandas()
        return frame.set_axis(pd.RangeIndex(1, len(frame) + 1, name="row"))

    try:
        return Source(path, pq.read_schema(path).names, cells)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is not a readable parquet file ({error}).") from error
