"""Own files as people have them: each kind is a row of a table, with what must come of it."""

from __future__ import annotations

import bz2
import gzip
import io
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from dallrec_core import data as datasets
from dallrec_core.data.base import likes, plural
from dallrec_core.data.columns import attribute_text
from dallrec_core.errors import UserError

RATINGS = "user_id,item_id,rating,timestamp\nu2,b,4,20\nu1,a,5,10\nu1,b,1,30\n"
ITEMS = "item_id,title,year,attributes,author\nb,Dune,1965,Sci-Fi|Adventure,Frank Herbert\n"
ITEMS += "a,Emma,1815,Romance,Jane Austen\n"
PLAIN = {
    "users": ["u1", "u2"],
    "items": ["a", "b"],
    "ratings": [5, 1, 4],
    "times": [10, 30, 20],
    "titles": ["Emma", "Dune"],
    "years": [1815, 1965],
    "attributes": ["Romance", "Sci-Fi|Adventure"],
    "authors": ["Jane Austen", "Frank Herbert"],
}
"""What comes of the two tables above, and of every case that does not say otherwise."""


def observed(data: datasets.Dataset) -> dict[str, list[Any]]:
    columns = {
        "users": data.users["user_id"],
        "items": data.items["item_id"],
        "ratings": data.interactions["rating"],
        "times": data.interactions["timestamp"],
        "titles": data.items["title"],
        "years": data.items["year"],
        "attributes": data.items["attributes"],
        "authors": data.items["author"],
    }
    cells = {name: column.astype(object) for name, column in columns.items()}
    return {name: column.where(column.notna(), None).tolist() for name, column in cells.items()}


def zipped(*names: str, text: str = RATINGS) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for name in names:
            bundle.writestr(name, text)
    return buffer.getvalue()


def parquet(frame: pd.DataFrame) -> bytes:
    return frame.to_parquet()


def frame(text: str, **changed: Any) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text)).assign(**changed)


def lines(text: str) -> str:
    return frame(text).to_json(orient="records", lines=True)


def column(name: str, *cells: object) -> str:
    """The ratings with other cells in a column."""
    return frame(RATINGS, **{name: list(cells)}).to_csv(index=False)


def item(**cells: Sequence[object]) -> str:
    """The items with other cells, those of b first."""
    return frame(ITEMS, **{name: list(each) for name, each in cells.items()}).to_csv(index=False)


def renamed(text: str, **ids: str) -> str:
    """The table with other ids of items."""
    for old, new in ids.items():
        text = re.sub(rf"(?<=[,\n]){old}(?=,)", new, text)
    return text


def header(names: str, text: str = RATINGS) -> str:
    return "\n".join([names, *text.splitlines()[1:]]) + "\n"


def marks(mark: str, text: str = RATINGS) -> str:
    return text.replace(",", mark)


def case(what: str, note: str = "", found: dict[str, Any] | None = None, **files: Any) -> Any:
    return pytest.param(files, note, found or {}, id=what)


