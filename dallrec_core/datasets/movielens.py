"""MovieLens-100K and MovieLens-1M (GroupLens; research use, no redistribution).

Every rating is an interaction, as in the paper. Items without a rating stay in the catalogue.
Titles such as ``Matrix, The (1999)`` become ``The Matrix`` with the year beside them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd

from dallrec_core.datasets.base import Dataset, make_dataset
from dallrec_core.datasets.checks import Source
from dallrec_core.datasets.download import locate
from dallrec_core.datasets.tables import decode, read_bytes
from dallrec_core.errors import UserError

GENRES = (
    "unknown|Action|Adventure|Animation|Children's|Comedy|Crime|Documentary|Drama|Fantasy|"
    "Film-Noir|Horror|Musical|Mystery|Romance|Sci-Fi|Thriller|War|Western"
).split("|")
"""MovieLens' genre vocabulary in the order of the flags of ``u.item``."""

_FIELDS = ("user_id", "item_id", "rating", "timestamp")
_YEAR = re.compile(r"\s*\((\d{4})\)(?:\s*\(V\))?\s*$")
_ARTICLE = re.compile(
    r"^(?P<alias>a\.k\.a\. )?(?P<main>.+), "
    r"(?P<article>The|A|An|La|Le|Les|L'|Il|Lo|El|Los|Las|Der|Die|Das|Det|Un|Une)$"
)


def load_ml_100k() -> Dataset:
    """Load MovieLens-100K: 100,000 ratings, 943 users, 1,682 films, with times.

    Raises:
        UserError: files missing and no network, or a malformed line.
    """
    located = locate("ml-100k")
    items = _read_u_item(located.folder / "u.item")
    ratings = read_ratings(located.folder / "u.data", separator="\t")
    return _dataset("ml-100k", ratings, items, ("u.data", "u.item"), located.notes)


def load_ml_1m() -> Dataset:
    """Load MovieLens-1M: 1,000,209 ratings, 6,040 users, 3,883 films (3,706 of them rated).

    ``ratings.dat`` may lack its fourth field; the dataset then has no times.

    Raises:
        UserError: files missing and no network, or a malformed line.
    """
    located = locate("ml-1m")
    items = read_movies(located.folder / "movies.dat")
    ratings = read_ratings(located.folder / "ratings.dat", separator="::")
    return _dataset("ml-1m", ratings, items, ("ratings.dat", "movies.dat"), located.notes)


def _dataset(
    name: str,
    ratings: pd.DataFrame,
    items: pd.DataFrame,
    files: tuple[str, str],
    notes: Sequence[str],
) -> Dataset:
    said = list(notes)
    if "timestamp" not in ratings:
        said.append(f"{files[0]} has no times; a temporal split is not possible")
    if repeated := repeated_titles(items):
        said.append(f"items that share title and year with an earlier one: {repeated}")
    source = Source(files[0], files[1], row="line", item_row="line")
    return make_dataset(ratings, items, name=name, source=source, notes=said)


def read_ratings(path: Path, *, separator: str) -> pd.DataFrame:
    """Read ``user item rating[ time]`` lines; the index is the line number.

    Raises:
        UserError: naming the first line that is not three or four numbers like the first line.
    """
    data = read_bytes(path).rstrip(b"\r\n")
    count = len(data.split(b"\n", 1)[0].split(separator.encode()))
    if count not in (3, 4):
        _refuse_line(path, data, separator, 4)
    columns = _FIELDS[:count]
    kinds = {name: np.float64 if name == "rating" else np.int64 for name in columns}
    try:
        frame = pd.read_csv(
            BytesIO(data.replace(separator.encode(), b"\t")),
            sep="\t",
            names=list(columns),
            dtype=kinds,
            skip_blank_lines=False,
            index_col=False,
            on_bad_lines="error",
        )
    except (ValueError, OverflowError):  # pandas' parser errors are ValueErrors
        _refuse_line(path, data, separator, count)
        raise
    if _separators(data, separator) != len(frame) * (count - 1):
        _refuse_line(path, data, separator, count)
    return frame.set_axis(pd.RangeIndex(1, len(frame) + 1))


