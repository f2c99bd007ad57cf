"""The wordings, to the letter, and the parsers, with the answers that models really give."""

from __future__ import annotations

import pytest

from dallrec_core.augmentation import prompts
from dallrec_core.augmentation.answers import parse_facts, parse_genres, parse_summary
from dallrec_core.errors import UserError
from dallrec_core.llm.served import from_text

HEAT = {"title": "Heat", "year": 1995, "attributes": "Action|Crime|Thriller", "author": None}
GREASE = {"title": "Grease", "year": 1978, "attributes": "Musical|Romance"}
ALIEN = {"title": "Alien", "year": 1979, "attributes": "Horror|Sci-Fi"}
SICK = {"title": "Sick Puppy", "year": 2001, "attributes": None, "author": "Carl Hiaasen"}
MARRIAGE = {"title": "Marriage of Meggotta", "year": 0, "author": "Ellis Peters"}
BEANS = {"title": "The Bean Trees", "year": 1994, "author": "Barbara Kingsolver"}


def ask(noun, likes, dislikes, target, wording="default", person=""):
    shown = [prompts.item_text(row, noun, wording) for row in likes]
    others = [prompts.item_text(row, noun, wording, target=True) for row in dislikes]
    named = prompts.item_text(target, noun, wording, target=True)
    return prompts.interaction_prompt(noun, shown, others, named, wording, person)


HEAT_TEXT, GREASE_TEXT = "Heat (1995) (Action|Crime|Thriller)", "Grease (1978) (Musical|Romance)"
PAPER = (
    "Given the user's like and dislike, identify whether the user will like the target {} by "
    "answering yes or no.user likes:"
)
PAPER_ALIEN = " Whether the user will like the target movie:'Alien (1979) (Horror|Sci-Fi)'?"

INTERACTIONS = [
    (("movie", [HEAT], [GREASE], ALIEN),
     f"A viewer liked: {HEAT_TEXT}. The viewer disliked: {GREASE_TEXT}. "
     "Will the viewer like this movie: Alien (1979) (Horror|Sci-Fi)? Answer yes or no."),
    (("book", [SICK, BEANS], [], MARRIAGE),
     "A reader liked: Sick Puppy by Carl Hiaasen (2001); The Bean Trees by Barbara Kingsolver "
     "(1994). The reader disliked: none. Will the reader like this book: Marriage of Meggotta by "
     "Ellis Peters? Answer yes or no."),
    (("song", [], [GREASE], GREASE),
     f"A user liked: none. The user disliked: {GREASE_TEXT}. Will the user like this song: "
     f"{GREASE_TEXT}? Answer yes or no."),
    (("board game", [], [], ALIEN, "default", "owner"),
     "An owner liked: none. The owner disliked: none. Will the owner like this board game: "
     "Alien (1979) (Horror|Sci-Fi)? Answer yes or no."),
    (("movie", [HEAT, HEAT], [GREASE, GREASE], ALIEN, "paper"),
     f"{PAPER.format('movie')} {HEAT_TEXT}, {HEAT_TEXT}, dislikes: {GREASE_TEXT}, {GREASE_TEXT}."
     f"{PAPER_ALIEN}"),
    (("movie", [HEAT], [], ALIEN, "paper"),
     f"{PAPER.format('movie')} {HEAT_TEXT}, dislikes:None.{PAPER_ALIEN}"),
    (("book", [BEANS, MARRIAGE], [SICK], MARRIAGE, "paper"),
     f"{PAPER.format('book')}The Bean Trees (1994) written by Barbara Kingsolver, Marriage of "
     "Meggotta (0) written by Ellis Peters.user dislikes: Sick Puppy(2001) written by Carl "
     "Hiaasen.Whether the user will like the target book: Marriage of Meggotta(0) written by Ellis "
     "Peters?"),
]  # fmt: skip


@pytest.mark.parametrize(("question", "text"), INTERACTIONS)
def test_interaction_questions(question, text):
    assert ask(*question).text == text


def test_the_history_is_the_prefix():
    one, other = (ask("movie", [HEAT], [GREASE], target) for target in (ALIEN, SICK))
    assert one.prefix == other.prefix and one.suffix.startswith(" Alien")
    empty = ask("book", [], [], MARRIAGE, "paper").text
    assert "user likes:None.user dislikes: None.Whether" in empty


FIELDS = ("director", "country", "language")
ITEMS = [
    (prompts.genres_prompt("movie", HEAT, shown=["Action"]),
     "Movie: Heat (1995). Known genres: Action. List up to three genres of this movie."),
    (prompts.genres_prompt("book", MARRIAGE),
     "Book: Marriage of Meggotta by Ellis Peters. Known genres: none. List up to three genres of "
     "this book."),
    (prompts.genres_prompt("movie", HEAT, "paper", shown=["Action", "Crime"]),
     "Given a movie title and category, Please add the category to three words .title and "
     "category: Heat (1995),Action|Crime"),
    (prompts.genres_prompt("book", MARRIAGE, "paper"),
     "Given a book title, please generate its genres in three words. Title: Marriage of Meggotta"),
    (prompts.facts_prompt("movie", HEAT, FIELDS),
     "Movie: Heat (1995). Name its director, country and language."),
    (prompts.facts_prompt("movie", HEAT, FIELDS, "paper"),
     "Given a movie title and years, Please output its director, actor, country, language. title "
     "and years: Heat (1995)"),
    (prompts.summary_prompt("movie", GREASE),
     "Movie: Grease (1978). Known genres: Musical|Romance. Summarise this movie in two sentences."),
    (prompts.summary_prompt("book", BEANS, "paper"),
     "Using two sentence to generate the summary of this book named: The Bean Trees"),
]  # fmt: skip


