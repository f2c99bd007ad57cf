"""Datasets by name: fetched from a local server in the form of their publishers, read, refused."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from file_server import Server, md5, zipped

from dallrec_core import data as datasets
from dallrec_core.data import download
from dallrec_core.data.base import likes
from dallrec_core.data.columns import split_title
from dallrec_core.errors import UserError

FLAGS = {"none": "1" + "|0" * 18, "action": "0|1" + "|0" * 17, "western": "0" + "|0" * 17 + "|1"}
MOVIES = (
    "10::Matrix, The (1999)::Action|Sci-Fi\n"
    "9::City of Lost Children, The (Cité des enfants perdus, La) (1995)::Adventure|Sci-Fi\n"
    "2::Nobody Rated Me (1990)::Drama\n"
)
RATINGS = "1::10::5::978300760\n2::9::2::978300761\n1::9::3::978300762\n"


@pytest.mark.parametrize(
    ("raw", "title", "year"),
    [
        ("Matrix, The (1999)", "The Matrix", 1999),
        ("Bug's Life, A (1998)", "A Bug's Life", 1998),
        ("Misérables, Les (1995)", "Les Misérables", 1995),
        ("Enfer, L' (1994)", "L'Enfer", 1994),
        ("Killer, The (Die xue shuang xiong) (1989)", "The Killer (Die xue shuang xiong)", 1989),
        ("Up (Haut, Le) (a.k.a. Two, The) (1990)", "Up (Le Haut) (a.k.a. The Two)", 1990),
        ("Land Before Time III (1995) (V)", "Land Before Time III", 1995),
        ("Paris, Texas (1984)", "Paris, Texas", 1984),
        ("2001: A Space Odyssey", "2001: A Space Odyssey", 0),
    ],
)
def test_titles(raw: str, title: str, year: int) -> None:
    assert split_title(raw) == (title, year)


# ---------------------------------------------------------------- as their publishers have them

DAT = {"ratings.dat": RATINGS, "movies.dat": MOVIES}
CSV = {
    "ratings.csv": """userId,movieId,rating,timestamp
1,10,4.5,978300760\n2,9,2.0,978300761\n1,9,0.5,978300762\n""",
    "movies.csv": """movieId,title,genres\n10,"Matrix, The (1999)",Action|Sci-Fi
