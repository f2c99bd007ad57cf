"""Two plain sentences about a film, composed from its facts: 6 openings x 6 endings = 36 variants.

The opening names title, year, genres, director and country, the ending language and genres again;
nothing is said that the catalogue does not hold, so a description can be checked against it.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence

from dallrec_core.data.matinee import FOLDER


def _words(name: str) -> list[dict[str, str]]:
    path = FOLDER / f"matinee_{name}.csv"
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


NATIONALITY = {row["country"]: row["adjective"] for row in _words("countries")}
"""Adjective of each country; a film of any other country goes without."""
_GENRES = {row["genre"]: row for row in _words("genres")}
_NOUNS = sorted((row["noun_rank"], genre) for genre, row in _GENRES.items() if row["noun"])

_OPENINGS = (
    "{title} is {a_year} {adjective} {kind} directed by {director}.",
    "Directed by {director}, {title} is {a_kind} made {origin} in {year}.",
    "{title} ({year}) is {a_kind} made {origin} and directed by {director}.",
    "{director} directed {title}, {a_adjective} {kind} of {year}.",
    "In {year} {director} made {title}, {a_adjective} {kind}.",
    "{title}, directed by {director}, is {a_adjective} {kind} released in {year}.",
)
_ENDINGS = (
    "It is in {language} and is meant for viewers who enjoy {fare}.",
    "Its language is {language}, and it suits anyone who likes {fare}.",
    "The film is in {language} and belongs on the shelf for {fare}.",
    "Viewers who look for {fare} will find it here, in {language}.",
    "With {language} as its language, it is a choice for fans of {fare}.",
    "People who like {fare} can watch it in {language}.",
)
_SILENT_ENDINGS = (
    "It is a silent film and is meant for viewers who enjoy {fare}.",
    "It has no spoken words, and it suits anyone who likes {fare}.",
    "The film is silent and belongs on the shelf for {fare}.",
    "Viewers who look for {fare} will find it here, without a spoken word.",
    "As a silent film, it is a choice for fans of {fare}.",
    "People who like {fare} can watch it as a silent film.",
)
N_VARIANTS = len(_OPENINGS) * len(_ENDINGS)
"""Number of different wordings of `description`."""


def description(film: Mapping[str, object], variant: int) -> str:
    """Return two sentences about a film of the catalogue.

    Args:
        film: title, year, genres ("Crime|Drama"), director, country, language.
        variant: which wording; any integer, taken modulo `N_VARIANTS`.
    """
    which, ending = divmod(variant % N_VARIANTS, len(_ENDINGS))
    genres = str(film["genres"]).split("|")
    country, language = str(film["country"]), str(film["language"])
    endings = _SILENT_ENDINGS if language in ("Silent", "None", "") else _ENDINGS
    kind = genre_phrase(genres)
    adjective = NATIONALITY.get(country, "")
    words = {
        "title": film["title"],
        "year": film["year"],
        "a_year": with_article(str(film["year"])),
        "adjective": adjective,
        "a_adjective": with_article(adjective or kind),
        "kind": kind,
        "a_kind": with_article(kind),
        "origin": f"in {the_country(country)}",
        "director": _listed(str(film["director"]).split("|")),
        "language": language,
        "fare": _listed([_GENRES[genre]["fare"] for genre in genres]),
    }
    return f"{_OPENINGS[which]} {endings[ending]}".format(**words)


def genre_phrase(genres: Sequence[str]) -> str:
    """Return the genres as one noun phrase: Crime, Thriller -> "crime thriller"."""
    head = next((genre for _, genre in _NOUNS if genre in genres), "")
    qualities = [row["quality"] for name, row in _GENRES.items() if name in genres and name != head]
    return " ".join([*qualities, _GENRES[head]["noun"] if head else "film"])


def with_article(phrase: str) -> str:
    """Return the phrase after "a" or "an"."""
    return f"{'an' if phrase[:1].lower() in 'aeiou' else 'a'} {phrase}"


def the_country(country: str) -> str:
    """Return the country as it stands after "in": the USA, the UK, France."""
    definite = ("USA", "UK", "Netherlands", "Soviet Union")
    return f"the {country}" if country in definite else country


def _listed(words: Sequence[str]) -> str:
    """Return "a", "a and b" or "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
