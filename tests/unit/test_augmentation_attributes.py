"""Attributes: which items teach, what is asked, what is kept, and how answers are judged."""

from __future__ import annotations

import pandas as pd
import pytest
from tiny_data import FakeAsker, books, movies

from dallrec_core.augmentation import attributes
from dallrec_core.chain.artefacts import read_table, write_table


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
    cases = {"item": [2, 2, 4], "field": ["genres", "genres", "facts"], "known": [1, 2, 1]}
    records = attributes.instructions(data, pd.DataFrame(cases))
    assert records[0] == {
        "instruction": "Movie: Film 02 (1952). Known genres: Crime. "
        "List up to three genres of this movie.",
        "input": "",
        "output": "Crime|Drama|Film-Noir",
    }
    assert "Known genres: Crime|Drama." in records[1]["instruction"]
    assert records[2]["output"] == "director: Director 4; country: USA; language: English"
    paper = attributes.instructions(data, pd.DataFrame(cases), "paper")
    assert paper[1]["instruction"].endswith("title and category: Film 02 (1952),Crime|Drama")
    assert paper[1]["output"] == "category: Crime|Drama|Film-Noir" and paper[1]["input"] == " "
    assert paper[2]["output"] == "director:Director 4, country:USA, language:English"


def test_too_few_complete_items_are_filled_up_and_said():
    data = movies(n_items=30, facts=False)  # ten items of three genres, ten of two
    parts = attributes.parts(data, 16, 20)
    sizes = [len(data.values[i]) for i in parts.examples["item"]]
    assert sizes.count(3) == 8 and sizes.count(2) == 8 and len(parts.held_out) == 2
    text = "genres: 10 movies have exactly 3; 8 are examples, filled up with 8 that have another"
    assert parts.notes == [f"{text} number"]
    for record in attributes.instructions(data, parts.examples):
        shown = record["instruction"].split("genres: ")[1].split(". ")[0]
        assert record["output"].startswith(shown + "|")  # something is always left to answer


def test_books_without_genres_have_no_examples_but_can_be_asked():
    data = books()
    parts = attributes.parts(data, 64, 10)
    assert parts.examples.empty and parts.held_out.empty
    assert parts.notes == ["no book has two known genres, so there are no examples of them"]
    asker = FakeAsker(answer=lambda _: "Genres: Fantasy, Adventure, Retelling.", wording="paper")
    frame, counts = attributes.augment(asker, data)
    ask = "Given a book title, please generate its genres in three words."
    assert asker.asked[1] == f"{ask} Title: Volume 01"
    assert len(frame) == 36 and set(frame["value"]) == {"Fantasy", "Adventure", "Retelling"}
    said = {"asked": 12, "values written": 36, "partly dropped": 0}
    assert counts == {"given values": 0} | {f"genres: {name}": n for name, n in said.items()}
    assert attributes.evaluate(asker, data, parts.held_out)[0] == {"genres_n": 0, "facts_n": 0}
    truth = data.items.assign(attributes="Fantasy")
    assert attributes.compare(data, frame, truth)["genres"]["recall"] == 1


def answer(text: str) -> str:
    """Complete films 00-09 well, repeat what is known of 1x, write nonsense about the others."""
    number = int(text.split("Film ")[1][:2])
    if "Name its" in text:
        return "country: France; director: Ann B" if number < 20 else "I do not know"
    known = text.split("genres: ")[1].split(".")[0]
    if number < 10:
        return f"{known}|Horror|Comedy|Sci-Fi|Drama"
    return known if number < 20 else "Poetry|Prose"


def test_augment_keeps_given_values_and_every_failure(tmp_path):
    data, asker = movies(), FakeAsker(answer=answer)
    frame, counts = attributes.augment(asker, data)
    path = write_table(frame, tmp_path / "attributes.parquet", "attributes")
    assert read_table(path, "attributes")["value"].tolist() == frame["value"].tolist()
    incomplete = [i for i, values in enumerate(data.values) if len(values) < 3]
    asked = [text for text in asker.asked if "List up to three" in text]
    assert len(asked) == len(incomplete) == counts["genres: asked"]
    genres = frame[frame["field"] == "genres"]
    given = genres[genres["origin"] == "given"].groupby("item")["value"].agg(tuple)
    assert given.tolist() == data.values
    for item, rows in genres[genres["origin"] == "written"].groupby("item"):
        new = [value for value in rows["value"] if value]
        assert not set(new) & set(data.values[item])
        if item < 10:
            assert len(new) + len(data.values[item]) == 3
        elif item < 20:
            assert rows["reason"].tolist() == ["nothing new"] and rows["parsed"].all()
        else:
            [row] = rows[["parsed", "reason", "raw"]].to_numpy().tolist()
            assert row == [False, "unknown: Poetry, Prose", "Poetry|Prose"]
    assert set(genres.loc[genres["origin"] == "written", "item"]) == set(incomplete)
    assert counts["genres: unreadable"] == sum(i >= 20 for i in incomplete)


