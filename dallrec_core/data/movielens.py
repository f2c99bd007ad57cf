"""MovieLens-100K and MovieLens-1M (GroupLens; research use, no redistribution).

Every rating is an interaction, as in the paper. Items without a rating stay in the catalogue.
Titles such as ``Matrix, The (1999)`` become ``The Matrix`` with the year beside them.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from dallrec_core.data.base import Dataset, make_dataset
from dallrec_core.data.checks import Table
from dallrec_core.data.download import Located, locate
from dallrec_core.data.tables import decode, read_bytes, read_fields

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
    others = ("released", "video", "link")
    names = ("item_id", "title", *others, *GENRES)
    items = _dated(read_fields(located.folder / "u.item", "|", names))
    flags = items[GENRES[1:]].apply(lambda column: column.str.strip() == "1")  # not "unknown"
    items["attributes"] = ["|".join(flags.columns[row]) for row in flags.to_numpy()]
    items = items[["item_id", "title", "year", "attributes"]]
    return _dataset("ml-100k", located, Table(items, "u.item"), "u.data", "\t")


def load_ml_1m() -> Dataset:
    """Load MovieLens-1M: 1,000,209 ratings, 6,040 users, 3,883 films (3,706 of them rated).

    ``ratings.dat`` may lack its fourth field; the dataset then has no times.

    Raises:
        UserError: files missing and no network, or a malformed line.
    """
    located = locate("ml-1m")
    items = read_movies(located.folder / "movies.dat")
    return _dataset("ml-1m", located, Table(items, "movies.dat"), "ratings.dat", "::")


def _dataset(name: str, located: Located, items: Table, file: str, separator: str) -> Dataset:
    """Read the ratings: lines of ``user item rating[ time]``, as many fields as the first has."""
    path, notes = located.folder / file, list(located.notes)
    first = decode(read_bytes(path)).partition("\n")[0]
    timed = first.count(separator) != len(_FIELDS) - 2
    ratings = read_fields(path, separator, _FIELDS if timed else _FIELDS[:-1])
    if not timed:
        notes.append(f"{file} has no times; a temporal split is not possible")
    # items that share title and year with an earlier one (MovieLens-100K has some)
    if repeated := int(items.frame.duplicated(["title", "year"]).sum()):
        notes.append(f"items that share title and year with an earlier one: {repeated}")
    return make_dataset(Table(ratings, file), items, name=name, notes=tuple(notes))


def read_movies(path: Path) -> pd.DataFrame:
    """Read ``id::title (year)::genre|genre`` lines; the index is the line number.

    Raises:
        UserError: naming the first line without three fields.
    """
    return _dated(read_fields(path, "::", ("item_id", "title", "attributes")))


def _dated(items: pd.DataFrame) -> pd.DataFrame:
    """The items with the year taken off their titles."""
    pairs = [split_title(title) for title in items["title"]]
    return items.assign(title=[title for title, _ in pairs], year=[year for _, year in pairs])


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