@pytest.mark.parametrize(("prompt", "text"), ITEMS)
def test_questions_about_items(prompt, text):
    assert prompt.text == text


def test_answers_of_examples():
    assert prompts.genres_answer(["Fantasy", "War"], "book", "paper") == "Genres: Fantasy, War."


@pytest.mark.parametrize("empty", [None, float("nan"), "", "  "])
def test_missing_fields_are_left_out_and_a_year_is_not_repeated(empty):
    row = {"title": "  Two\n words ", "year": 0, "attributes": empty, "author": empty}
    assert prompts.item_text(row, "book") == "Two words"
    assert prompts.item_text(row, "book", "paper") == "Two words (0)"
    assert prompts.item_text({"title": "Heat (1995)", "year": 1995}, "movie") == "Heat (1995)"


def test_unknown_wording_names_the_valid_ones():
    with pytest.raises(UserError, match="no wording 'papre' .did you mean 'paper'"):
        prompts.interaction_prompt("movie", [], [], "x", "papre")


# ---------------------------------------------------------------- parsers

VOCABULARY = ("Action", "Children's", "Comedy", "Crime", "Film-Noir", "Sci-Fi", "Rock and Roll")


GENRES = [
    ("category: action|crime", ("Action", "Crime"), ""),
    ("Genres: Comedy, Crime, Action.", ("Comedy", "Crime", "Action"), ""),
    ("Comedy / Crime; sci fi", ("Comedy", "Crime", "Sci-Fi"), ""),
    ("The genres of this movie are action, crime and comedy.", ("Action", "Crime", "Comedy"), ""),
    ("1. Science Fiction\n2. film noir\n3. childrens", ("Sci-Fi", "Film-Noir", "Children's"), ""),
    ("Rock and Roll and Comedy", ("Comedy",), "unknown: Rock, Roll"),
    ("Rock and Roll, Comedy", ("Rock and Roll", "Comedy"), ""),
    ("Action|Action|action", ("Action",), ""),
    ("Action|Mystery|Crime|Comedy|Sci-Fi", ("Action", "Crime", "Comedy"),
     "unknown: Mystery; more than 3"),
    ("", (), "empty answer"),
    ("Mystery", (), "unknown: Mystery"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "values", "reason"), GENRES)
def test_genres_are_read_in_the_vocabulary_s_spelling_and_what_is_dropped_is_said(
    text, values, reason
):
    assert parse_genres(text, VOCABULARY)[:3] == (values, bool(values), reason)


def test_genres_without_vocabulary_take_short_words_only():
    said = parse_genres("Genres: Fantasy, Adventure, Retelling.").values
    assert said == ("Fantasy", "Adventure", "Retelling")
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
    facts = parse_facts(text)
    assert facts["director"] == ("Ann Bee",) and facts["country"] == ("USA",)
    assert facts["actor"] == ("Robin Williams", "Michael Gambon")
    assert facts["language"][0].rstrip(".") == "English"


def test_facts_that_are_not_there():
    assert parse_facts("") == parse_facts("Barry Levinson") == {}
    said = parse_facts("director: A; country: unknown", ("director", "country"))
    assert said == {"director": ("A",)}


SUMMARIES = [
    ("Summary: Dr. No met J. R. Ewing.  It was\n good! A third.",
     "Dr. No met J. R. Ewing. It was good!", False, ""),
    ("", "", False, "empty answer"),
    ("One. And the sec", "One. And the sec", True, "unfinished sentence"),
    ("Only one.", "Only one.", False, "1 sentence"),
    ("Airplane! is a comedy. Mr. Smith likes it.",
     "Airplane! is a comedy. Mr. Smith likes it.", False, ""),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kept", "truncated", "reason"), SUMMARIES)
def test_summaries_keep_two_sentences_and_name_trouble(text, kept, truncated, reason):
    parsed = parse_summary(text)
    assert (parsed.text, parsed.ok) == (kept, bool(kept))
    assert (parsed.truncated, parsed.reason) == (truncated, reason)


def test_parsers_never_raise():
    for text in ("\x00", "|||;;;,,,", ":::", "director:", "and and and", "é" * 999, "\u2028", "(("):
        assert isinstance(parse_genres(text).ok, bool)
        assert isinstance(parse_summary(text).ok, bool) and isinstance(parse_facts(text), dict)


@pytest.mark.parametrize("wording", prompts.WORDINGS)
@pytest.mark.parametrize("noun", ["movie", "book"])
def test_round_trip_of_answers(wording, noun):
    said = prompts.genres_answer(["Action", "Crime"], noun, wording)
    assert parse_genres(said, VOCABULARY).values == ("Action", "Crime")
    said = [prompts.yes_no_answer(liked, noun, wording) for liked in (True, False)]
    words = set(prompts.YES_WORDS), set(prompts.NO_WORDS)
    assert [from_text(text, *words) for text in said] == [1, 0]
    facts = {"director": ("A B",), "country": ("USA", "UK"), "language": ("English",)}
    assert parse_facts(prompts.facts_answer(facts, wording)) == facts
