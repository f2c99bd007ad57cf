"""Book-Crossing: a dump with broken quoting, and the released split with its damaged ISBNs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dallrec_core import data as datasets
from dallrec_core.data import books, download
from dallrec_core.data.splits import split, split_report
from dallrec_core.errors import UserError

HEADER = '"User-ID";"ISBN";"Book-Rating"'
IMAGES = '"http://x/s.jpg";"http://x/m.jpg";"http://x/l.jpg"'
BOOKS_HEADER = (
    '"ISBN";"Book-Title";"Book-Author";"Year-Of-Publication";"Publisher";'
    '"Image-URL-S";"Image-URL-M";"Image-URL-L"'
)
BOOKS = (
    f'"0000000001";"A Child Called \\"It\\": Courage";"Dave Pelzer";"1995";"HCI";{IMAGES}',
    f'"0000000002";"Les Misérables &amp; more";"Hugo, Victor";"0";"Gallimard";{IMAGES}',
    f'"0000000003";"Readers (Level 4)\\";Michael Teitelbaum";"2000";"DK";{IMAGES}',
    f'"000000004x";"She said "no"; twice";"Not Applicable (Na )";"2050";"N/A";{IMAGES}',
    f'"0000000005";"Cut ";" in two";"Nobody";"1999";"P";{IMAGES}',
    f'"0000000009";"Nobody Read Me";"A. Author";"1999";"P";{IMAGES}',
)
RATINGS = (
    '"1";"0000000001";"0"',
    '"1";"0000000002";"8"',
    '"1";"0000000003";"5"',
    '"2";"0000000001";"10"',
    '"2";"000000004X";"7"',
    '"2";"0000000005";"0"',
    '"3";"1";"6"',  # lost its zeros
    '"3";"000000004x";"0"',  # and the same book twice, in two spellings
    '"3";"000000004X";"9"',
    '"3";"0000000002";"0"',
)


@pytest.fixture
def folder(store):
    place = store / "bookcrossing"
    place.mkdir()
    write(place / "BX-Book-Ratings.csv", HEADER, *RATINGS)
    write(place / "BX-Books.csv", BOOKS_HEADER, *BOOKS)
    return place


def write(path, *lines, encoding="latin-1"):
    path.write_bytes(("\r\n".join(lines) + "\r\n").encode(encoding))


def load(**options):
    return datasets.load("book-crossing", **({"min_interactions": 0} | options))


def titles(data) -> dict[str, str]:
    return dict(zip(data.items["item_id"], data.items["title"], strict=True))


def test_broken_quoting_is_read_or_counted(folder):
    data = load()
    assert data.noun == "book" and data.like_threshold == 6
    assert titles(data) == {
        "0000000001": 'A Child Called "It": Courage',
        "0000000002": "Les Misérables & more",
        "0000000003": "Readers (Level 4)",
        "0000000005": "Unknown book (ISBN 0000000005)",
        "000000004X": 'She said "no"; twice',
    }
    by_isbn = data.items.set_index("item_id")
    assert by_isbn.loc["0000000003", "author"] == "Michael Teitelbaum"
    assert by_isbn["author"].isna().sum() == 2  # of the malformed row, and "Not Applicable"
    assert by_isbn["year"].tolist() == [1995, 0, 2000, 0, 0]
    said = "\n".join(data.summary())
    assert "BX-Books.csv: 1 malformed rows, the first on line 6 (9 fields where the he" in said
    assert "1 rows whose title and author had run together were repaired" in said
    assert "1 of 5 books have no known title" in said and "1 books have a year outside" in said
    assert "1 books of BX-Books.csv without a kept interaction" in said


def test_implicit_ratings_are_kept_without_a_rating_or_left_out(folder):
    data = load()
    assert len(data.interactions) == 9
    assert any("3 cells are blank, interactions without one" in note for note in data.notes)
    ratings = data.interactions["rating"]
    assert ratings.isna().sum() == 3 and ratings.min() == 5
    assert data.dropped["repeated ratings of a pair (the highest is kept)"] == 1
    pair = data.interactions.query("user == 2 and item == 4")
    assert pair["rating"].tolist() == [9]  # the explicit one of the two spellings
    data = load(keep_implicit=False)
    assert len(data.interactions) == 6 and data.interactions["rating"].notna().all()
    assert data.dropped["implicit ratings (0)"] == 4
    assert "0000000005" not in titles(data)
    assert any("2 rows had a damaged ISBN" in note for note in data.notes)


def test_sparse_users_and_books_or_books_without_a_title_are_left_out_by_choice(folder):
    data = load(min_interactions=2)
    assert data.dropped["interactions of users or books with fewer than 2"] == 2
    for column in ("user", "item"):
        assert np.bincount(data.interactions[column]).min() >= 2
    assert len(data.interactions) == 7 and data.n_items == 3
    with pytest.raises(UserError, match=r"BX-Book-Ratings.csv: no interaction is left.*have 3 or"):
        load(min_interactions=3)
    data = load(keep_untitled=False)
    assert "0000000005" not in titles(data) and len(data.interactions) == 8
    assert data.dropped["interactions of books without a known title"] == 1
    assert not any("no known title" in note for note in data.notes)


def test_neither_file_order_nor_encoding_matters(folder):
    one = load()
    write(folder / "BX-Book-Ratings.csv", HEADER, *RATINGS[::-1])
    write(folder / "BX-Books.csv", BOOKS_HEADER, *BOOKS[::-1], encoding="utf-8")
    other = load()
    assert one.interactions.equals(other.interactions) and one.items.equals(other.items)


MALFORMED = {
    "no end quote": ('"7";"0000000001";"5', "1 fields where the header has 3"),
    "no user": ('"";"0000000001";"5"', "column 'User-ID': '' does not belong there"),
    "too high": ('"7";"0000000001";"11"', "column 'Book-Rating': '11' does not belong there"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_row_is_counted_and_named(folder, case):
    row, what = MALFORMED[case]
    write(folder / "BX-Book-Ratings.csv", HEADER, *RATINGS, row)
    data = load()
    assert data.dropped["malformed rows of BX-Book-Ratings.csv"] == 1
    said = "\n".join(data.summary())
    assert "left out: 1 malformed rows of BX-Book-Ratings.csv" in said
    assert f"1 malformed rows, the first on line 12 ({what}" in said
    assert len(data.interactions) == 9 and data.n_users == 3


def test_a_file_full_of_malformed_rows_is_refused(folder):
    write(folder / "BX-Book-Ratings.csv", HEADER, *RATINGS, *['"7";"0000000001";"good"'] * 20)
    message = r"Ratings.csv, line 12: column 'Book-Rating': 'good' does .*; 20 of 30 rows are malf"
    with pytest.raises(UserError, match=message):
        load()


ANOTHER = {
    '"User";"ISBN";"Book-Rating"': "line 1: column 'User-ID' is missing; the",
    HEADER: "line 1: there is no row below the header",
    "<html>moved</html>": "the file has '<html>moved</html>'",
}


@pytest.mark.parametrize("line", ANOTHER)
def test_another_file_is_refused(folder, line):
    write(folder / "BX-Book-Ratings.csv", line)
    with pytest.raises(UserError, match=f"BX-Book-Ratings.csv.*{ANOTHER[line]}"):
        load()


def test_titles_from_a_catalogue_without_quoting(folder):
    (folder / "BX-Books.csv").unlink()
    (folder / "items.tsv").write_text(
        'isbn10\ttitle\tauthor\tyear\n0000000001\tSay "It\tDave\t-431\n1\tagain\t\t\n2\t\t\t1999\n'
    )
    catalogue, notes = books.read_catalogue(folder)
    items, unnamed = books.name_books(["0000000001", "0000000002"], catalogue)
    assert items["title"].tolist() == ['Say "It', "Unknown book (ISBN 0000000002)"]
    assert items["year"].tolist() == [0, 1999]
    assert notes == ["catalogue: 1 books listed again under the same ISBN"]
    assert unnamed[0].startswith("1 of 2 books have no known title")
    (folder / "items.tsv").write_text("isbn10\ttitle\n1\tA\textra\n")
    with pytest.raises(UserError, match="items.tsv, line 2: 3 fields where the header has 2"):
        books.read_catalogue(folder)
    (folder / "items.tsv").write_text("isbn\ttitle\n1\tA\n")
    with pytest.raises(UserError, match="items.tsv: column 'isbn10' is missing; the table has 'is"):
        books.read_catalogue(folder)


def test_isbns():
    damaged = {"6379702": "0006379702", "080410753x": "080410753X", " 0425115801 ": "0425115801"}
    whole = {text: text for text in ("B00005U7YK", "9780425115800")}
    for text, isbn in (damaged | whole).items():
        assert books.repair_isbn(text) == isbn


# --- the released split ---


@pytest.fixture
def released(store):
    place = store / "published" / "book"
    place.mkdir(parents=True)
    (place / "user_list.txt").write_text("org_id remap_id\n276746 0\n8 1\n")
    items = "org_id remap_id\n425115801 0\n080410753X 1\n080410753x 2\n6379702 3\n"
    (place / "item_list.txt").write_text(items)
    (place / "train.txt").write_text("0 0 1 0\n1 2 3\n")
    (place / "test.txt").write_text("0 2 3\n1 0 3\n")
    return place


def test_released_books_are_repaired_merged_and_kept_apart(released):
    data = datasets.load("published-book")
    assert (data.name, data.noun, data.n_users) == ("published-book", "book", 2)
    assert data.items["item_id"].tolist() == ["0006379702", "0425115801", "080410753X"]
    assert data.users["user_id"].tolist() == ["8", "276746"]
    train, test = (part[["user", "item"]].to_numpy().tolist() for part in data.presplit)
    assert train == [[0, 0], [0, 2], [1, 1], [1, 2]]
    assert test == [[0, 1], [1, 0]]  # (1, 2) by its other spelling and (0, 0) are in train
    assert list(data.dropped.values()) == [1, 2, 1]  # merged books, overlaps, repeats
    said = "\n".join(data.summary())
    assert "3 of 4 ISBNs were damaged and are repaired" in said
    assert "3 of 3 books have no known title" in said
    assert "for titles put BX-Books.csv or items.tsv into" in said
    report = split_report(data, split(data, "published", validation=0.0))
    assert report["direct_duplicates"]["train_test"] == 0


def test_released_books_get_titles_or_are_left_out_by_choice(released):
    place = released.parents[1] / "bookcrossing"
    place.mkdir()
    (place / "items.tsv").write_text(
        "isbn10\ttitle\tauthor\n080410753X\tLightning\tK\n6379702\tTrek\t\n425115801\t\t\n"
    )
    items = datasets.load("published-book").items
    assert items["title"].tolist() == ["Trek", "Unknown book (ISBN 0425115801)", "Lightning"]
    assert items["author"][2] == "K"
    data = datasets.load("published-book", keep_untitled=False)
    assert data.items["title"].tolist() == ["Trek", "Lightning"]
    assert data.dropped["books without a known title"] == 1
    assert data.dropped["interactions of books without a known title"] == 3
    assert [len(part) for part in data.presplit] == [3, 1]


def test_released_books_want_titles_that_are_nowhere(released, monkeypatch):
    gone = replace(download.ORIGINS["book-crossing"], url="http://127.0.0.1:9/BX-CSV-Dump.zip")
    monkeypatch.setitem(download.ORIGINS, "book-crossing", gone)
    monkeypatch.setattr(download, "RETRIES", 0)
    message = "cannot download .*BX-CSV-Dump.zip.*FOLDER/bookcrossing"
    with pytest.raises(UserError, match=message):
        datasets.load("published-book", keep_untitled=False)


# --- real files ---


@pytest.mark.skipif(not download.is_here("published-book"), reason="needs published/book")
def test_facts_of_the_real_release():
    data = datasets.load("published-book")
    train, test = data.presplit
    assert (len(train), len(test), data.n_users, data.n_items) == (561_390, 152_151, 25_500, 70_728)
    assert list(data.dropped.values()) == [12, 6, 603]
    assert any("57,613 of 70,740 ISBNs were damaged" in note for note in data.notes)
    report = split_report(data, split(data, "published", validation=0.0))
    assert report["test_share_on_items_unseen_in_train"] == pytest.approx(0.3395, abs=5e-5)
    assert report["direct_duplicates"]["train_test"] == 0
