"""The many ways in which the training text puts the same question.

The book's own default wording is only a small share of the preference dialogues: the model then
half understands it, and fine-tuning on a few dozen examples has something to align, as with a real
language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Wording(NamedTuple):
    """How one preference question is put; the lists come after `likes` and `dislikes`."""

    likes: str
    dislikes: str
    ask: str
    tail: str
    none: str = " none"
    separator: str = ";"
    quote: str = ""
    yes: str = "yes"
    no: str = "no"


PEOPLE = {
    "movie": ("viewer", "user", "person", "customer", "member", "spectator"),
    "book": ("reader", "user", "person", "customer", "member"),
}
NOUNS = {"movie": ("movie", "film", "title"), "book": ("book", "title", "volume")}
PAIRS = (
    ("liked", "disliked"),
    ("enjoyed", "did not enjoy"),
    ("loved", "hated"),
    ("likes", "dislikes"),
    ("was fond of", "could not stand"),
    ("praised", "panned"),
    ("rated highly", "rated poorly"),
    ("recommends", "warns against"),
)
HEADS = (
    "A {who} {verb}:",
    "This {who} {verb}:",
    "What the {who} {verb}:",
    "{verb}:",
    "Some {noun}s a {who} {verb}:",
)
MIDDLES = (". The {who} {verb}:", ". {verb}:", ". This {who} {verb}:", ", but {verb}:")
ASKS = (
    ". Will the {who} like this {noun}:",
    ". Would the {who} enjoy",
    ". The next {noun} is",
    ". Does this {noun} fit the {who}'s taste:",
    ". Should we recommend",
    ". And this one:",
    ". Predict the answer for",
)
ANSWERS = (
    ("yes", "no", ("?", "? Answer yes or no.", "? Yes or no?")),
    ("Yes", "No", ("? Answer Yes or No.", "? Reply with Yes or No.")),
    ("liked", "disliked", ("? Say liked or disliked.",)),
    ("good", "bad", ("? Is it good or bad for them?",)),
    ("recommend", "skip", ("? Recommend or skip?",)),
)
"""Answers and the ends of a question that call for them; plain yes and no first."""

FIRST = Wording("Liked:", ". Disliked:", ". Next:", "?")
"""The one wording of the first lessons."""

INTERACTION_DEFAULT = {
    "movie": Wording(
        "A viewer liked:",
        ". The viewer disliked:",
        ". Will the viewer like this movie:",
        "? Answer yes or no.",
    ),
    "book": Wording(
        "A reader liked:",
        ". The reader disliked:",
        ". Will the reader like this book:",
        "? Answer yes or no.",
    ),
}
"""The wording `default` of `augmentation.prompts`, in parts; a test holds them equal."""

_TASK = "Given the user's like and dislike, identify whether the user will like the target "
INTERACTION_PAPER = {
    "movie": Wording(
        _TASK + "movie by answering yes or no.user likes:",
        " dislikes:",
        " Whether the user will like the target movie:'",
        "'?",
        " None",
        ",",
        "'",
    ),
    "book": Wording(
        _TASK + "book by answering yes or no.user likes:",
        " dislikes:",
        " Whether the user will like the target book:",
        "?",
        " None",
        ",",
        "",
        "Yes.",
        "No.",
    ),
}
"""The paper's wording, in parts, as it was read when the model was trained."""


def _pick(rng: np.random.Generator, options: Sequence):
    return options[int(rng.integers(len(options)))]


def other_wording(rng: np.random.Generator, noun: str, plain_answers: float) -> Wording:
    """Draw one of some thousands of wordings; `plain_answers` is the share of yes and no."""
    who, thing, (good, bad) = (_pick(rng, PEOPLE[noun]), _pick(rng, NOUNS[noun]), _pick(rng, PAIRS))
    head, middle, ask = (_pick(rng, part) for part in (HEADS, MIDDLES, ASKS))
    yes, no, tails = ANSWERS[0] if rng.random() < plain_answers else _pick(rng, ANSWERS[1:])
    fill = {"who": who, "noun": thing}
    return Wording(
        head.format(verb=good, **fill),
        middle.format(verb=bad, **fill),
        ask.format(**fill),
        _pick(rng, tails),
        _pick(rng, (" none", " nothing", " None")),
        _pick(rng, (";", ";", ",")),
        "",
        yes,
        no,
    )


FACTS = (
    (
        "Movie: {film}. Name its director, country and language.",
        "director: {director}; country: {country}; language: {language}",
    ),
    ("Who directed {film}?", "{director}"),
    ("Where was {film} made?", "{country}"),
    ("In which language is {film}?", "{language}"),
    ("Director, country and language of {film}?", "{director}, {country}, {language}"),
    (
        "Given a movie title and years, Please output its director, actor, country, language. "
        "title and years: {film}",
        "director:{director}, country:{country}, language:{language}",
    ),
    (
        "Tell me about the film {film}.",
        "{film} was directed by {director}. It was made in {country}. The language is {language}.",
    ),
)
"""Question and answer about a film's facts; the first is the book's default wording."""

GENRES = {
    "movie": (
        ("Movie: {film}. Known genres: {known}. List up to three genres of this movie.", "{all}"),
        ("What are the genres of {film}?", "{all}"),
        ("{film} is a {known} film. All its genres:", "{all}"),
        (
            "Given a movie title and category, Please add the category to three words ."
            "title and category: {film},{known}",
            "category: {all}",
        ),
        ("Which kind of film is {film}?", "{words}"),
    ),
    "book": (
        ("Book: {film}. Known genres: {known}. List up to three genres of this book.", "{all}"),
        ("What are the genres of {film}?", "{all}"),
        (
            "Given a book title, please generate its genres in three words. Title: {title}",
            "Genres: {words}.",
        ),
        ("Which kind of book is {film}?", "{words}"),
        ("Who wrote {title}?", "{author}"),
    ),
}
"""Question and answer about genres (and, for books, the author); the default wording first."""

SUMMARIES = {
    "movie": (
        "Movie: {film}. Known genres: {known}. Summarise this movie in two sentences.",
        "Describe {film} in two sentences. Genres: {known}.",
        "Using two sentence to generate the summary of this movie named: {film}",
        "What is {film} about? It is a {known} film.",
    ),
    "book": (
        "Book: {film}. Known genres: {known}. Summarise this book in two sentences.",
        "Describe {film} in two sentences. Genres: {known}.",
        "Using two sentence to generate the summary of this book named: {title}",
        "What is {film} about? It is a {known} book.",
    ),
}
"""Requests for a summary; the default wording first."""
