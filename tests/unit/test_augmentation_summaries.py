"""Summaries: given or composed examples, two sentences kept, trouble counted, measures by hand."""

from __future__ import annotations

import dataclasses

import pytest
from tiny_data import FakeAsker, books, movies

from dallrec_core.augmentation import summaries
from dallrec_core.augmentation.answers import sentences
from dallrec_core.chain.artefacts import read_table, write_table


def test_given_texts_come_first_and_the_rest_is_composed():
    parts = summaries.parts(movies(), 16, 20)  # ten of forty items have a text
    assert parts.examples["origin"].value_counts().to_dict() == {"given": 8, "composed": 8}
    assert parts.held_out["origin"].tolist() == ["given"] * 2
    assert not set(parts.examples["item"]) & set(parts.held_out["item"])
    text = "8 of 16 example summaries are composed from known facts: only 10 movies have a text of"
    assert parts.notes == [f"{text} two sentences"]
    plenty = summaries.parts(movies(n_items=400), 64, 30)
    assert set(plenty.examples["origin"]) == {"given"} and plenty.notes == []


def test_without_any_text_everything_is_composed():
    parts = summaries.parts(books(), 8, 4)
    assert len(parts.examples) == 8 and len(parts.held_out) == 4
    assert set(parts.examples["origin"]) | set(parts.held_out["origin"]) == {"composed"}
    assert not set(parts.examples["item"]) & set(parts.held_out["item"])


INITIALS = dataclasses.replace(books(), items=books().items.assign(author="McKevett, G. A."))


@pytest.mark.parametrize(
    "data", [movies(facts=False), movies(), books(), INITIALS], ids=["bare", "facts", "books", "A."]
)
def test_composed_summaries_are_two_readable_sentences_about_the_item(data):
    for item in range(data.n_items):
        text = summaries.compose(data, item)
        assert len(sentences(text)) == 2 and summaries.readable(text) and ".." not in text
        assert data.rows[item]["title"] in text and "nan" not in text and "None" not in text
        if data.noun == "book":
            assert f"written by {data.rows[item]['author']}" in text
    nothing = dataclasses.replace(books(), items=books().items.assign(author=None, year=0))
    text = "Volume 00 is a book. Readers can find it under this title."
    assert summaries.compose(nothing, 0) == text


def test_instructions_of_both_wordings():
    data = movies()
    cases = summaries.parts(data, 8, 2).held_out
    record = summaries.instructions(data, cases)[0]
    title = data.rows[cases["item"].iloc[0]]["title"]
    assert record["instruction"].startswith(f"Movie: {title} (")
    assert record["output"] == f"{title} is good. It runs long."
    paper = summaries.instructions(books(), summaries.parts(books(), 4, 0).examples, "paper")[0]
    begin = "Using two sentence to generate the summary of this book"
    assert paper["instruction"].startswith(begin)


def write(text: str) -> str:
    """Good about films 00-09; cut off in 1x; silent about 2x; three sentences about 3x."""
    number = int(text.split("Film ")[1][:2])
    return ("It is fine. You may like it.", "It is fine. You", "", "One. Two. Three.")[number // 10]


def test_augment_keeps_two_sentences_and_all_failures(tmp_path):
    frame, stats = summaries.augment(FakeAsker(answer=write), movies())
    path = write_table(frame, tmp_path / "summaries.parquet", "summaries")
    assert read_table(path, "summaries")["item"].tolist() == list(range(40))
    assert frame["summary"].iloc[35] == "One. Two."
    assert frame["truncated"].tolist() == [False] * 10 + [True] * 10 + [False] * 20
    assert frame["parsed"].tolist() == [True] * 20 + [False] * 10 + [True] * 10
    expected = {"n": 40, "mean_words": (7 * 10 + 4 * 10 + 2 * 10) / 40, "readable": 0.5}
    expected |= {"two_sentences": 0.75}  # a second sentence without its end counts as one
    expected |= {"truncated": 0.25, "empty": 0.25, "distinct": 4 / 40}
    assert stats == pytest.approx(expected)
    # of a limited number, the most seen
    data = movies()
    frame, _ = summaries.augment(FakeAsker(answer=write), data, max_items=5)
    best = sorted(range(40), key=lambda i: (-data.item_degree[i], i))[:5]
    assert frame["item"].tolist() == sorted(best)


def test_readable():
    good = ("It is fine. You may like it.", 'He said "no."')
    bad = ("", "It is fine. You may", "It is fine. It is fine.", "a day of a day " * 4 + "end.")
    assert [summaries.readable(text) for text in (*good, *bad)] == [True] * 2 + [False] * 4


def test_rouge_l_by_hand():
    assert summaries.rouge_l("a b c d", "a c d e") == pytest.approx(2 * 3 / 8)
    assert summaries.rouge_l("same words", "Same words") == 1.0
    assert summaries.rouge_l("", "a b") == 0.0


def test_evaluation_against_held_out_texts():
    data = movies()
    cases = summaries.parts(data, 8, 10).held_out
    right = {r["instruction"]: r["output"] for r in summaries.instructions(data, cases)}
    scores, frame = summaries.evaluate(FakeAsker(answer=right.__getitem__), data, cases)
    assert scores["rouge_l"] == scores["two_sentences"] == scores["readable"] == 1.0
    assert len(frame) == scores["n"] == len(cases) == 2
    scores, _ = summaries.evaluate(FakeAsker(), data, cases)
    assert scores["rouge_l"] == 0.0 and scores["empty"] == 1.0
    assert summaries.evaluate(FakeAsker(), data, cases[:0])[0] == {"n": 0}
