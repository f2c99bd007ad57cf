"""The wordings, to the letter, and the parsers, with the answers that models really give."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dallrec_core import prompts
from dallrec_core.answers import parse_facts, parse_genres, parse_summary, sentences
from dallrec_core.errors import UserError
from dallrec_core.llm.served_answers import from_text
from dallrec_core.prompts import (
    NO_WORDS,
    YES_WORDS,
    facts_answer,
    facts_prompt,
    genres_answer,
    genres_prompt,
    interaction_prompt,
    item_text,
    summary_prompt,
    yes_no_answer,
)

HEAT = {"title": "Heat", "year": 1995, "attributes": "Action|Crime|Thriller", "author": None}
GREASE = {"title": "Grease", "year": 1978, "attributes": "Musical|Romance"}
ALIEN = {"title": "Alien", "year": 1979, "attributes": "Horror|Sci-Fi"}
SICK = {"title": "Sick Puppy", "year": 2001, "attributes": None, "author": "Carl Hiaasen"}
MARRIAGE = {"title": "Marriage of Meggotta", "year": 0, "author": "Ellis Peters"}
BEANS = {"title": "The Bean Trees", "year": 1994, "author": "Barbara Kingsolver"}


def test_default_movie_question():
    prompt = interaction_prompt(
        "movie", [item_text(HEAT, "movie")], [item_text(GREASE, "movie")], item_text(ALIEN, "movie")
    )
    assert prompt.text == (
        "A viewer liked: Heat (1995) (Action|Crime|Thriller). The viewer disliked: Grease (1978) "
        "(Musical|Romance). Will the viewer like this movie: Alien (1979) (Horror|Sci-Fi)? "
        "Answer yes or no."
    )
    assert prompt.suffix.startswith(" Alien")


def test_default_book_question_and_empty_lists():
    prompt = interaction_prompt("book", [item_text(SICK, "book")], [], item_text(MARRIAGE, "book"))
    assert prompt.text == (
        "A reader liked: Sick Puppy by Carl Hiaasen (2001). The reader disliked: none. "
        "Will the reader like this book: Marriage of Meggotta by Ellis Peters? Answer yes or no."
    )


def test_lists_are_joined_by_semicolons():
    prompt = interaction_prompt("movie", ["A", "B"], ["C", "D"], "E")
    assert "liked: A; B. The viewer disliked: C; D. Will" in prompt.text


def test_other_nouns_get_a_user():
    assert interaction_prompt("song", ["A"], [], "B").text.startswith("A user liked: A.")


def test_paper_movie_question_is_the_released_one():
    heat, grease = (item_text(row, "movie", "paper") for row in (HEAT, GREASE))
    target = item_text(ALIEN, "movie", "paper", target=True)
    head = (
        "Given the user's like and dislike, identify whether the user will like the target movie "
        "by answering yes or no.user likes:"
    )
    tail = " Whether the user will like the target movie:'Alien (1979) (Horror|Sci-Fi)'?"
    both = interaction_prompt("movie", [heat, heat], [grease, grease], target, "paper").text
    listed = f"{heat}, {heat}, dislikes: {grease}, {grease}."
    assert both == f"{head} {listed}{tail}"
    empty = interaction_prompt("movie", [heat], [], target, "paper").text
    assert empty == f"{head} {heat}, dislikes:None.{tail}"


def test_paper_book_question_keeps_its_spacing():
    likes = [item_text(BEANS, "book", "paper"), item_text(MARRIAGE, "book", "paper")]
    dislikes = [item_text(SICK, "book", "paper", target=True)]
    target = item_text(MARRIAGE, "book", "paper", target=True)
    assert interaction_prompt("book", likes, dislikes, target, "paper").text == (
        "Given the user's like and dislike, identify whether the user will like the target book by "
        "answering yes or no.user likes:The Bean Trees (1994) written by Barbara Kingsolver, "
        "Marriage of Meggotta (0) written by Ellis Peters.user dislikes: Sick Puppy(2001) written "
        "by Carl Hiaasen.Whether the user will like the target book: Marriage of Meggotta(0) "
        "written by Ellis Peters?"
    )
    empty = interaction_prompt("book", [], [], target, "paper").text
    assert "user likes:None.user dislikes: None.Whether" in empty


@pytest.mark.parametrize(
    ("wording", "noun", "row", "known", "text"),
    [
        (
            "default",
            "movie",
            HEAT,
            ["Action"],
            "Movie: Heat (1995). Known genres: Action. List up to three genres of this movie.",
        ),
        (
            "default",
            "book",
            MARRIAGE,
            None,
            "Book: Marriage of Meggotta by Ellis Peters. Known genres: none. "
            "List up to three genres of this book.",
        ),
        (
            "paper",
            "movie",
            HEAT,
            ["Action", "Crime"],
            "Given a movie title and category, Please add the category to three words ."
            "title and category: Heat (1995),Action|Crime",
        ),
        (
            "paper",
            "book",
            MARRIAGE,
            None,
            "Given a book title, please generate its genres in three words. "
            "Title: Marriage of Meggotta",
        ),
    ],
)
def test_genres_question(wording, noun, row, known, text):
    assert genres_prompt(noun, row, wording, known=known).text == text


def test_facts_and_summary_questions():
    assert facts_prompt("movie", HEAT).text == (
        "Movie: Heat (1995). Name its director, country and language."
    )
    assert facts_prompt("movie", HEAT, "paper").text == (
        "Given a movie title and years, Please output its director, actor, country, language. "
        "title and years: Heat (1995)"
    )
    assert summary_prompt("movie", GREASE).text == (
        "Movie: Grease (1978). Known genres: Musical|Romance. "
        "Summarise this movie in two sentences."
    )
    assert summary_prompt("book", BEANS, "paper").text == (
        "Using two sentence to generate the summary of this book named: The Bean Trees"
    )


def test_answers_of_examples():
    assert (yes_no_answer(True, "movie", "paper"), yes_no_answer(True, "book", "paper")) == (
        "yes",
        "Yes.",
    )
    assert yes_no_answer(False, "book") == "no"
    assert genres_answer(["Action", "Crime"], "movie") == "Action|Crime"
    assert genres_answer(["Action", "Crime"], "movie", "paper") == "category: Action|Crime"
    assert genres_answer(["Fantasy", "War"], "book", "paper") == "Genres: Fantasy, War."
    facts = {"director": ["Michael Mann"], "country": ["USA", "UK"]}
    assert facts_answer(facts) == "director: Michael Mann; country: USA|UK"
    assert facts_answer(facts, "paper") == "director:Michael Mann, country:USA|UK"


@pytest.mark.parametrize("empty", [None, float("nan"), "", "  "])
def test_missing_fields_are_left_out(empty):
    row = {"title": "  Two\n words ", "year": empty or 0, "attributes": empty, "author": empty}
    assert item_text(row, "book") == "Two words"
    assert item_text(row, "book", "paper") == "Two words (0)"


def test_a_year_in_the_title_is_not_repeated():
    assert item_text({"title": "Heat (1995)", "year": 1995}, "movie") == "Heat (1995)"


def test_unknown_wording_names_the_valid_ones():
    with pytest.raises(UserError, match="default, paper"):
        interaction_prompt("movie", [], [], "x", "papre")


VOCABULARY = ("Action", "Children's", "Comedy", "Crime", "Film-Noir", "Sci-Fi", "Rock and Roll")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("Action|Crime|Sci-Fi", ("Action", "Crime", "Sci-Fi")),
        ("category: action|crime", ("Action", "Crime")),
        ("Genres: Comedy, Crime, Action.", ("Comedy", "Crime", "Action")),
        ("Comedy / Crime; sci fi", ("Comedy", "Crime", "Sci-Fi")),
        ("The genres of this movie are action, crime and comedy.", ("Action", "Crime", "Comedy")),
        ("1. Science Fiction\n2. film noir\n3. childrens", ("Sci-Fi", "Film-Noir", "Children's")),
        ("Rock and Roll and Comedy", ("Comedy",)),
        ("Rock and Roll, Comedy", ("Rock and Roll", "Comedy")),
        ("Action|Action|action", ("Action",)),
    ],
)
def test_genres_are_read_in_the_vocabulary_s_spelling(text, values):
    parsed = parse_genres(text, VOCABULARY)
    assert parsed.values == values and parsed.ok


def test_genres_keep_three_and_say_what_was_dropped():
    parsed = parse_genres("Action|Mystery|Crime|Comedy|Sci-Fi", VOCABULARY)
    assert parsed == (("Action", "Crime", "Comedy"), True, "unknown: Mystery; more than 3")


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "empty answer"), ("Mystery", "unknown: Mystery"), (" . ", "empty answer")],
)
def test_genres_failures(text, reason):
    assert parse_genres(text, VOCABULARY) == ((), False, reason)


def test_genres_without_vocabulary_take_short_words_only():
    assert parse_genres("Genres: Fantasy, Adventure, Retelling.").values == (
        "Fantasy",
        "Adventure",
        "Retelling",
    )
    assert not parse_genres("this is a story that nobody could ever name").ok
    assert not parse_genres("none").ok


@pytest.mark.parametrize(
    "text",
    [
        "director: Ann Bee; actor: Robin Williams|Michael Gambon; country: USA; language: English",
        "director:Ann Bee, actor:Robin Williams|Michael Gambon, country:USA, language:English",
        "Language: English.\nCountry: USA\nActors: Robin Williams,Michael Gambon\nDirector:Ann Bee",
    ],
)
def test_facts_in_any_order(text):
    parsed = parse_facts(text)
    assert parsed.ok and parsed.reason == ""
    assert parsed.values["director"] == ("Ann Bee",)
    assert parsed.values["actor"] == ("Robin Williams", "Michael Gambon")
    assert parsed.values["country"] == ("USA",)
    assert parsed.values["language"][0].rstrip(".") == "English"


def test_facts_failures_and_missing_fields():
    assert parse_facts("") == ({}, False, "empty answer")
    assert parse_facts("Barry Levinson").ok is False
    partly = parse_facts("director: A; country: unknown", ("director", "country"))
    assert partly == ({"director": ("A",)}, True, "missing: country")


def test_summary_keeps_two_sentences():
    parsed = parse_summary("Summary: Dr. No met J. R. Ewing.  It was\n good! A third.")
    assert parsed.text == "Dr. No met J. R. Ewing. It was good!"
    assert (parsed.ok, parsed.reason, parsed.truncated) == (True, "", False)


@pytest.mark.parametrize(
    ("text", "ok", "truncated", "reason"),
    [
        ("", False, False, "empty answer"),
        ("...", False, False, "empty answer"),
        ("One. And the sec", True, True, "unfinished sentence"),
        ("Only one.", True, False, "1 sentence"),
    ],
)
def test_summary_trouble_is_named(text, ok, truncated, reason):
    parsed = parse_summary(text)
    assert (parsed.ok, parsed.truncated, parsed.reason) == (ok, truncated, reason)


def test_marks_inside_titles_do_not_end_a_sentence():
    assert len(sentences("Airplane! is a comedy. Mr. Smith likes it.")) == 2


@pytest.mark.parametrize("parser", [parse_genres, parse_facts, parse_summary])
def test_parsers_never_raise(parser):
    for text in ("\x00", "|||;;;,,,", ":::", "director:", "and and and", "é" * 999, "\u2028", "(("):
        assert isinstance(parser(text).ok, bool)


def test_round_trip_of_answers():
    for wording in prompts.WORDINGS:
        for noun in ("movie", "book"):
            said = genres_answer(["Action", "Crime"], noun, wording)
            assert parse_genres(said, VOCABULARY).values == ("Action", "Crime")
            words = set(YES_WORDS[wording]), set(NO_WORDS[wording])
            said = [
                from_text(yes_no_answer(liked, noun, wording), *words) for liked in (True, False)
            ]
            assert said == [1.0, 0.0]
        facts = {"director": ("A B",), "country": ("USA", "UK"), "language": ("English",)}
        assert parse_facts(facts_answer(facts, wording)).values == facts


def test_prompts_do_not_load_torch():
    code = (
        "import sys, dallrec_core.prompts; assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