def _separators(data: bytes, separator: str) -> int:
    return data.count(separator.encode())


def _refuse_line(path: Path, data: bytes, separator: str, count: int) -> None:
    """Find the first line that is not ``count`` numbers and name it."""
    number = re.compile(rb"\d{1,18}(\.\d+)?\s*$")
    for line, text in enumerate(data.split(b"\n"), start=1):
        fields = text.split(separator.encode())
        if len(fields) != count or not all(number.match(field) for field in fields):
            shown = text[:60].decode("latin-1").strip()
            names = separator.join(_FIELDS[:count])
            raise UserError(
                f"{path}, line {line}: '{shown}' is not of the form {names} with numbers only. "
                "Delete the file to fetch it anew, or correct the line."
            )


def read_movies(path: Path) -> pd.DataFrame:
    """Read ``id::title (year)::genre|genre`` lines; the index is the line number.

    Raises:
        UserError: naming the first line without three fields.
    """
    rows = _split_lines(path, "::", 3, "id::title::genres")
    frame = _with_titles([row[1] for row in rows])
    frame["item_id"] = [row[0] for row in rows]
    frame["attributes"] = [row[2].strip() for row in rows]
    return frame


def _read_u_item(path: Path) -> pd.DataFrame:
    rows = _split_lines(path, "|", 5 + len(GENRES), "id|title|dates|link|19 genre flags")
    frame = _with_titles([row[1] for row in rows])
    frame["item_id"] = [row[0] for row in rows]
    frame["attributes"] = [_flagged(row[5:]) for row in rows]
    return frame


def _flagged(flags: list[str]) -> str:
    """The genres whose flag is 1; "unknown" says nothing and is left out."""
    pairs = zip(flags[1:], GENRES[1:], strict=True)
    return "|".join(genre for flag, genre in pairs if flag.strip() == "1")


def _split_lines(path: Path, separator: str, count: int, form: str) -> list[list[str]]:
    lines = decode(read_bytes(path)).rstrip("\n").split("\n")
    rows = [line.rstrip("\r").split(separator) for line in lines]
    for number, row in enumerate(rows, start=1):
        if len(row) != count:
            raise UserError(
                f"{path}, line {number}: {len(row)} fields instead of {count} ({form}). "
                "Delete the file to fetch it anew, or correct the line."
            )
    return rows


def _with_titles(titles: list[str]) -> pd.DataFrame:
    split = [split_title(title) for title in titles]
    return pd.DataFrame(
        {"title": [title for title, _ in split], "year": [year for _, year in split]},
        index=pd.RangeIndex(1, len(titles) + 1),
    )


def split_title(raw: str) -> tuple[str, int]:
    """Return title and year (0 if none) of e.g. ``Matrix, The (1999)``: ``("The Matrix", 1999)``.

    Other titles in brackets keep their brackets, each with its own article in front.
    """
    found = _YEAR.search(raw)
    title = (raw[: found.start()] if found else raw).strip()
    main, *others = re.split(r"\s*\((?=[^()]*\))", title)
    inner = [other.partition(")") for other in others]
    parts = [f" ({_article_first(text)}){rest}" for text, _, rest in inner]
    return _article_first(main.strip()) + "".join(parts), int(found[1]) if found else 0


def _article_first(title: str) -> str:
    found = _ARTICLE.match(title)
    if not found:
        return title
    gap = "" if found["article"].endswith("'") else " "
    return f"{found['alias'] or ''}{found['article']}{gap}{found['main']}"


def repeated_titles(items: pd.DataFrame) -> int:
    """Number of items that share title and year with an earlier one (MovieLens-100K has some)."""
    counts = Counter(zip(items["title"], items["year"], strict=True))
    return sum(count - 1 for count in counts.values())
