"""Preference dialogues of simulated viewers, packed as one history and many questions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tools.matinee.viewers import RECIPE, simulate
from tools.standin.network import Piece, Row
from tools.standin.shelf import Shelf
from tools.standin.tokenizer import Encoder
from tools.standin.wordings import (
    FIRST,
    INTERACTION_DEFAULT,
    INTERACTION_PAPER,
    Wording,
    other_wording,
)

CLEAR = replace(RECIPE, director=0, era=0, appeal=0, whim=300, noise=100)
"""Viewers whose taste is nearly a matter of genre alone, for the first lessons."""


@dataclass(frozen=True)
class Style:
    """What the dialogues of one stage look like."""

    bare: float = 0.0
    """Share of dialogues that show the genres alone, without title and year."""
    bracket: float = 0.0
    """Share of those dialogues that put the genres in brackets."""
    words: int = 99
    """Most words of a name shown before its genres, counted from its end (the year)."""
    clear: bool = False
    """Eight liked and eight disliked, all of decided taste; else what the viewers chose to see."""
    unworded: float = 0.0
    """Share of dialogues that are only two lists of genres and the genre asked about."""
    first: float = 0.0
    """Share of the others in the one wording of the first lessons (`FIRST`)."""
    questions: int = 16
    """Questions per history, half of them yes."""
    default: float = 0.0
    """Share of dialogues in the book's default wording."""
    paper: float = 0.0
    """Share of dialogues in the paper's wording."""
    plain_answers: float = 0.5
    """Share of the other dialogues that answer yes or no (else liked, bad, skip, ...)."""


def _sample(rng: np.random.Generator, values: np.ndarray, size: int) -> np.ndarray:
    return rng.permutation(values)[:size]


def _history(rng, ratings: np.ndarray, seen: np.ndarray, clear: bool):
    """Return (liked, disliked) rows of the shelf shown in the prompt."""
    if clear:
        return _sample(rng, np.flatnonzero(ratings >= 4), 8), _sample(
            rng, np.flatnonzero(ratings == 1), 8
        )
    most = int(rng.choice([2, 4, 5, 8, 8, 8]))
    return _sample(rng, seen[ratings[seen] >= 3], most), _sample(rng, seen[ratings[seen] < 3], most)


def _targets(rng, ratings: np.ndarray, shown: np.ndarray, style: Style):
    """Return (rows, liked) of the questions: films not in the history, half of them liked."""
    free = np.ones(len(ratings), dtype=bool)
    free[shown] = False
    high, low = (4, 1) if style.clear else (3, 2)
    half = style.questions // 2
    yes = _sample(rng, np.flatnonzero(free & (ratings >= high)), half)
    no = _sample(rng, np.flatnonzero(free & (ratings <= low)), half)
    return np.concatenate([yes, no]), np.arange(len(yes) + len(no)) < len(yes)


def _wording(rng, noun: str, style: Style) -> Wording:
    if rng.random() < style.first:
        return FIRST
    draw = rng.random()
    if draw < style.default:
        return INTERACTION_DEFAULT[noun]
    if draw < style.default + style.paper:
        return INTERACTION_PAPER[noun]
    return other_wording(rng, noun, style.plain_answers)


def _list(encoder: Encoder, items: list[str], wording: Wording) -> list[int]:
    if not items:
        return list(encoder.ids(wording.none))
    out: list[int] = []
    for k, item in enumerate(items):
        out += encoder.ids((wording.separator if k else "") + " " + item)
    return out


def preference_row(
    encoder: Encoder,
    wording: Wording,
    likes: list[str],
    dislikes: list[str],
    targets: list[str],
    answers: list[bool],
) -> Row:
    """One history with its questions, exactly as the chat template would put each of them."""
    ids = encoder.ids
    shared = [
        encoder.user,
        *ids(wording.likes),
        *_list(encoder, likes, wording),
        *ids(wording.dislikes),
        *_list(encoder, dislikes, wording),
        *ids(wording.ask),
    ]
    pieces = []
    for target, liked in zip(targets, answers, strict=True):
        lead = "" if wording.quote else " "
        question = [*ids(lead + target), *ids(wording.tail), encoder.assistant]
        answer = [*ids(wording.yes if liked else wording.no), encoder.end]
        pieces.append(Piece(question + answer, [False] * len(question) + [True] * len(answer)))
    return Row(shared, pieces)


def _unworded(encoder: Encoder, lead: str, likes, dislikes, targets, answers) -> Row:
    """Two lists of genre words without separators, and one word per question."""
    first, second, yes, no = (encoder.ids(w)[0] for w in (" liked", " disliked", "yes", "no"))
    word = [encoder.ids(lead + g.split("|")[0])[0] for g in (*likes, *dislikes)]
    pieces = [
        Piece([encoder.ids(lead + g.split("|")[0])[0], yes if a else no], [False, True])
        for g, a in zip(targets, answers, strict=True)
    ]
    return Row([first, *word[: len(likes)], second, *word[len(likes) :]], pieces)


def _items(rng, names: list[list[str]], shown: list[str], style: Style) -> list[str]:
    """Films as the prompt names them; early lessons show the last few words of a name only."""
    keep = 99 if style.words >= 99 else int(rng.integers(style.words + 1))
    short = [" ".join(name[max(0, len(name) - keep) :]) for name in names]
    return [f"{n} ({g})".strip() if g else n for n, g in zip(short, shown, strict=True)]


def dialogues(
    encoder: Encoder, shelf: Shelf, n_viewers: int, seed: int, documented: float, style: Style
) -> Iterator[Row]:
    """Rows of `n_viewers` fresh viewers of `shelf`; a share `documented` shows all its genres."""
    rng = np.random.default_rng([seed, 17])
    viewers = simulate(shelf.frame, n_viewers, seed, CLEAR if style.clear else RECIPE)
    shown = shelf.shown(documented, rng)
    names = [name.split(" ") for name in shelf.names]
    alone = [f"({genres})" for genres in shown]
    seen = dict(list(viewers.interactions.groupby("viewer")["film"]))
    for u in rng.permutation(n_viewers).tolist():
        ratings = viewers.ratings[u]
        likes, dislikes = _history(rng, ratings, seen[u].to_numpy(), style.clear)
        targets, answers = _targets(rng, ratings, np.concatenate([likes, dislikes]), style)
        bare = rng.random() < style.unworded
        if bare:
            items = shown
        elif rng.random() < style.bare:
            items = alone if rng.random() < style.bracket else shown
        else:
            items = _items(rng, names, shown, style)
        parts = [[items[int(k)] for k in rows] for rows in (likes, dislikes, targets)]
        if bare:
            yield _unworded(encoder, " " * int(rng.integers(2)), *parts, answers.tolist())
        else:
            wording = _wording(rng, shelf.noun, style)
            yield preference_row(encoder, wording, *parts, answers.tolist())
