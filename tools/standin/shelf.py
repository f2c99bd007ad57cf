"""Shelves of films and books: the real catalogue without its held-out films, and invented ones."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dallrec_core.data.matinee import HELD_OUT, catalogue

BOOKS = Path(__file__).with_name("books.csv")
_ADJECTIVES = (
    "Last First Lost Silent Golden Broken Secret Hidden Little Great Dark Bright Red Blue Black "
    "White Green Long Short Old New Young Wild Quiet Strange Perfect Deep High Final Second "
    "Big Dead Good Bad Crazy Sweet Private True Simple Dangerous American French English"
).split()
_NOUNS = (
    "House River Night Day Summer Winter City Road Garden Window Door Stranger Brother Sister "
    "Mother Father King Queen Soldier Hunter Dancer Doctor Teacher Thief Ghost Dream Island Ocean "
    "Mountain Desert Forest Fire Rain Storm Wind Moon Sun Star World War Love Heart Blood Stone "
    "Train Ship Letter Song Story Game Party Wedding Murder Shadow Mirror Circus Kingdom Heaven "
    "Angel Devil Dragon Wolf Dog Cat Horse Bird Tiger Snake Child Boy Girl Man Woman Men Family "
    "Friend Enemy Hero Legend Land Street Hotel School Time Life Death Money Gold Paradise"
).split()
_NAMES = (
    "James Mary John Anna Peter Julia Robert Laura David Emma Michael Sarah Paul Maria George "
    "Alice Thomas Clara Henry Rose Martin Nina Frank Lucy Walter Eva Smith Brown Miller Wilson "
    "Moore Taylor Anderson White Harris Clark Lewis Walker Hall Young Allen King Wright"
).split()
COUNTRIES = ("USA", "UK", "France", "Italy", "Germany", "Japan", "Spain", "Sweden", "Canada")


@dataclass(frozen=True)
class Shelf:
    """Films or books with their true facts, in the columns that `simulate` expects."""

    noun: str
    """"movie" or "book"."""
    frame: pd.DataFrame
    """film_id, title, year, genres ("Crime|Drama"), director (a book's author), ..."""
    real: bool
    """Whether the facts are facts (or invented here)."""

    @property
    def genres(self) -> list[list[str]]:
        """The genres of each row."""
        return [text.split("|") for text in self.frame["genres"]]

    @property
    def names(self) -> list[str]:
        """Each row as prompts name it: `Heat (1995)`, `Emma by Jane Austen (1815)`."""
        return [name(self.noun, row) for row in self.frame.to_dict("records")]

    def shown(self, documented: float, rng: np.random.Generator) -> list[str]:
        """Genres as the recommender sees them: all, or the rarest one only; none if negative."""
        if documented < 0:
            return [""] * len(self.frame)
        count = Counter(g for genres in self.genres for g in genres)
        full = rng.random(len(self.frame)) < documented
        return [
            "|".join(g) if all_ else min(g, key=lambda x: (count[x], x))
            for g, all_ in zip(self.genres, full.tolist(), strict=True)
        ]


def name(noun: str, row: dict) -> str:
    """Title, author of a book, and year unless it is unknown (0)."""
    text = row["title"]
    if noun == "book" and row["director"]:
        text += f" by {row['director']}"
    return f"{text} ({row['year']})" if row["year"] else text


def films() -> Shelf:
    """The catalogue without the held-out films, which no training text may mention."""
    frame = catalogue()
    return Shelf("movie", frame[~frame["film_id"].isin(HELD_OUT)].reset_index(drop=True), True)


def books() -> Shelf:
    """The well-known books of `books.csv` (title, author, year, genres)."""
    frame = pd.read_csv(BOOKS, keep_default_na=False).rename(columns={"author": "director"})
    frame["genres"] = frame["genres"].str.replace(r"\s*[,;|]\s*", "|", regex=True)
    frame["year"] = pd.to_numeric(frame["year"]).astype("int32")
    frame.insert(0, "film_id", np.arange(10_000, 10_000 + len(frame), dtype="int32"))
    return Shelf("book", frame, True)


def _title(rng: np.random.Generator, words: list[str]) -> str:
    def draw(options: list[str]) -> str:
        return options[int(rng.integers(len(options)))]

    if rng.random() < 0.35:
        return " ".join(draw(words) for _ in range(int(rng.integers(1, 4))))
    forms = (
        "The {a} {n}",
        "{a} {n}",
        "{n}",
        "The {n}",
        "{n} of the {m}",
        "{n} and {m}",
        "{p}",
        "{p}'s {n}",
        "{n} in the {m}",
        "{a} {n}, The",
        "My {n}",
        "{n} {k}",
    )
    form = forms[int(rng.integers(len(forms)))]
    return form.format(
        a=draw(_ADJECTIVES),
        n=draw(_NOUNS),
        m=draw(_NOUNS),
        p=draw(_NAMES),
        k=int(rng.integers(2, 5)),
    )


def invented(like: Shelf, size: int, rng: np.random.Generator, *, single: bool = False) -> Shelf:
    """A shelf of `size` made-up titles with the genres, years and genre counts of `like`.

    Matching genres on titles never seen keeps the model from leaning on the titles it knows.
    `single` gives each exactly one genre, all genres equally often.
    """
    words = [w for t in like.frame["title"] for w in t.split() if w[0].isalnum()]
    people = [f"{_NAMES[a]} {_NAMES[b]}" for a, b in rng.integers(len(_NAMES), size=(60, 2))]
    pool = like.genres
    known = sorted({g for genres in pool for g in genres})
    sets = rng.integers(len(pool), size=size)
    frame = pd.DataFrame(
        {
            "film_id": np.arange(size, dtype="int32") + 20_000,
            "title": [_title(rng, words) for _ in range(size)],
            "year": like.frame["year"].to_numpy()[rng.integers(len(pool), size=size)],
            "genres": [
                known[int(rng.integers(len(known)))] if single else "|".join(pool[int(k)])
                for k in sets
            ],
            "director": [people[int(k)] for k in rng.integers(len(people), size=size)],
            "country": [COUNTRIES[int(k)] for k in rng.integers(len(COUNTRIES), size=size)],
            "language": "English",
        }
    )
    return Shelf(like.noun, frame, False)