9,Heat (1995),(no genres listed)\n2,Nobody Rated Me,Drama\n""",
    "tags.csv": "userId,movieId,tag,timestamp\n",
}
DAT_FOUND = {
    "titles": ["Nobody Rated Me", "The City of Lost Children (La Cité des enfants perdus)"]
    + ["The Matrix"],
    "attributes": ["Drama", "Adventure|Sci-Fi", "Action|Sci-Fi"],
    "years": [1990, 1995, 1999],
    "ratings": [3, 5, 2],
}
CSV_FOUND = {
    "titles": ["Nobody Rated Me", "Heat", "The Matrix"],
    "attributes": ["Drama", "", "Action|Sci-Fi"],
    "years": [0, 1995, 1999],
    "ratings": [0.5, 4.5, 2],
}
ITEM = f"""1|GoldenEye (1995)|01-Jan-1995||http://x|{FLAGS["action"]}
2|Chasing Amy, The (1997)|||é|{FLAGS["western"]}
3|unknown||||{FLAGS["none"]}
4|GoldenEye (1995)|||http://x|{FLAGS["action"]}
"""
ARTISTS = 'id\tname\turl\tpictureURL\n9\t"Weird Al\thttp://x\t\n10\tMALICE MIZER\thttp://y\tp\n'
PRODUCTS = (
    '{"parent_asin": "B2", "title": "Soap", "categories": ["Beauty", "Bath"], "store": "S",'
    ' "description": ["Smells.", "Cleans."], "details": {"x": 1}, "price": null}\n'
    '{"parent_asin": "B1", "title": "", "categories": [], "description": [], "store": null}\n'
)
REVIEWS = "user_id,parent_asin,rating,timestamp\nAE,B2,5.0,1588687728923\nAF,B1,1.0,1588687728000\n"
BOOKS = """book_id,best_book_id,isbn,authors,original_publication_year,title,original_title
1,7,439023483,Suzanne Collins,2008.0,"The Hunger Games (#1)",x
2,8,1,Homer,-720.0,Iliad,
"""

# The name, what lies at its publisher's (with the folder in the archive), and what is found in it.
PUBLISHED: dict[str, tuple[dict[str, str | bytes], dict[str, Any]]] = {
    "ml-100k": (
        {"ml-100k/u.data": "7\t1\t3\t881250949\n7\t3\t1\t881250950\n",
         "ml-100k/u.item": ITEM.encode("latin-1")},
        {"titles": ["GoldenEye", "The Chasing Amy", "unknown", "GoldenEye"],
         "attributes": ["Action", "Western", "", "Action"], "ratings": [3, 1],
         "notes": ("items that share title and year with an earlier one: 1",)},
    ),
    "ml-1m": ({f"ml-1m/{n}": text.encode("latin-1") for n, text in DAT.items()}, DAT_FOUND),
    "ml-10m": ({f"ml-10M100K/{name}": text for name, text in DAT.items()}, DAT_FOUND),
    **{
        name: ({f"{name}/{file}": text for file, text in CSV.items()}, CSV_FOUND)
        for name in ("ml-20m", "ml-25m", "ml-32m", "ml-latest", "ml-latest-small")
    },
    "lastfm-2k": (
        {"user_artists.dat": "userID\tartistID\tweight\n2\t9\t13883\n2\t10\t11690\n3\t9\t7\n",
         "artists.dat": ARTISTS,
         "user_taggedartists.dat": "userID\tartistID\ttagID\tday\n2\t9\t1\t1\n3\t9\t2\t1\n"
         "4\t9\t2\t1\n2\t10\t3\t1\n",
         "tags.dat": b"tagID\ttagValue\n1\tmetal\n2\tsinger, songwriter\n3\tvis\xe9\n"},
        {"titles": ['"Weird Al', "MALICE MIZER"], "ratings": [13883, 11690, 7],
         "attributes": ["singer, songwriter|metal", "visé"], "noun": "artist", "likes": [1, 0, 0]},
    ),
    "amazon-2023": (
        {"benchmark/0core/rating_only/All_Beauty.csv.gz": gzip.compress(REVIEWS.encode()),
         "raw/meta_categories/meta_All_Beauty.jsonl.gz": gzip.compress(PRODUCTS.encode())},
        {"titles": ["Soap"], "attributes": ["Beauty|Bath"], "ratings": [5], "noun": "product",
         "times": [1588687728], "texts": ["Smells. Cleans."], "left out": [1, 1]},
    ),
    "goodbooks-10k": (
        {"ratings.csv": "user_id,book_id,rating\n1,2,5\n1,1,3\n", "books.csv": BOOKS},
        {"titles": ["The Hunger Games (#1)", "Iliad"], "years": [2008, -720], "ratings": [3, 5],
         "noun": "book"},
    ),
}  # fmt: skip


def publish(server: Server, name: str, files: dict[str, str | bytes]) -> download.Origin:
    """Put the files of a dataset on the server, in the form in which `origins.yml` expects them."""
    bodies = {path: f.encode() if isinstance(f, str) else f for path, f in files.items()}
    known = download.ORIGINS[name]
    url, archive = f"{server.url}/{name}", known.archive
    if known.url.endswith(".zip"):
        body = zipped(bodies)
        url, archive = f"{url}.zip", known.archive and md5(body)
        bodies = {".zip": body}
    else:
        bodies = {f"/{path}": body for path, body in bodies.items()}
    server.bodies |= {f"/{name}{path}": body for path, body in bodies.items()}
    return replace(known, url=url, archive=archive, files=dict.fromkeys(known.files, ""))


@pytest.mark.parametrize("name", PUBLISHED)
def test_fetched_and_read(
    server: Server, store: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    files, expected = PUBLISHED[name]
    monkeypatch.setitem(download.ORIGINS, name, publish(server, name, files))
    assert not download.is_here(name)
    said = datasets.fetch_or_verify(name)
    assert any("unpacked into" in line or "fetched into" in line for line in said)
    unknown = ("ml-latest", "ml-latest-small", "goodbooks-10k")
    assert ("not verified" in said[1]) == (name in unknown)
    data = datasets.load(name)
    frame, items = data.interactions, data.items
    found = {
        "titles": items["title"].tolist(),
        "attributes": items["attributes"].fillna("").tolist(),
        "years": items["year"].tolist(),
        "ratings": frame["rating"].tolist(),
        "times": frame["timestamp"].tolist(),
        "texts": items["text"].tolist(),
        "noun": data.noun,
        "likes": likes(frame, data.like_threshold).tolist(),
        "left out": list(data.dropped.values()),
        "notes": data.notes,
    }
    assert {key: found[key] for key in expected} == expected and data.name == name


def test_another_threshold_and_category(server: Server, store: Path, monkeypatch: Any) -> None:
    beauty = PUBLISHED["amazon-2023"][0]
    files = {path.replace("All_Beauty", "Toys"): body for path, body in beauty.items()}
    monkeypatch.setitem(download.ORIGINS, "amazon-2023", publish(server, "amazon-2023", files))
    data = datasets.load("amazon-2023", category="Toys", like_threshold=5.0)
    assert data.like_threshold == 5 and data.n_items == 1
    with pytest.raises(UserError, match="category='../x': String should match"):
        datasets.load("amazon-2023", category="../x")


# ---------------------------------------------------------------- files put there by hand


@pytest.fixture
def place(store: Path) -> Path:
    """The folder of ml-1m with its two files."""
    folder = store / "ml-1m"
    folder.mkdir()
    for name, text in DAT.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_ml_1m_without_times(place: Path) -> None:
    data = datasets.load("ml-1m")
    assert data.has_timestamps and data.like_threshold == 3
    assert any("movies.dat differs from the original edition" in note for note in data.notes)
    (place / "ratings.dat").write_text("1::10::5\r\n2::9::2\r\n1::9::3.5\r\n")
    data = datasets.load("ml-1m")
    assert data.interactions["rating"].tolist() == [3.5, 5, 2] and not data.has_timestamps


BAD_FILES = [
    ("ratings.dat", "1::10::5\n\n1::9\n", "line 3: 2 fields where user_id::item_id::rating has 3"),
    ("ratings.dat", "1::10::5::1\n1::9::", "line 2: 3 fields where .* has 4 .*get the file anew"),
    ("ratings.dat", "1::10::5\n1::77::5\n", "line 2, .*'77' is not in .*movies.dat"),
    ("ratings.dat", "<html>\n", "ratings.dat: column 'user_id' is missing; the file has '<html>'"),
    ("movies.dat", "1::A (1990)::Drama\n2::B\n", "line 2: 2 fields where item_id::title::attr"),
]


@pytest.mark.parametrize(("name", "text", "message"), BAD_FILES)
def test_bad_files_name_the_line(place: Path, name: str, text: str, message: str) -> None:
    (place / name).write_text(text)
    with pytest.raises(UserError, match=message):
        datasets.load("ml-1m")


# ---------------------------------------------------------------- the real files


@pytest.mark.skipif(not download.is_here("ml-100k"), reason="needs ml-100k")
def test_real_ml_100k() -> None:
    data = datasets.load("ml-100k")
    assert (len(data.interactions), data.n_users, data.n_items) == (100_000, 943, 1_682)
    assert data.has_timestamps
    film = data.items.set_index("item_id").loc["50"]
    assert (film["title"], film["year"]) == ("Star Wars", 1977)
    assert film["attributes"] == "Action|Adventure|Romance|Sci-Fi|War"
    assert data.notes == ("items that share title and year with an earlier one: 18",)


@pytest.mark.skipif(not download.is_here("ml-1m"), reason="needs ml-1m")
def test_real_ml_1m_in_three_seconds() -> None:
    data = datasets.load("ml-1m")
    assert (len(data.interactions), data.n_users, data.n_items) == (1_000_209, 6_040, 3_883)
    assert data.interactions["item"].nunique() == 3_706
    film = data.items.set_index("item_id").loc["2571"]
    assert (film["title"], film["year"]) == ("The Matrix", 1999)
    assert not data.items["title"].str.contains(r", (?:The|A|An)$").any()
    assert pd.Series(data.interactions["rating"]).between(1, 5).all()
