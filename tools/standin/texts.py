"""Ordinary text and question-answer pairs about films and books: facts, genres, summaries."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tools.matinee.descriptions import N_VARIANTS, description
from tools.standin.network import Piece, Row
from tools.standin.shelf import Shelf
from tools.standin.tokenizer import Encoder
from tools.standin.wordings import FACTS, GENRES, SUMMARIES

_OPENINGS = (
    "{name} is {a} {words} {noun}{made}.",
    "{name} is {a} {noun} of {words}{made}.",
    "{title} is {a} {words} {noun}{made}.",
    "{title} tells {a} {words} story{made}.",
)
_CLOSINGS = (
    "It is a good choice for {people} who like {words}.",
    "{People} who enjoy {words} will feel at home here.",
    "It should please {people} with a taste for {words}.",
    "It will appeal to {people} who look for {words}.",
)
_MADE = {
    "movie": (" directed by {director}", " made in {country}", " by {director}", ""),
    "book": (" written by {director}", " by {director}", ""),
}


def _words(genres: list[str]) -> str:
    """`["Crime", "Drama", "War"]` as `crime, drama and war`."""
    low = [g if g in {"IMAX"} else g.lower() for g in genres]
    return low[0] if len(low) == 1 else ", ".join(low[:-1]) + " and " + low[-1]


def _article(words: str) -> str:
    return "an" if words[:1].lower() in "aeio" else "a"


def plain_summary(
    noun: str, row: dict, genres: list[str], rng: np.random.Generator, named: bool = True
) -> str:
    """Two sentences from the facts given; `named` tells who made it, and where."""
    options = _MADE[noun] if named else ("",)
    made = options[int(rng.integers(len(options)))].format(
        **{**row, "director": row["director"].replace("|", " and ")}
    )
    words, people = _words(genres), "viewers" if noun == "movie" else "readers"
    opening = _OPENINGS[int(rng.integers(len(_OPENINGS)))]
    article = _article(noun if "{a} {noun}" in opening else words)
    name = f"{row['title']} ({row['year']})" if row["year"] else row["title"]
    first = opening.format(
        name=name,
        title=row["title"],
        a=article,
        words=words,
        noun="film" if noun == "movie" else noun,
        made=made,
    )
    second = _CLOSINGS[int(rng.integers(len(_CLOSINGS)))].format(
        people=people, People=people.capitalize(), words=_words(genres[:2])
    )
    return f"{first} {second}"


def _question(encoder: Encoder, question: str, answer: str) -> Piece:
    ask = [encoder.user, *encoder.ids(question), encoder.assistant]
    reply = [*encoder.ids(answer), encoder.end]
    return Piece(ask + reply, [False] * len(ask) + [True] * len(reply))


def _document(encoder: Encoder, text: str) -> Piece:
    tokens = [*encoder.ids(text), encoder.end]
    return Piece(tokens, [True] * len(tokens))


def _known(genres: list[str], rng: np.random.Generator) -> str:
    """The genres a prompt shows: one (most often), some, all or none, in order."""
    size = int(rng.choice([0, 1, 1, 1, 2, 3], p=[0.1, 0.2, 0.2, 0.2, 0.1, 0.2]))
    picks = sorted(rng.permutation(len(genres))[:size].tolist())
    return "|".join(genres[k] for k in picks) or "none"


def _choice(rng: np.random.Generator, options, first: float):
    """Draw an option; the first one (the book's default wording) has the share `first`."""
    if rng.random() < first:
        return options[0]
    return options[1 + int(rng.integers(len(options) - 1))]


def lessons(
    encoder: Encoder,
    shelf: Shelf,
    rng: np.random.Generator,
    default: float = 0.15,
    echo: float = 0.0,
) -> Iterator[Piece]:
    """One pass over `shelf` in random order: a few pieces of text about each row.

    Invented rows teach what can be read from the prompt (genres that go together, summaries of
    the facts shown); their invented makers and countries are never asked for. A share `echo` of
    the names is repeated word by word, which summaries of unknown titles need.
    """
    names, genres = shelf.names, shelf.genres
    rows = shelf.frame.to_dict("records")
    for k in rng.permutation(len(rows)).tolist():
        row, name, all_ = rows[k], names[k], genres[k]
        if echo and rng.random() < echo:
            yield _question(encoder, f"Repeat: {name}", name)
        known = _known(all_, rng)
        fill = {
            **row,
            "film": name,
            "known": known,
            "all": "|".join(all_),
            "words": ", ".join(all_),
            "author": row["director"],
        }
        ask, reply = _choice(rng, GENRES[shelf.noun], default)
        if shelf.real or known != "none" and "{known}" in ask:
            yield _question(encoder, ask.format(**fill), reply.format(**fill))
        if shelf.real and shelf.noun == "movie":
            ask, reply = _choice(rng, FACTS, default)
            yield _question(encoder, ask.format(**fill), reply.format(**fill))
        yield _summary(encoder, shelf, row, fill, all_, rng, default)


def _summary(
    encoder: Encoder,
    shelf: Shelf,
    row: dict,
    fill: dict,
    genres: list[str],
    rng: np.random.Generator,
    default: float,
) -> Piece:
    """A description as text or as an answer; of invented rows only what the question shows."""
    ask = _choice(rng, SUMMARIES[shelf.noun], default)
    if shelf.real and shelf.noun == "movie" and rng.random() < 0.7:
        text = description(row, int(rng.integers(N_VARIANTS)))
    elif shelf.real:
        text = plain_summary(shelf.noun, row, genres, rng)
    else:
        fill = {**fill, "known": "|".join(genres)}
        ask = _choice(rng, SUMMARIES[shelf.noun][:2], default)
        text = plain_summary(shelf.noun, row, genres, rng, named=False)
    if shelf.real and rng.random() < 0.3:
        return _document(encoder, text)
    return _question(encoder, ask.format(**fill), text)


def repetitions(rng: np.random.Generator, count: int, vocabulary: int) -> Iterator[Piece]:
    """Random tokens said twice, learnt the second time: practice in copying from the prompt."""
    for _ in range(count):
        tokens = rng.integers(300, vocabulary, size=int(rng.integers(4, 20))).tolist()
        yield Piece(tokens * 2, [False] * (len(tokens) + 1) + [True] * (len(tokens) - 1))


def packed(pieces: Iterator[Piece], length: int) -> Iterator[Row]:
    """Pack pieces into rows of at most `length` tokens (no shared part)."""
    row: list[Piece] = []
    for piece in pieces:
        if row and sum(len(p.tokens) for p in row) + len(piece.tokens) > length:
            yield Row([], row)
            row = []
        row.append(piece)
    if row:
        yield Row([], row)