def test_missing_facts_are_asked_for_and_given_ones_kept():
    data = movies()
    data.items.loc[5, "country"] = "Japan"  # half documented: asked for the other half only
    frame, counts = attributes.augment(FakeAsker(answer=answer), data)
    assert counts["director: asked"] == counts["country: asked"] + 1 == 30
    facts = frame[frame["field"] != "genres"].set_index(["field", "item"])
    rows = facts[["value", "origin"]]
    assert rows.loc[("director", 4)].tolist() == ["Director 4", "given"]
    assert rows.loc[("director", 5)].tolist() == ["Ann B", "written"]
    assert rows.loc[("country", 5)].tolist() == ["Japan", "given"]
    assert not facts.loc[("director", 25), "parsed"]
    assert facts.loc[("language", 5), "reason"] == "no language in the answer"


def test_max_items_asks_about_the_most_seen():
    data, asker = movies(facts=False), FakeAsker(answer=answer)
    frame, _ = attributes.augment(asker, data, max_items=5)
    assert set(frame["field"]) == {"genres"}  # no facts are asked for without fact columns
    incomplete = [i for i, values in enumerate(data.values) if len(values) < 3]
    best = sorted(incomplete, key=lambda i: (-data.item_degree[i], i))[:5]
    assert {int(text.split("Film ")[1][:2]) for text in asker.asked} == set(best)


def test_completed_items_have_given_then_written_values():
    data = movies()
    completed = attributes.completed(FakeAsker(answer=answer), data)
    items = completed.items
    assert items["attributes"].str.count("[|]").iloc[:10].tolist() == [2] * 10
    assert items.loc[0, "attributes"] == "Action|Horror|Comedy"
    assert items.loc[25, "attributes"] == data.items.loc[25, "attributes"]
    assert items.loc[5, "director"] == "Ann B" and items.loc[25, "director"] is None
    assert data.items.loc[0, "attributes"] == "Action"  # the given table is left alone
    assert completed.train is data.train
    assert "Film 00 (1950) (Action|Horror|Comedy)" in completed.prompt(1, 0).text


def test_evaluation_of_a_perfect_and_of_a_lazy_model():
    data = movies(n_items=100)
    cases = attributes.parts(data, 20, 12).held_out
    right = {r["instruction"]: r["output"] for r in attributes.instructions(data, cases)}
    scores, judged = attributes.evaluate(FakeAsker(answer=right.__getitem__), data, cases)
    assert scores["f1"] == scores["hidden_f1"] == scores["director"] == scores["country"] == 1.0
    assert scores["unreadable"] == 0 and judged["raw"].notna().all()
    lazy = FakeAsker(answer=lambda text: text.split("genres: ")[-1].split(".")[0])
    scores, _ = attributes.evaluate(lazy, data, cases)
    assert scores["precision"] == 1.0 and scores["recall"] == pytest.approx(0.5)
    assert scores["hidden_f1"] == scores["director"] == 0.0


def test_f1_by_hand():
    scores = attributes.f1([{"a", "b"}, set()], [{"a", "c"}, {"d"}])
    assert scores == pytest.approx({"precision": 0.5, "recall": 1 / 3, "f1": 0.4})


def test_compare_with_truth_counts_only_what_was_written():
    data = movies()
    frame, _ = attributes.augment(FakeAsker(answer=answer), data)
    truth = data.items[["item", "attributes", "country", "language"]].assign(director="Ann B")
    truth.loc[0, "attributes"] = "Action|Comedy|Drama"  # Action was given, Horror|Comedy written
    result = attributes.compare(data, frame, truth)
    asked = sum(len(values) < 3 for values in data.values)
    assert result["genres"]["n"] == asked and result["genres"]["recall"] == 0.5
    assert result["director"]["precision"] == 1.0
    assert result["director"]["recall"] == pytest.approx(15 / 30)
