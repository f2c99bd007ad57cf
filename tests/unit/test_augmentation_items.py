"""What is written about items: attributes, facts and summaries, and how they are judged."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest
from tiny_data import FakeAsker, books, matinee, movies

from dallrec_core.augmentation import attributes, summaries, truth
from dallrec_core.augmentation.answers import sentences
from dallrec_core.augmentation.prompts import record
from dallrec_core.augmentation.view import Parts
from dallrec_core.chain.artefacts import write_table

# ---------------------------------------------------------------- attributes


def apart(parts: Parts) -> bool:
    """Tell whether no held-out case is an example, field by field."""
    keys = [set(zip(p["item"], p.get("field", p["item"]), strict=True)) for p in parts[:2]]
    return not keys[0] & keys[1]


def test_examples_come_from_complete_items_and_hide_one_or_two():
    data = movies(n_items=400)
    parts = attributes.parts(data, 64, 50, seed=1)
    genres = parts.examples[parts.examples["field"] == "genres"]
    assert len(genres) == 64 and genres["known"].value_counts().to_dict() == {1: 32, 2: 32}
    assert all(len(data.values[i]) == 3 for i in genres["item"])
    assert (parts.examples["field"] == "facts").sum() == 64
    assert parts.held_out["field"].value_counts().to_dict() == {"genres": 50, "facts": 36}
    assert apart(parts) and parts.notes == []


def test_instructions_show_some_and_answer_all():
    cases = {"item": [2, 2, 4], "field": ["genres", "genres", "facts"], "known": [1, 2, 1]}
    one, two, facts = attributes.instructions(movies(), pd.DataFrame(cases))
    begin = "Movie: Film 02 (1952). Known genres: Crime"
    ask = "List up to three genres of this movie."
    assert one == record(f"{begin}. {ask}", "Crime|Drama|Film-Noir")
    assert two == record(f"{begin}|Drama. {ask}", "Crime|Drama|Film-Noir")
    assert facts["output"] == "director: Director 4; country: USA; language: English"
    paper = attributes.instructions(movies(), pd.DataFrame(cases), "paper")
    assert paper[1]["instruction"].endswith("title and category: Film 02 (1952),Crime|Drama")
    outputs = [each["output"] for each in paper[1:]]
    said = "director:Director 4, country:USA, language:English"
    assert outputs == ["category: Crime|Drama|Film-Noir", said]


def test_too_few_complete_items_are_filled_up_and_said():
    data = movies(n_items=30, facts=False)  # ten items of three genres, ten of two
    parts = attributes.parts(data, 16, 20)
    sizes = [len(data.values[i]) for i in parts.examples["item"]]
    assert sizes.count(3) == 8 and sizes.count(2) == 8 and len(parts.held_out) == 2
    text = "genres: 10 movies have exactly 3; 8 are examples, filled up with 8 that have another"
    assert parts.notes == [f"{text} number"]
    for example in attributes.instructions(data, parts.examples):
        shown = example["instruction"].split("genres: ")[1].split(". ")[0]
        assert example["output"].startswith(shown + "|")  # something is always left to answer


def test_books_without_genres_have_no_examples_but_can_be_asked():
    data = books()
    parts = attributes.parts(data, 64, 10)
    assert parts.examples.empty and parts.held_out.empty
    assert "0 books have exactly 3; 0 are examples" in parts.notes[0]
    asker = FakeAsker(answer=lambda _: "Genres: Fantasy, Adventure, Retelling.", wording="paper")
    frame, counts = attributes.augment(asker, data)
    assert asker.asked[1].endswith("generate its genres in three words. Title: Volume 01")
    assert len(frame) == 36 and set(frame["value"]) == {"Fantasy", "Adventure", "Retelling"}
    assert counts == {"genres: asked": 12, "genres: values written": 36}
    assert attributes.evaluate(asker, data, parts.held_out)[0] == {"genres_n": 0, "facts_n": 0}


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
    data.items.loc[5, "country"] = "Japan"  # half documented: asked for the other half only
    frame, counts = attributes.augment(asker, data)
    write_table(frame, tmp_path / "attributes.parquet", "attributes")
    incomplete = [i for i, values in enumerate(data.values) if len(values) < 3]
    asked = [text for text in asker.asked if "List up to three" in text]
    assert len(asked) == len(incomplete) == counts["genres: asked"]
    genres = frame[frame["field"] == "genres"]
    given = genres[genres["origin"] == "given"].groupby("item")["value"].agg(tuple)
    assert given.tolist() == data.values
    written = genres[genres["origin"] == "written"]
    assert set(written["item"]) == set(incomplete)
    for item, rows in written.groupby("item"):
        if item < 10:
            new = set(rows["value"])
            assert len(new) == 3 - len(data.values[item]) and not new & set(data.values[item])
        else:
            nonsense = [[False, "unknown: Poetry, Prose", "", "Poetry|Prose"]]
            known = [[True, "nothing new", "", "|".join(data.values[item])]]
            found = rows[["parsed", "reason", "value", "raw"]].to_numpy().tolist()
            assert found == (known if item < 20 else nonsense)
    assert counts["genres: unreadable"] == sum(i >= 20 for i in incomplete)
    assert counts["director: asked"] == counts["country: asked"] + 1 == 30
    facts = frame[frame["field"] != "genres"].set_index(["field", "item"])
    rows = {key: tuple(row) for key, row in facts[["value", "origin"]].iterrows()}
    assert rows["director", 4] == ("Director 4", "given")
    assert rows["director", 5] == ("Ann B", "written")
    assert rows["country", 5] == ("Japan", "given")
    assert not facts.loc[("director", 25), "parsed"]
    assert facts.loc[("language", 5), "reason"] == "no language in the answer"


@pytest.mark.parametrize("task", [attributes, summaries])
def test_max_items_asks_about_the_most_seen(task):
    data, asker = movies(facts=False), FakeAsker(answer=answer)
    lacking = [i for i in range(40) if len(data.values[i]) < 3]
    if task is summaries:
        lacking = [i for i in range(40) if i % 4]  # the others have a text
    frame, _ = task.augment(asker, data, max_items=5)
    best = sorted(lacking, key=lambda i: (-data.item_degree[i], i))[:5]
    assert {int(text.split("Film ")[1][:2]) for text in asker.asked} == set(best)
    if task is attributes:
        assert set(frame["field"]) == {"genres"}  # no facts are asked for without fact columns


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
    assert scores["unreadable"] == 0 and judged["raw"].tolist() == list(right.values())
    lazy = FakeAsker(answer=lambda text: text.split("genres: ")[-1].split(".")[0])
    scores, _ = attributes.evaluate(lazy, data, cases)
    assert scores["f1"] == pytest.approx(2 / 3)  # all that is said is right, half is left out
    assert scores["hidden_f1"] == scores["director"] == 0.0


def test_only_what_was_written_is_held_against_the_truth():
    data = movies()
    frame, _ = attributes.augment(FakeAsker(answer=answer), data)
    known = data.items[["item", "attributes", "country", "language"]].assign(director="Ann B")
    known.loc[0, "attributes"] = "Action|Comedy|Drama"  # Action was given, Horror|Comedy written
    known.loc[1, "country"] = "France"
    table = truth.of_attributes(data, frame, known)
    assert table.loc["genres", "asked"] == sum(len(values) < 3 for values in data.values)
    assert table.loc["director", ["asked", "right", "wrong"]].tolist() == [30, 0.5, 0.0]
    assert table.loc["director", "true"] == 1.0 and table.loc["director", "rule"] == 0.0
    # France is right of film 1 and said of 15; the most frequent country, USA, is right of none
    assert table.loc["country"].tolist() == pytest.approx([30, 1 / 30, 14 / 30, 1 / 15, 0])
    assert table.loc["genres", "right"] * table.loc["genres", "asked"] == pytest.approx(1)


# ---------------------------------------------------------------- summaries


def test_given_texts_come_first_and_the_rest_is_composed():
    parts = summaries.parts(movies(), 16, 20)  # ten of forty items have a text
    assert parts.examples["origin"].value_counts().to_dict() == {"given": 8, "composed": 8}
    assert parts.held_out["origin"].tolist() == ["given"] * 2 and apart(parts)
    text = "8 of 16 example summaries are composed from known facts: only 10 movies have a text of"
    assert parts.notes == [f"{text} two sentences"]
    plenty = summaries.parts(movies(n_items=400), 64, 30)
    assert set(plenty.examples["origin"]) == {"given"} and plenty.notes == []
    none = summaries.parts(books(), 8, 4)
    assert len(none.examples) == 8 and len(none.held_out) == 4 and apart(none)
    assert set(none.examples["origin"]) | set(none.held_out["origin"]) == {"composed"}


INITIALS = dataclasses.replace(books(), items=books().items.assign(author="McKevett, G. A."))


@pytest.mark.parametrize("data", [movies(facts=False), movies(), books(), INITIALS])
def test_composed_summaries_are_two_readable_sentences_about_the_item(data):
    for item in range(data.n_items):
        text = summaries.compose(data, item)
        assert len(sentences(text)) == 2 and summaries.readable(text) and ".." not in text
        assert data.rows[item]["title"] in text and "nan" not in text and "None" not in text
        if data.noun == "book":
            assert f", by {data.rows[item]['author']}, is a book" in text
    nothing = dataclasses.replace(books(), items=books().items.assign(author=None, year=0))
    text = "Volume 00 is a book. People can find it under this title."
    assert summaries.compose(nothing, 0) == text


def write(text: str) -> str:
    """Good about films 00-09; cut off in 1x; silent about 2x; three sentences about 3x."""
    number = int(text.split("Film ")[1][:2])
    return ("It is fine. You may like it.", "It is fine. You", "", "One. Two. Three.")[number // 10]


def test_augment_keeps_two_sentences_and_all_failures(tmp_path):
    data = movies()
    data.items["text"] = None
    frame, stats = summaries.augment(FakeAsker(answer=write), data)
    write_table(frame, tmp_path / "summaries.parquet", "summaries")
    assert frame["item"].tolist() == list(range(40)) and frame["summary"][35] == "One. Two."
    assert frame["truncated"].tolist() == [False] * 10 + [True] * 10 + [False] * 20
    assert frame["parsed"].tolist() == [True] * 20 + [False] * 10 + [True] * 10
    expected = {"n": 40, "mean_words": (7 * 10 + 4 * 10 + 2 * 10) / 40, "readable": 0.5}
    expected |= {"two_sentences": 0.75}  # a second sentence without its end counts as one
    expected |= {"truncated": 0.25, "empty": 0.25, "distinct": 4 / 40, "texts kept": 0}
    assert stats == pytest.approx(expected)


def test_given_texts_are_kept_and_short_ones_are_not_enough():
    data = movies()
    data.items.loc[4, "text"] = "One sentence only."
    kept = [item for item in range(0, 40, 4) if item != 4]
    frame, stats = summaries.augment(FakeAsker(answer=write), data)
    assert sorted({*range(40)} - {*frame["item"]}) == kept and stats["texts kept"] == len(kept)
    data = movies()
    data.items["text"] = "It is. It was."
    frame, stats = summaries.augment(FakeAsker(), data)
    assert frame.empty and stats == {"texts kept": 40, "n": 0}


def test_readable():
    bad = ("", "It is fine. You may", "It is fine. It is fine.", "a day of a day " * 4 + "end.")
    assert [summaries.readable(text) for text in ('He said "no."', *bad)] == [True] + [False] * 4


def test_evaluation_on_held_out_items():
    data = movies()
    cases = summaries.parts(data, 8, 10).held_out
    right = {r["instruction"]: r["output"] for r in summaries.instructions(data, cases)}
    scores, frame = summaries.evaluate(FakeAsker(answer=right.__getitem__), data, cases)
    assert scores["two_sentences"] == scores["readable"] == 1.0
    assert frame["summary"].tolist() == cases["summary"].tolist() and scores["n"] == 2
    first = summaries.instructions(data, cases)[0]
    title = data.rows[cases["item"].iloc[0]]["title"]
    assert first["instruction"].startswith(f"Movie: {title} (")
    assert first["output"] == f"{title} is good. It runs long."
    assert summaries.evaluate(FakeAsker(), data, cases)[0]["empty"] == 1.0
    assert summaries.evaluate(FakeAsker(), data, cases[:0])[0] == {"n": 0}


# ---------------------------------------------------------------- truth


EMBEDDED = matinee()


def test_given_texts_are_read_as_true_in_every_field():
    """Their makers wrote nothing but facts, all of them: so the reader must find all, and true."""
    data, known = EMBEDDED
    given = data.items[data.items["text"].notna()]
    table, said = truth.of_texts(data, given["item"], given["text"], known)
    assert (table[["right", "true"]] == 1).all(axis=None) and (table["wrong"] == 0).all()
    pairs = {(row.item, row.value) for row in said.itertuples() if row.field == "genres"}
    genres = {(i, v) for i in given["item"] for v in known["attributes"][i].split("|")}
    assert pairs == genres
    # beside another film, its own title is never found, and what it says becomes untrue
    moved = truth.of_texts(data, given["item"], given["text"].to_numpy()[::-1], known)[0]
    assert moved.loc["title", "right"] < 0.01 and (moved["wrong"] > 0.1).all()


CLAIMS = [  # film, text, what is found true, and what untrue
    ("Heat", "Heat is a crime story of 1995.", "1995|Crime|Heat", ""),
    ("Heat", "The Big Heat is a war film.", "", "The Big Heat|War"),  # the longest title is meant
    ("Heat", "Made in French, of wars and Heathrow.", "", "French"),  # parts of words do not count
    ("Heat", "A French noir. It is silent.", "", "Film-Noir|France|Silent"),
    ("Brazil", "Brazil was made in the UK, not in Brazil.", "Brazil|UK", "Brazil"),
    ("Amélie", "Jean-Pierre Jeunet made it in 1899, and 18999.", "Jean-Pierre Jeunet", "1899"),
    ("Amélie", "Romantic comedy, comedy and drama.", "Comedy|Romance", "Drama"),
]


@pytest.mark.parametrize(("title", "text", "right", "wrong"), CLAIMS)
def test_claims_are_read_from_a_text(title, text, right, wrong):
    data, known = EMBEDDED
    [item] = data.items.index[data.items["title"] == title]
    _, said = truth.of_texts(data, [item], [text], known)
    for expected, true in ((right, True), (wrong, False)):
        assert "|".join(sorted(said.loc[said["true"] == true, "value"])) == expected


def test_the_rule_says_what_is_given_and_then_what_is_frequent():
    data, known = EMBEDDED
    [item] = data.items.index[data.items["title"] == "Fargo"]  # shown as Crime; and a thriller
    table, said = truth.of_texts(data, [item], ["A drama, a comedy. Fargo is from 1990."], known)
    rule = dict(zip(table.index, table["rule"], strict=True))
    assert rule["title"] == rule["year"] == rule["genres"] == 1.0  # Crime, Drama
    assert table.loc["genres", ["asked", "right", "wrong", "true"]].tolist() == [1, 1, 1, 0.5]
    assert table.loc["year", ["right", "wrong"]].tolist() == [0, 1]
    assert table.loc["country"].isna().tolist() == [False, False, False, True, True]
