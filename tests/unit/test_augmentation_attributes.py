"""Attributes: which items teach, what is asked, what is kept, and how answers are judged."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest
from tiny_data import books, fake_llm, movies  # noqa: F401  (fake_llm is a fixture)

from dallrec_core.artifacts import read_table, write_table
from dallrec_core.augmentation import attributes
from dallrec_core.errors import UserError


def test_examples_come_from_complete_items_and_hide_one_or_two():
    data = movies(n_items=400)
    parts = attributes.parts(data, 64, 50, seed=1)
    genres = parts.examples[parts.examples["field"] == "genres"]
    assert len(genres) == 64 and genres["known"].value_counts().to_dict() == {1: 32, 2: 32}
    assert all(len(data.values[i]) == 3 for i in genres["item"])
    assert (parts.examples["field"] == "facts").sum() == 64
    assert parts.held_out["field"].value_counts().to_dict() == {"genres": 50, "facts": 36}
    for field, group in parts.examples.groupby("field"):
        held_out = parts.held_out[parts.held_out["field"] == field]
        assert not set(group["item"]) & set(held_out["item"])
    assert parts.notes == []


def test_instructions_show_some_and_answer_all():
    data = movies()
    cases = pd.DataFrame(
        {"item": [2, 2, 4], "field": ["genres", "genres", "facts"], "known": [1, 2, 1]}
    )
    records = attributes.instructions(data, cases)
    assert records[0] == {
        "instruction": "Movie: Film 02 (1952). Known genres: Crime. "
        "List up to three genres of this movie.",
        "input": "",
        "output": "Crime|Drama|Film-Noir",
    }
    assert "Known genres: Crime|Drama." in records[1]["instruction"]
    assert records[2]["output"] == "director: Director 4; country: USA; language: English"
    paper = attributes.instructions(data, cases, "paper")
    assert paper[1]["instruction"].endswith("title and category: Film 02 (1952),Crime|Drama")
    assert paper[1]["output"] == "category: Crime|Drama|Film-Noir" and paper[1]["input"] == " "
    assert paper[2]["output"] == "director:Director 4, country:USA, language:English"


def test_too_few_complete_items_are_filled_up_and_said():
    data = movies(n_items=30, facts=False)  # ten items of three genres, ten of two
    parts = attributes.parts(data, 16, 20)
    sizes = [len(data.values[i]) for i in parts.examples["item"]]
    assert sizes.count(3) == 8 and sizes.count(2) == 8 and len(parts.held_out) == 2
    assert parts.notes == [
        "genres: 10 movies have exactly 3; 8 are examples, filled up with 8 that have "
        "another number"
    ]
    for rec in attributes.instructions(data, parts.examples):
        shown = rec["instruction"].split("genres: ")[1].split(". ")[0]
        assert rec["output"].startswith(shown + "|")  # something is always left to answer


def test_books_without_genres_have_no_examples_but_can_be_asked(fake_llm):  # noqa: F811
    data = books()
    parts = attributes.parts(data, 64, 10)
    assert parts.examples.empty and parts.held_out.empty
    assert parts.notes == ["no book has two known genres, so there are no examples of them"]
    lm = fake_llm(answer=lambda text: "Genres: Fantasy, Adventure, Retelling.")
    frame, counts = attributes.augment(lm, data, wording="paper")
    assert lm.asked[1] == (
        "Given a book title, please generate its genres in three words. Title: Volume 01"
    )
    assert len(frame) == 36 and set(frame["value"]) == {"Fantasy", "Adventure", "Retelling"}
    assert counts == {
        "given values": 0,
        "genres: asked": 12,
        "genres: values written": 36,
        "genres: partly dropped": 0,
    }
    assert attributes.evaluate(lm, data, parts.held_out)[0] == {"genres_n": 0, "facts_n": 0}


def answer(text: str) -> str:
    """Complete films 00-09 well, repeat what is known of 1x, write nonsense about the others."""
    number = int(text.split("Film ")[1][:2])
    if "Name its" in text:
        return "country: France; director: Ann B" if number < 20 else "I do not know"
    known = text.split("genres: ")[1].split(".")[0]
    if number < 10:
        return f"{known}|Horror|Comedy|Sci-Fi|Drama"
    return known if number < 20 else "Poetry|Prose"


def test_augment_keeps_given_values_and_every_failure(fake_llm, tmp_path):  # noqa: F811
    data = movies()
    lm = fake_llm(answer=answer)
    frame, counts = attributes.augment(lm, data)
    path = write_table(frame, tmp_path / "attributes.parquet", "attributes")
    assert read_table(path, "attributes")["value"].tolist() == frame["value"].tolist()
    incomplete = [i for i, v in enumerate(data.values) if len(v) < 3]
    asked = [t for t in lm.asked if "List up to three" in t]
    assert len(asked) == len(incomplete) == counts["genres: asked"]
    genres = frame[frame["field"] == "genres"]
    given = genres[genres["origin"] == "given"].groupby("item")["value"].agg(tuple)
    assert given.tolist() == data.values
    for item in incomplete:
        rows = genres[(genres["item"] == item) & (genres["origin"] == "written")]
        new = [v for v in rows["value"] if v]
        assert not set(new) & set(data.values[item])
        if item < 10:
            assert len(new) + len(data.values[item]) == 3
        elif item < 20:
            assert rows["reason"].tolist() == ["nothing new"] and rows["parsed"].all()
        else:
            assert rows["parsed"].tolist() == [False]
            assert rows["reason"].iloc[0] == "unknown: Poetry, Prose"
            assert rows["raw"].iloc[0] == "Poetry|Prose"
    assert counts["genres: unreadable"] == sum(i >= 20 for i in incomplete)


def test_missing_facts_are_asked_for_and_given_ones_kept(fake_llm):  # noqa: F811
    data = movies()
    frame, counts = attributes.augment(fake_llm(answer=answer), data)
    assert counts["director: asked"] == counts["country: asked"] == 30
    directors = frame[frame["field"] == "director"].set_index("item")
    assert directors.loc[4, "value"] == "Director 4" and directors.loc[4, "origin"] == "given"
    assert directors.loc[5, "value"] == "Ann B" and directors.loc[5, "origin"] == "written"
    assert not directors.loc[25, "parsed"]
    language = frame[(frame["field"] == "language") & (frame["item"] == 5)]
    assert language["reason"].tolist() == ["no language in the answer"]


def test_a_half_documented_item_is_asked_for_the_other_half_only(fake_llm):  # noqa: F811
    data = movies()
    items = data.items.copy()
    items.loc[5, "country"] = "Japan"
    frame, counts = attributes.augment(
        fake_llm(answer=answer), dataclasses.replace(data, items=items)
    )
    rows = frame[(frame["item"] == 5) & (frame["field"] != "genres")].set_index("field")
    assert rows.loc["country", ["value", "origin"]].tolist() == ["Japan", "given"]
    assert rows.loc["director", ["value", "origin"]].tolist() == ["Ann B", "written"]
    assert counts["country: asked"] == counts["director: asked"] - 1


def test_no_facts_are_asked_for_without_fact_columns(fake_llm):  # noqa: F811
    data = movies()
    bare = dataclasses.replace(
        data, items=data.items.drop(columns=["director", "country", "language"])
    )
    lm = fake_llm(answer=answer)
    frame, _ = attributes.augment(lm, bare)
    assert set(frame["field"]) == {"genres"} and not any("Name its" in t for t in lm.asked)
    assert set(attributes.parts(bare, 8, 2).examples["field"]) == {"genres"}


def test_max_items_asks_about_the_most_seen(fake_llm):  # noqa: F811
    data = movies(facts=False)
    lm = fake_llm(answer=answer)
    attributes.augment(lm, data, max_items=5)
    asked = {int(t.split("Film ")[1][:2]) for t in lm.asked}
    incomplete = [i for i, v in enumerate(data.values) if len(v) < 3]
    best = sorted(incomplete, key=lambda i: (-data.item_degree[i], i))[:5]
    assert asked == set(best)


def test_merged_items_have_given_then_written_values(fake_llm):  # noqa: F811
    data = movies()
    frame, _ = attributes.augment(fake_llm(answer=answer), data)
    items = attributes.merged(data, frame)
    assert items["attributes"].str.count("[|]").iloc[:10].tolist() == [2] * 10
    assert items.loc[0, "attributes"] == "Action|Horror|Comedy"
    assert items.loc[25, "attributes"] == data.items.loc[25, "attributes"]
    assert items.loc[5, "director"] == "Ann B" and items.loc[25, "director"] is None
    assert data.items.loc[0, "attributes"] == "Action"  # the given table is left alone
    completed = attributes.completed(fake_llm(answer=answer), data)
    assert completed.items.equals(items) and completed.train is data.train
    assert "Film 00 (1950) (Action|Horror|Comedy)" in completed.prompt(1, 0).text


def test_evaluation_of_a_perfect_and_of_a_lazy_model(fake_llm):  # noqa: F811
    data = movies(n_items=100)
    cases = attributes.parts(data, 20, 12).held_out
    records = attributes.instructions(data, cases)
    right = {r["instruction"]: r["output"] for r in records}
    scores, judged = attributes.evaluate(fake_llm(answer=right.__getitem__), data, cases)
    assert scores["f1"] == scores["hidden_f1"] == scores["director"] == scores["country"] == 1.0
    assert scores["unreadable"] == 0 and judged["raw"].notna().all()
    lazy = fake_llm(answer=lambda text: text.split("genres: ")[-1].split(".")[0])
    scores, _ = attributes.evaluate(lazy, data, cases)
    assert scores["precision"] == 1.0 and scores["recall"] == pytest.approx(0.5)
    assert scores["hidden_f1"] == scores["director"] == 0.0


def test_f1_by_hand():
    scores = attributes.f1([{"a", "b"}, set()], [{"a", "c"}, {"d"}])
    assert scores == pytest.approx({"precision": 0.5, "recall": 1 / 3, "f1": 0.4})


def test_compare_with_truth_counts_only_what_was_written(fake_llm):  # noqa: F811
    data = movies()
    frame, _ = attributes.augment(fake_llm(answer=answer), data)
    truth = data.items[["item", "attributes", "director", "country", "language"]].copy()
    truth["director"] = "Ann B"
    truth.loc[0, "attributes"] = "Action|Comedy|Drama"  # Action was given, Horror|Comedy written
    truth["attributes"] = truth["attributes"].where(truth["item"] == 0, data.items["attributes"])
    result = attributes.compare(data, frame, truth)
    asked = sum(len(v) < 3 for v in data.values)
    assert result["genres"]["n"] == asked and result["genres"]["recall"] == 0.5
    assert result["director"]["precision"] == 1.0
    assert result["director"]["recall"] == pytest.approx(15 / 30)


def test_unknown_wording_is_refused(fake_llm):  # noqa: F811
    with pytest.raises(UserError, match="default, paper"):
        attributes.augment(fake_llm(), movies(), wording="papers")
