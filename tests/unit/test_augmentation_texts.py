"""What is known about items in words: given, and written over it."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from tiny_data import books, movies

from dallrec_core.augmentation import features
from dallrec_core.errors import UserError

DATA = movies()
GIVEN = features.given(DATA).documents


def values(*rows: tuple[Any, ...]) -> pd.DataFrame:
    """Rows item, field, value[, parsed]; all written."""
    full = [(*row[:3], "written", row[2], row[3] if len(row) > 3 else True) for row in rows]
    return pd.DataFrame(full, columns=["item", "field", "value", "origin", "raw", "parsed"])


def summaries(*rows: tuple[int, str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["item", "summary"])
    return frame.assign(tokens=9, truncated=False)


def test_given_values_stay_whole_and_facts_keep_their_field() -> None:
    assert list(GIVEN) == ["attributes", "summary"]
    facts = ("director: Director 4", "country: USA", "language: English")
    assert GIVEN["attributes"][4] == ("Film-Noir", "Horror", *facts)
    assert GIVEN["attributes"][6] == ("Sci-Fi",)
    assert GIVEN["summary"][4] == "Film 04 (1954). Film 04 is good. It runs long."
    assert GIVEN["summary"][6] == "Film 06 (1956)"
    assert {len(documents) for documents in GIVEN.values()} == {DATA.n_items}


def test_books_have_authors_and_may_have_nothing_else() -> None:
    made = features.given(books())
    assert made.documents["attributes"][1] == ("author: Author 1",)
    assert made.documents["summary"][1] == "Volume 01 by Author 1 (1991)"


def test_written_values_come_after_the_given_ones() -> None:
    written = values(
        (6, "genres", "Drama"),
        (6, "genres", "Sci-Fi"),  # given already
        (6, "genres", "Drama"),  # twice
        (6, "director", "Somebody"),
        (7, "genres", ""),  # nothing new
        (8, "genres", "Horror!", False),  # unreadable
    )
    written.loc[len(written)] = (9, "genres", "War", "given", "", True)  # a given row
    made = features.written(DATA, written, summaries())
    assert made.documents["attributes"][6] == ("Sci-Fi", "Drama", "director: Somebody")
    assert made.documents["attributes"][7:] == GIVEN["attributes"][7:]
    assert made.counts["attributes: items with something written"] == 1
    assert made.counts["attributes: items left as given"] == DATA.n_items - 1
    assert made.counts["attributes: items with nothing at all"] == 0


def test_summaries_of_part_of_the_items_in_any_order() -> None:
    rows = summaries((4, "A good film. It is long."), (5, " "), (2, "Two."))
    made = features.written(DATA, values(), rows)
    assert made.documents["summary"][4] == "A good film. It is long."
    assert made.documents["summary"][5:] == GIVEN["summary"][5:]  # an empty answer is no summary
    assert made.counts["summary: items with something written"] == 2
    assert made.counts["summary: items left as given"] == DATA.n_items - 2
    assert made.documents == features.written(DATA, values(), rows[::-1]).documents


def test_tables_of_other_data_are_refused() -> None:
    with pytest.raises(UserError, match="summaries: row 1, column 'item' is 40, but there are 40"):
        features.written(DATA, values(), summaries((0, "x."), (40, "y.")))
    with pytest.raises(UserError, match="attributes: row 0, column 'item' is -1"):
        features.written(DATA, values((-1, "genres", "War")), summaries())