BARE = RATINGS.partition("\n")[2]
UNTIMED = {"times": [None] * 3}
SECONDS = (978300760, 978300761, 978300762)
ISO = ("1970-01-01T00:00:20", "1970-01-01 00:00:10", "1970-01-01T00:00:30")
DAYS = ("2003-12-31", "2003-12-30", "2004-01-01")
DATES, FOUR = pd.to_datetime(list(DAYS)), {"times": [1072742400, 1072915200, 1072828800]}
LISTS, NO_GENRES = [["Sci-Fi", "Adventure"], ["Romance"]], "(no genres listed)"
INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + marks("\t", BARE)
ATOMIC = "item_id:token\ttitle:token_seq\tyear:float\tgenres:token_seq\tauthor:token_seq\n"
ATOMIC += 'b\tDune "1"\t1965\tSci-Fi Space_opera\tFrank Herbert\n'
ATOMIC += "a\tEmma\t1815\tRomance\tJane Austen\n"
LATIN = ITEMS.replace("Emma", "Café").encode("latin-1")
# What it is, a part of what the notes say, what comes of it beside PLAIN, and how the two tables
# differ: their content, the names of the files, options.
GOOD = [
    case("as documented"),
    # --- names of columns
    *[
        case(names, note, ratings=header(names))
        for names, note in {
            "userId,movieId,rating,timestamp": "read userId as user_id, movieId as item_id",
            "reviewerID,asin,overall,unixReviewTime": "overall as rating, unixReviewTime as time",
            "session_id,Track-ID,SCORE,Date Time": "Track-ID as item_id",
            "user,item,rate,ts": "user as user_id",
        }.items()
    ],
    case(
        "the noun's own",
        "dish_name as title",
        ratings=header("cook_id,dish_id,rating,timestamp"),
        items=header("dish_id,dish_name,year,attributes,author", ITEMS),
        noun="dish",
        person="cook",
    ),
    case(
        "an attribute's own",
        "id as item_id, name as title, cuisine as attributes",
        items=header("id,name,year,cuisine,author", ITEMS.replace("65", "65.0")),
        attribute="cuisine",
    ),
    case(
        "the one of both files",
        "parent_asin as item_id",
        ratings=frame(RATINGS, asin="x").rename(columns={"item_id": "parent_asin"}).to_csv(),
        items=ITEMS.replace("item_id", "parent_asin"),
    ),
    case(
        "told",
        ratings=header("Person,Buch,Note,Zeit"),
        columns={"user_id": "Person", "item_id": "Buch", "rating": "Note", "timestamp": "Zeit"},
    ),
    case("told: none", "columns not used: timestamp", UNTIMED, columns={"timestamp": ""}),
    case("not used", "not used: clicks", UNTIMED, ratings=RATINGS.replace("timestamp", "clicks")),
    # --- text files
    *[
        case(f"separated by {mark!r}", note, ratings=marks(mark), file=file)
        for mark, file, note in [
            (";", "ratings.csv", "fields are separated by ';'"),
            ("\t", "ratings.txt", ""),
            ("::", "ratings.dat", "separated by '::'"),
            (" ", "ratings.csv", "fields are separated by ' '"),
        ]
    ],
    case(
        "no header, no times",
        "no header line; read as user_id, item_id, rating",
        UNTIMED,
        ratings="u2 b 4.0\nu1 a 5.0\n\nu1 b 1.0\n",
        file="train.txt",
    ),
    case("a byte order mark", ratings="\ufeff" + RATINGS),
    case("line ends of Windows, blank lines", ratings=RATINGS.replace("\n", "\r\n\r\n")),
    case("Latin-1", "", {"titles": ["Café", "Dune"]}, items=LATIN, encoding="latin-1"),
    case(
        "commas and line ends in quotes",
        "",
        {"titles": ["Emma", "Dune,\nPart 1"]},
        items=item(title=["Dune,\nPart 1", "Emma"]),
    ),
    # --- packed, and other forms
    *[
        case(ending, ratings=pack(RATINGS.encode()), file=f"ratings.csv.{ending}")
        for ending, pack in {
            "gz": gzip.compress,
            "bz2": bz2.compress,
            "zst": lambda body: pa.compress(body, "zstd", asbytes=True),
        }.items()
    ],
    case("zip of a Mac", ratings=zipped("f/r.csv", "__MACOSX/._r.csv"), file="r.zip"),
    case("JSON, packed", ratings=gzip.compress(lines(RATINGS).encode()), file="ratings.jsonl.gz"),
    case(
        "parquet with lists",
        "genres as attributes",
        items=parquet(frame(ITEMS, attributes=LISTS).rename(columns={"attributes": "genres"})),
        catalogue="i.parquet",
    ),
    case(
        "RecBole",
        "user_id:token as user_id",
        {"titles": ["Emma", 'Dune "1"'], "attributes": ["Romance", "Sci-Fi|Space opera"]},
        ratings=INTER,
        file="x.inter",
        items=ATOMIC,
        catalogue="x.item",
    ),
    # --- times
    case("dates", "read as UTC where they name no", FOUR, ratings=column("timestamp", *DAYS)),
    case("parquet's own", "", FOUR, ratings=parquet(frame(RATINGS, timestamp=DATES)), file="r.pq"),
    case("dates and times", "read as UTC", ratings=column("timestamp", *ISO)),
    case("fractions of seconds", ratings=column("timestamp", 20.5, 10.0, 30.9)),
    case(
        "with a zone",
        "",
        {"times": [3610, 3630, 3620]},
        ratings=column("timestamp", *(f"{each}-01:00" for each in ISO)),
    ),
    *[
        case(
            unit,
            f"times are {unit} since 1970, by their size",
            {"times": [978300761, 978300762, 978300760]},
            ratings=column("timestamp", *(n * size + size // 8 for n in SECONDS)),
        )
        for unit, size in {"milliseconds": 1000, "microseconds": 1_000_000}.items()
    ],
    # --- attributes
    *[
        case(cells[0], items=item(attributes=cells))
        for cells in [
            ("Sci-Fi, Adventure", "Romance"),
            ("Sci-Fi;Adventure", "['Romance']"),
            ("['Sci-Fi' 'Adventure']", '["Romance"]'),  # as NumPy prints it
            ("[{'id': 8, 'name': 'Sci-Fi'}, {'name': 'Adventure'}]", "Romance"),
        ]
    ],
    case("none", "", {"attributes": [None, None]}, items=item(attributes=["[]", NO_GENRES])),
    # --- ids
    case(
        "ids keep their text",
        "",
        {"items": ["009", "010"]},
        ratings=renamed(RATINGS, a="009", b="010"),
        items=renamed(ITEMS, a="009", b="010"),
    ),
    # --- blanks
    case(
        "blank ratings",
        "column 'rating': 2 cells are blank, interactions without one, which count as likes",
        {"ratings": [None, 1, None]},
        ratings=column("rating", "\\N", "N/A", 1),
    ),
    case("blank years", "'year': 1 ce", {"years": [1815, 0]}, items=item(year=["—", "1815"])),
    case(
        "blank texts, and authors in a list",
        "column 'author': 1 cells such as 'N/A' count as blank",
        {"authors": [None, "F. Herbert, B. Herbert"]},
        items=item(author=["['F. Herbert', 'B. Herbert']", "N/A"]),
    ),
    case(
        "a film of that name", "", {"titles": ["Emma", "None"]}, items=item(title=["None", "Emma"])
    ),
    # --- years in titles
    *[
        case(
            titles[0],
            "the year of 2 items was taken from the title",
            items=frame(ITEMS).assign(title=titles).drop(columns="year").to_csv(index=False),
        )
        for titles in [
            ("Dune (1965)", "Emma [1815]"),
            ("Dune (1965- )", "Emma (1815–1817)"),
            ("Dune (1965) (TV)", "Emma (1815) (V)"),
        ]
    ],
]

PUT = Callable[..., dict[str, Any]]


@pytest.fixture
def write(tmp_path: Path) -> PUT:
    """Write both tables; return the options that load them."""

    def put(
        ratings: str | bytes = RATINGS,
        items: str | bytes = ITEMS,
        file: str = "ratings.csv",
        catalogue: str = "books.csv",
        **options: Any,
    ) -> dict[str, Any]:
        paths = tmp_path / file, tmp_path / catalogue
        for path, body in zip(paths, (ratings, items), strict=True):
            path.write_bytes(body if isinstance(body, bytes) else body.encode())
        settings = {"interactions_path": str(paths[0]), "items_path": paths[1], "noun": "book"}
        return settings | options

    return put


@pytest.mark.parametrize(("files", "note", "found"), GOOD)
def test_what_people_have_works_the_first_time(
    write: PUT, files: dict[str, Any], note: str, found: dict[str, Any]
) -> None:
    data = datasets.load("files", **write(**files))
    assert observed(data) == PLAIN | found
    assert note in "\n".join(data.notes)
    assert not data.dropped


# How the two tables differ, and what is said.
BAD: list[tuple[dict[str, Any], str]] = [
    ({"ratings": header("who,item_id,rating,timestamp")}, "'user_id' is missing; .* has 'who'"),
    ({"ratings": header("asin,user,parent_asin")}, "'asin' and 'parent.* could each be item_id"),
    ({"items": header("id,title,year,tags,topic", ITEMS)}, "'tags' and 'topic' could each be att"),
    ({"ratings": header("user_id,item_id,rating,rating")}, "column 'rating' appears twice"),
    ({"items": ITEMS.partition("\n")[2].replace("b,Dune", "1,Dune")}, "line 1: '1,Dune.* is no h"),
    ({"columns": {"rating": "x"}}, "'rating' is mapped to 'x', which is in none of the files"),
    ({"columns": {"userid": "user_id"}}, "no column of ours 'userid' .did you mean 'user_id'"),
    ({"columns": ["x"]}, r"columns=\['x'\]: Input should be a valid dictionary"),
    ({"seperator": ";"}, "seperator=';': Unexpected keyword .* Its options: interactions_path, it"),
    ({"like_threshold": "mean"}, "like_threshold='mean': Input should be .* 'median' or 'count'"),
    ({"interactions_path": ""}, "interactions_path: there is no file ''"),
    ({"items_path": "absent.csv"}, "items_path: there is no file 'absent.csv'"),
    ({"ratings": RATINGS + "\nu2,b,4,20\n"}, "line 6, .*already on line 2.*duplicates='merge'"),
    ({"ratings": RATINGS + "u2,a,1,2,9\n"}, "csv, line 5: 5 fields where the header has 4"),
    ({"ratings": RATINGS + "u2,a\n"}, "line 5: 2 fields where .* has 4 .* if it was cut short"),
    ({"ratings": BARE + "u2,a\n"}, "line 4: 2 fields where user_id,item_id,rating,timestamp has 4"),
    ({"items": LATIN}, "books.csv, line 3: byte 0xe9 is not valid utf-8.*encoding, .*'latin-1'"),
    ({"ratings": " \n"}, "ratings.csv is empty"),
    ({"ratings": "user_id,item_id\n"}, "ratings.csv: the table has no rows"),
    ({"ratings": zipped("a.csv", "b.csv"), "file": "r.zip"}, "2 files .a.csv, b.csv.; unpack"),
    ({"ratings": gzip.compress(RATINGS.encode())[:-9], "file": "r.csv.gz"}, "read .*r.csv.gz: Tr"),
    ({"ratings": RATINGS, "file": "r.csv.zst"}, "cannot read .*r.csv.zst: .*ZSTD"),
    ({"ratings": RATINGS, "file": "r.zip"}, "cannot read .*r.zip: File is not a zip file"),
    ({"ratings": '{"a": 1}\n{"a"\n', "file": "r.jsonl"}, "r.jsonl, line 2 is no JSON"),
    ({"ratings": "{}\n[1]\n", "file": "r.json"}, "r.json, line 2 is no JSON .* one whole object"),
    (
        {"ratings": '{"user_id": {"$oid": 1}, "item_id": "a"}\n', "file": "r.jsonl"},
        "r.jsonl, line 1, column 'user_id': .* cannot be used",
    ),
    ({"ratings": b"PAR1 no", "file": "r.parquet"}, "r.parquet is not a readable parquet file"),
    (
        {"items": parquet(frame(ITEMS, title=[{"en": "A"}] * 2)), "catalogue": "i.parquet"},
        "i.parquet, row 1, column 'title': .* cannot be used",
    ),
    ({"ratings": column("rating", "4,5", 1, 2)}, "line 2, .*'4,5' is not a .* with a point as"),
    ({"ratings": column("timestamp", 1, 2, "soon")}, "line 4, .*'soon' is not a time from 1970 on"),
    (
        {"ratings": column("timestamp", 978300760, 978300761000, 978300762000)},
        "line 2, column 'timestamp': '978300760' is no time in milliseconds, as most of the column",
    ),
    ({"ratings": column("timestamp", 1, None, 3)}, "line 3, column 'timestamp': the time is m"),
    ({"items": item(attributes=["['Sci-Fi', 'A", "Romance"])}, r"2, .*'\['Sci-Fi', 'A' is not a l"),
    ({"items": item(year=["1965", "18x5"])}, "csv, line 3, column 'year': '18x5' is not a year"),
    ({"items": item(title=[" ", "Emma"])}, "books.csv, line 2, column 'title': the title is empty"),
    ({"ratings": renamed(RATINGS, a="z")}, "line 3, .*item 'z' is not in .*books.csv. Add"),
    (
        {"ratings": renamed(RATINGS, a="9"), "items": renamed(ITEMS, a="009")},
        "line 3, column 'item_id': item '9' is not in .* ids lose zeros in front or gain a '.0'",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("files", "message"), BAD, ids=[message for _, message in BAD])
def test_what_cannot_be_right_is_named(write: PUT, files: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        datasets.load("files", **write(**files))
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- scales of ratings


def scale(*values: float) -> str:
    """Ratings of five users for five items, in turn."""
    rows = [f"{n // 5},{n % 5},{values[n % len(values)]}\n" for n in range(25)]
    return "user_id,item_id,rating\n" + "".join(rows)


FIVE = "item_id,title\n" + "".join(f"{n},Book {n}\n" for n in range(5))
COUNTS = (1, 1, 2, 3, 900)
SCALES: dict[str, tuple[tuple[float, ...], float | str, float | str]] = {
    # the ratings, the threshold, and the likes among 25 or what is said
    "five stars": ((1, 2, 3, 4, 5), 3.0, 15),
    "up to ten": ((6, 7, 8, 9, 10), 3.0, "100% .* 6 to 10, with quartiles 7, 8, 9. Set a like_thr"),
    "up to ten, told": ((6, 7, 8, 9, 10), 8.0, 15),
    "minus three to one": ((-3, -2, 0, 1, 1), 3.0, "0% of 25 .* -3 to 1, with quartiles -2, 0, 1"),
    "play counts": (COUNTS, 1.0, "with quartiles 1, 2, 3. .* or 'count' if they count something"),
    "play counts, told": (COUNTS, "count", 10),
    "each user's own scale": (COUNTS, "median", 15),
}


@pytest.mark.parametrize("case", SCALES)
def test_a_threshold_parts_likes_from_dislikes(write: PUT, case: str) -> None:
    values, threshold, outcome = SCALES[case]
    settings = write(scale(*values), FIVE, like_threshold=threshold)
    if isinstance(outcome, str):
        with pytest.raises(UserError, match=outcome):
            datasets.load("files", **settings)
    else:
        data = datasets.load("files", **settings)
        assert likes(data.interactions, data.like_threshold).sum() == outcome


# ---------------------------------------------------------------- the rest


def test_choices_instead_of_errors_are_counted(write: PUT) -> None:
    ratings = RATINGS + "u2,b,2,99\nu2,z,1,2\n"
    data = datasets.load("files", **write(ratings, duplicates="merge", unknown_items="drop"))
    assert sorted(data.dropped.values()) == [1, 1]
    assert data.interactions["rating"].tolist() == [5, 1, 2]


def test_lines_are_counted_across_blank_ones_and_quoted_line_ends(write: PUT) -> None:
    items = 'item_id,title\nb,"x\ny"\n\na,z\na,"w"\n'
    with pytest.raises(UserError, match="books.csv, line 6, .*item 'a' is already on line 5"):
        datasets.load("files", **write(items=items))


def test_a_folder_of_recbole_in_parts(tmp_path: Path) -> None:
    first, *rows = INTER.splitlines(keepends=True)
    for name, part in (("train", rows[:2]), ("test", rows[2:])):
        (tmp_path / f"x.{name}.inter").write_text(first + "".join(part))
    (tmp_path / "x.item").write_text(ATOMIC)
    data = datasets.load("files", interactions_path=tmp_path)
    assert observed(data)["ratings"] == [5, 1, 4] and data.items["year"].tolist() == [1815, 1965]
    (tmp_path / "x.test.inter").write_text(first + "u1\ta\t5\t1\n")
    with pytest.raises(UserError, match="line 3 of x.train.inter"):
        datasets.load("files", interactions_path=tmp_path)
    (tmp_path / "x.item").unlink()
    with pytest.raises(UserError, match="should hold RecBole's atomic files"):
        datasets.load("files", interactions_path=tmp_path)


def test_attributes_have_one_form() -> None:
    cells = [" Crime | Drama|Crime ", "Science Fiction, Fantasy|Crime", "[REC]", None, "N/A"]
    cells += [["a|b", "c"], [{"name": "x"}, {"id": 1}]]
    texts = ["Crime|Drama", "Science Fiction, Fantasy|Crime", "[REC]", "", "", "a/b|c", "x"]
    assert [attribute_text(cell) for cell in cells] == texts


def test_nouns_in_the_plural() -> None:
    nouns = "movie book dish story toy box bus board_game person".split()
    many = "movies books dishes stories toys boxes buses board_games persons".split()
    assert [plural(noun) for noun in nouns] == many
