"""matinee, the embedded dataset: real films, simulated viewers whose tastes are known.

**This is a simulation made for teaching.** The films and their facts are real
(`matinee_films.csv`); what the viewers like, watch and rate is made up by the equations of
`matinee_viewers`. Claims about real data come from real data.

What the recommender is shown is poorer than the truth, which is kept aside: about 30 % of the films
are documented (all genres, director, country, language and two sentences of text); the others
show one genre, their most specific one, which is the one that is rarest in the catalogue.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from dallrec_core.data.base import Dataset, Truth, make_dataset
from dallrec_core.data.checks import Table
from dallrec_core.data.matinee_text import description
from dallrec_core.data.matinee_viewers import (
    DOCUMENTED,
    REALLY_LIKED,
    RECIPE,
    Recipe,
    Viewers,
    film_words,
    simulate,
)

__all__ = [
    "DOCUMENTED_PERCENT",
    "HELD_OUT",
    "LIKE_THRESHOLD",
    "N_VIEWERS",
    "REALLY_LIKED",
    "RECIPE",
    "SEED",
    "Recipe",
    "Viewers",
    "catalogue",
    "load_matinee",
    "shown",
    "simulate",
]

SEED = 20_250_417
"""The seed of the embedded dataset's viewers; other viewers come from other seeds."""
N_VIEWERS = 900
"""Viewers of the embedded dataset."""
LIKE_THRESHOLD = 3.0
"""A rating at or above it means liked, below it disliked."""
HELD_OUT = frozenset(range(7, 1_000, 10))
"""Film ids (those that end in 7) that the stand-in model's training text never mentions."""
DOCUMENTED_PERCENT = 30
"""Chance of each film that its metadata are shown completely."""


def catalogue() -> pd.DataFrame:
    """Return the true facts of all films, one row each, sorted by film_id.

    Columns film_id int32, title, year int32, genres ("Crime|Drama"), director, country, language.
    """
    films = pd.read_csv(Path(__file__).with_name("matinee_films.csv"), keep_default_na=False)
    films = films.sort_values("film_id", ignore_index=True)
    return films.astype({"film_id": "int32", "year": "int32"})


def shown(films: pd.DataFrame) -> pd.DataFrame:
    """Return the items as the recommender sees them, poorer than `films` (see the module).

    Columns item_id, title, year, attributes, text, director, country, language; the last four are
    missing for films that are not documented. Genres are counted within `films`.
    """
    lists = films["genres"].str.split("|")
    count = lists.explode().value_counts()
    rarest = [min(genres, key=lambda name: (count[name], name)) for genres in lists]
    documented = (film_words(films, DOCUMENTED) * 100) >> 32 < DOCUMENTED_PERCENT
    texts = [description(row, row["film_id"]) for row in films.to_dict("records")]
    items = pd.DataFrame({"item_id": films["film_id"].astype(str), "title": films["title"]})
    items["year"] = films["year"]
    items["attributes"] = films["genres"].where(documented, pd.Series(rarest, films.index))
    items["text"] = pd.Series(texts, films.index).where(documented)
    for column in ("director", "country", "language"):
        items[column] = films[column].where(documented)
    return items


def load_matinee() -> Dataset:
    """Return the embedded dataset: shown items, interactions, and the truth beside them.

    Item codes are the rows of `catalogue`, user codes the viewers of
    `simulate(catalogue(), N_VIEWERS, SEED)`. Ratings are 1 to 5, there are no timestamps.
    """
    films = catalogue()
    viewers = simulate(films, N_VIEWERS, SEED)
    seen = viewers.interactions
    frame = pd.DataFrame({"user_id": seen["viewer"] + 1, "rating": seen["rating"]})
    frame["item_id"] = films["film_id"].to_numpy()[seen["film"]]
    facts = films[["director", "country", "language"]]
    truth = pd.DataFrame({"item": np.arange(len(films), dtype=np.int32)})
    truth = truth.assign(attributes=films["genres"]).join(facts)
    return make_dataset(
        Table(frame, "the simulated viewers"),
        Table(shown(films), "matinee_films.csv"),
        name="matinee",
        like_threshold=LIKE_THRESHOLD,
        truth=Truth(truth, viewers.taste, REALLY_LIKED),
        notes=("a simulation made for teaching: real films, simulated viewers",),
    )
