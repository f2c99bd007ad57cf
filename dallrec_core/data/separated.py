"""Text with separated fields, as pyarrow parses it, with the line on which each record starts."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv

from dallrec_core.data.checks import BLANKS
from dallrec_core.errors import UserError

_TYPES = {"id": pa.dictionary(pa.int32(), pa.string()), "number": pa.float64()}
_MARKS = (",", "\t", ";", "::", "|")
_RARE = "\x1f"  # stands for separators of several characters


class SeparatedText:
    """A file whose header is read, and whose cells are about to be parsed.

    Args:
        path: of the file, for messages.
        data: its content, in UTF-8 without a byte order mark.
        separator: of the fields; empty means the one that the first line shows.
        names: of the columns, in this order, if the first line holds a number.
        quoted: whether fields that hold the separator stand in quotes.

    Raises:
        UserError: no header line, a column that appears twice.
    """

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
        self.separator = separator
        self.mark = separator if len(separator.encode()) == 1 else _RARE
        if self.mark == _RARE:
            data = data.replace(separator.encode(), self.mark.encode())
        self.data = data
        records = self._records()
        self.header = [name.strip() for name in next(filter(None, records))]
        self.skip = records.line_num  # lines above the first row
        if pd.to_numeric(pd.Series(self.header), errors="coerce").notna().any():
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
        """Parse columns; one of numbers becomes text if it holds anything else.

        Args:
            kinds: of column -> "id", "number" or "text".

        Raises:
            UserError: naming the first line with another number of fields than the header.
        """
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
        return UserError(
            f"{self.path}, line {line}: {row.actual_columns} fields where {expected} has "
            f"{row.expected_columns} ('{row.text.replace(_RARE, ' ')[:60]}'). Correct the line, or "
            "get the file anew if it was cut short. A value that holds the separator stands in "
            "quotes."
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
