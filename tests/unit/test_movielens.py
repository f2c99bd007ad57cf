"""MovieLens files: titles, years, genres, both layouts, and lines that are wrong."""

from __future__ import annotations

import os
import time

import pandas as pd
import pytest

from dallrec_core import data as datasets
from dallrec_core.data.movielens import split_title
from dallrec_core.data.splits import split
from dallrec_core.errors import UserError

FLAGS = {"none": "1" + "|0" * 18, "action": "0|1" + "|0" * 17, "western": "0" + "|0" * 17 + "|1"}
MOVIES = (
    "10::Matrix, The (1999)::Action|Sci-Fi\n"
    "9::City of Lost Children, The (Cité des enfants perdus, La) (1995)::Adventure|Sci-Fi\n"
    "2::Nobody Rated Me (1990)::Drama\n"
)
RATINGS = "1::10::5::978300760\n2::9::2::978300761\n1::9::3::978300762\n"


@pytest.fixture
def store(tmp_path, monkeypatch):
    for name in ("ml-1m", "ml-100k"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("DALLREC_DATA_DIR", str(tmp_path))
    (tmp_path / "ml-1m" / "movies.dat").write_text(MOVIES, encoding="latin-1")
    (tmp_path / "ml-1m" / "ratings.dat").write_text(RATINGS)
    return tmp_path


@pytest.mark.parametrize(
    ("raw", "title", "year"),
    [
        ("Toy Story (1995)", "Toy Story", 1995),
        ("Matrix, The (1999)", "The Matrix", 1999),
        ("Bug's Life, A (1998)", "A Bug's Life", 1998),
        ("Misérables, Les (1995)", "Les Misérables", 1995),
        ("Enfer, L' (1994)", "L'Enfer", 1994),
        ("Killer, The (Die xue shuang xiong) (1989)", "The Killer (Die xue shuang xiong)", 1989),
        ("Up (Haut, Le) (a.k.a. Two, The) (1990)", "Up (Le Haut) (a.k.a. The Two)", 1990),
        ("Land Before Time III (1995) (V)", "Land Before Time III", 1995),
        ("Paris, Texas (1984)", "Paris, Texas", 1984),
        ("2001: A Space Odyssey (1968)", "2001: A Space Odyssey", 1968),
        ("unknown", "unknown", 0),
    ],
)
def test_titles(raw, title, year):
    assert split_title(raw) == (title, year)


def test_ml_1m_with_and_without_times(store):
    data = datasets.load("ml-1m")
    assert data.items["title"].tolist() == [
        "Nobody Rated Me",
        "The City of Lost Children (La Cité des enfants perdus)",
        "The Matrix",
    ]
    assert data.items["attributes"].tolist() == ["Drama", "Adventure|Sci-Fi", "Action|Sci-Fi"]
    assert data.items["year"].tolist() == [1990, 1995, 1999]
    assert data.interactions["rating"].tolist() == [3, 5, 2]
    assert data.has_timestamps and data.like_threshold == 3
    assert any("movies.dat differs from the original edition" in note for note in data.notes)
    (store / "ml-1m" / "ratings.dat").write_text("1::10::5\r\n2::9::2\r\n1::9::3.5\r\n")
    data = datasets.load("ml-1m")
    assert data.interactions["rating"].tolist() == [3.5, 5, 2]
    assert any("has no times" in note for note in data.notes)
    with pytest.raises(UserError, match="split 'temporal' needs the time"):
        split(data, "temporal")


def test_utf8_movies_are_read_too(store):
    (store / "ml-1m" / "movies.dat").write_text(MOVIES, encoding="utf-8")
    assert "Cité" in datasets.load("ml-1m").items["title"][1]


def test_ml_100k(store):
    lines = [
        f"1|GoldenEye (1995)|01-Jan-1995||http://x|{FLAGS['action']}",
        f"2|Chasing Amy, The (1997)|||é|{FLAGS['western']}",
        f"3|unknown||||{FLAGS['none']}",
        f"4|GoldenEye (1995)|||http://x|{FLAGS['action']}",
    ]
    (store / "ml-100k" / "u.item").write_text("\n".join(lines) + "\n", encoding="latin-1")
    (store / "ml-100k" / "u.data").write_text("7\t1\t3\t881250949\n7\t3\t1\t881250950\n")
    data = datasets.load("ml-100k")
    assert data.items["title"].tolist() == ["GoldenEye", "The Chasing Amy", "unknown", "GoldenEye"]
    assert data.items["attributes"].fillna("-").tolist() == ["Action", "Western", "-", "Action"]
    assert any("an earlier one: 1" in note for note in data.notes)


BAD_RATINGS = {
    "too few": ("1::10::5::1\n1::9::3\n", "line 2: 3 fields where user_id::item_id::rating::time"),
    "no rating": ("1::10::5\n1::9\n", "line 2: 2 fields where user_id::item_id::rating has 3"),
    "too many": ("1::10::5\n1::9::3::7\n", "line 2: 4 fields where user_id::item_id::rating has 3"),
    "blank": ("1::10::5\n\n1::9::3\n", "line 2, column 'user_id': the id is empty"),
    "cut off": ("1::10::5::1\n1::9::", "line 2: 3 fields where .* has 4 .*Delete the file"),
    "unknown film": ("1::10::5\n1::77::5\n", "line 2, .*'77' is not in movies.dat"),
    "other file": ("<html>\n", "line 1: 1 fields where user_id::item_id"),
    "empty": ("\n", "ratings.dat is empty"),
}


@pytest.mark.parametrize("case", BAD_RATINGS)
def test_bad_ratings_name_the_line(store, case):
    text, message = BAD_RATINGS[case]
    (store / "ml-1m" / "ratings.dat").write_text(text)
    with pytest.raises(UserError, match=message):
        datasets.load("ml-1m")


def test_bad_movies_name_the_line(store):
    (store / "ml-1m" / "movies.dat").write_text("1::A (1990)::Drama\n2::B\n")
    with pytest.raises(UserError, match="movies.dat, line 2: 2 fields where item_id::title::attr"):
        datasets.load("ml-1m")


needs_data = pytest.mark.skipif(
    not os.environ.get("DALLREC_DATA_DIR"), reason="needs DALLREC_DATA_DIR with the real files"
)


@needs_data
def test_real_ml_100k():
    data = datasets.load("ml-100k")
    assert (len(data.interactions), data.n_users, data.n_items) == (100_000, 943, 1_682)
    assert data.has_timestamps
    film = data.items.set_index("item_id").loc["50"]
    assert (film["title"], film["year"]) == ("Star Wars", 1977)
    assert film["attributes"] == "Action|Adventure|Romance|Sci-Fi|War"
    assert data.notes == ("items that share title and year with an earlier one: 18",)


@needs_data
def test_real_ml_1m_in_three_seconds():
    start = time.process_time()
    data = datasets.load("ml-1m")
    assert time.process_time() - start < 3
    assert (len(data.interactions), data.n_users, data.n_items) == (1_000_209, 6_040, 3_883)
    assert data.interactions["item"].nunique() == 3_706
    film = data.items.set_index("item_id").loc["2571"]
    assert (film["title"], film["year"]) == ("The Matrix", 1999)
    assert not data.items["title"].str.contains(r", (?:The|A|An)$").any()
    assert pd.Series(data.interactions["rating"]).between(1, 5).all()
