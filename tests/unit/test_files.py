"""Own files: CSV and parquet, mapped columns, and one clear message for each mistake."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dallrec_core import data as datasets
from dallrec_core.data.files import normal_attributes
from dallrec_core.data.tables import read_table_file
from dallrec_core.errors import UserError

RATINGS = "user_id,item_id,rating,timestamp\nu2,b,4,20\nu1,a,5,10\nu1,b,1,30\n"
BOOKS = (
    "item_id,title,year,attributes,author,text\n"
    'b,"Dune, Part 1",1965,"Sci-Fi, Adventure",Frank Herbert,A desert.\n'
    "a,Emma,,Romance|Classic|Romance,Jane Austen,\n"
)


@pytest.fixture
def write(tmp_path):
    def put(ratings: str | bytes = RATINGS, items: str | bytes = BOOKS, **options):
        paths = tmp_path / "ratings.csv", tmp_path / "books.csv"
        for path, body in zip(paths, (ratings, items), strict=True):
            path.write_bytes(body if isinstance(body, bytes) else body.encode())
        settings = {"interactions_path": str(paths[0]), "items_path": paths[1], "noun": "book"}
        return settings | options

    return put


def test_csv(write):
    data = datasets.load("files", **write())
    assert (data.name, data.noun, data.n_users, data.n_items) == ("files", "book", 2, 2)
    assert data.items["title"].tolist() == ["Emma", "Dune, Part 1"]
    assert data.items["attributes"].tolist() == ["Romance|Classic", "Sci-Fi|Adventure"]
    assert data.items["year"].tolist() == [0, 1965]
    assert data.items["author"].tolist() == ["Jane Austen", "Frank Herbert"]
    assert data.items["text"].isna().tolist() == [True, False]
    assert data.interactions["rating"].tolist() == [5, 1, 4]


def test_mapped_columns_separator_and_encoding(write):
    ratings = "Person;Buch;Note\nu1;b;3\nu2;a;5\n".encode("latin-1")
    items = "Nr;Titel\nb;Fräulein Smilla\na;Café\n".encode("latin-1")
    columns = {"user_id": "Person", "interactions.item_id": "Buch", "items.item_id": "Nr"}
    columns |= {"rating": "Note", "title": "Titel"}
    settings = write(ratings, items, columns=columns, separator=";", encoding="latin-1")
    data = datasets.load("files", **settings)
    assert data.items["title"].tolist() == ["Café", "Fräulein Smilla"]
    assert data.interactions["rating"].tolist() == [3, 5]


def test_movielens_latest_csv_needs_only_a_mapping(write):
    ratings = "userId,movieId,rating,timestamp\n1,1,4.0,964982703\n1,3,3.5,964981247\n"
    items = "movieId,title,genres\n1,Toy Story (1995),Adventure|Comedy\n"
    items += '3,"Matrix, The (1999)",(no genres listed)\n'
    columns = {"user_id": "userId", "item_id": "movieId", "attributes": "genres"}
    data = datasets.load("files", **write(ratings, items, columns=columns, noun="movie"))
    assert data.items["title"].tolist() == ["Toy Story", "The Matrix"]
    assert data.items["year"].tolist() == [1995, 1999]
    assert data.items["attributes"].isna().tolist() == [False, True]
    assert "the year of 2 items was taken from the title" in data.notes[-1]


def test_columns_that_are_not_used_are_told(write):
    data = datasets.load("files", **write(RATINGS.replace("timestamp", "clicks")))
    assert "ratings.csv: columns not used: clicks" in data.notes
    assert not data.has_timestamps


def test_parquet(tmp_path):
    ratings = pd.DataFrame({"user_id": [2, 1], "item_id": [10, 9], "rating": [1.0, 2.0]})
    ratings.to_parquet(tmp_path / "r.parquet")
    items = pa.table({"item_id": [9, 10], "title": ["A", "B"], "attributes": [["X", "Y"], None]})
    pq.write_table(items, tmp_path / "i.parquet")
    paths = {"interactions_path": tmp_path / "r.parquet", "items_path": tmp_path / "i.parquet"}
    data = datasets.load("files", **paths)
    assert data.items["attributes"].fillna("").tolist() == ["X|Y", ""]
    assert data.items["item_id"].tolist() == ["9", "10"]
    ratings.assign(item_id=[10, 8]).to_parquet(tmp_path / "r.parquet")
    with pytest.raises(UserError, match="r.parquet, row 2, column 'item_id': item '8' is not in"):
        datasets.load("files", **paths)
    pq.write_table(pa.table({"item_id": [9], "title": [{"en": "A"}]}), tmp_path / "i.parquet")
    with pytest.raises(UserError, match="i.parquet, column 'title': type struct"):
        datasets.load("files", **paths)
    (tmp_path / "i.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match="i.parquet is not a readable parquet file"):
        datasets.load("files", **paths)


def test_attributes_are_normalised():
    assert normal_attributes(" Crime | Drama|Crime ") == "Crime|Drama"
    assert normal_attributes("Crime, Drama") == "Crime|Drama"
    assert normal_attributes("Science Fiction, Fantasy|Crime") == "Science Fiction, Fantasy|Crime"
    assert normal_attributes(None) == ""


def test_line_numbers_survive_blank_lines_and_quoted_newlines(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('a,b\n1,"x\ny"\n\n2,z\n3,"w"\n')
    table = read_table_file(path)
    assert table.index.tolist() == [2, 5, 6]
    assert table["b"].tolist() == ["x\ny", "z", "w"]
    path.write_text("\ufeffa,b\r\n1,2\r\n")
    assert read_table_file(path).columns.tolist() == ["a", "b"]


MAPPED = {"ratings": "user_id,item_id,Note\nu,a,x\n", "columns": {"rating": "Note"}}
LATIN = BOOKS.replace("Emma", "Café").encode("latin-1")
BAD = [
    ({"ratings": "user,item_id\n1,a\n"}, "'user_id' is missing; the file has 'user', .*Rename it"),
    ({"ratings": RATINGS.replace(",", ";")}, "The only column is .*: .* option separator=';'"),
    (MAPPED, "ratings.csv, line 2, column 'Note': 'x' is not a finite number"),
    ({"ratings": RATINGS + "\nu2,b,4,20\n"}, "line 6, .*already on line 2.*duplicates='merge'"),
    ({"ratings": RATINGS + "u2,a,1,2,9\n"}, "csv, line 5: 5 fields where the header has 4"),
    ({"ratings": RATINGS + "u2,a\n"}, "line 5: 2 fields where .* has 4 .* if it was cut short"),
    ({"items": LATIN}, "books.csv, line 3: byte 0xe9 is not valid utf-8.*encoding, .*'latin-1'"),
    ({"encoding": "utf-9"}, "encoding 'utf-9' is not known"),
    ({"ratings": " \n"}, "ratings.csv is empty"),
    ({"ratings": "user_id,item_id\n"}, "ratings.csv: the table has no rows"),
    ({"ratings": "user_id,item_id,item_id\n1,a,a\n"}, "'item_id' appears twice"),
    ({"separator": "::"}, "separator '::' must be a single character"),
    ({"interactions_path": ""}, "dataset 'files' needs interactions_path"),
    ({"items_path": "absent.csv"}, "items_path: there is no file absent.csv"),
    ({"columns": {"rating": "x"}}, "'x', which is not in .*ratings.csv or .*books.csv"),
    ({"columns": {"userid": "user_id"}}, "'userid' is none of our columns"),
    ({"columns": ["x"]}, r"columns should be a valid dictionary, but is \['x'\]"),
    ({"noun": "song"}, "noun should be 'movie' or 'book', but is 'song'"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[message for _, message in BAD])
def test_mistakes(write, options, message):
    with pytest.raises(UserError, match=message) as caught:
        datasets.load("files", **write(**options))
    assert "\n" not in str(caught.value)


def test_choices_instead_of_errors_are_counted(write):
    ratings = RATINGS + "u2,b,2,99\nu2,z,1,2\n"
    data = datasets.load("files", **write(ratings, duplicates="merge", unknown_items="drop"))
    assert sorted(data.dropped.values()) == [1, 1]
    assert data.interactions["rating"].tolist() == [5, 1, 2]
