"""matinee, the embedded dataset: real films, simulated viewers whose tastes are known.

**This is a simulation made for teaching.** The films and their facts are real
(`matinee_films.csv`); what the viewers like, watch and rate is made up by the equations on the
page about the dataset. Claims about real data come from real data.

What the recommender is shown (`matinee_items.csv`, `matinee_ratings.csv`) is poorer than the truth,
which is kept aside: most films show one genre only. All but the facts was written once by
`tools/matinee/make.py`, and a test holds that it writes the same bytes again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from dallrec_core.data.base import Dataset, Truth, make_dataset
from dallrec_core.data.tables import open_table

FOLDER = Path(__file__).parent
"""Where the files of the dataset are."""
ITEMS, RATINGS, TASTE = "matinee_items.csv", "matinee_ratings.csv", "matinee_taste.npy"
"""Films as they are shown, ratings of the viewers, and their taste: int16 [U, N] thousandths."""
REALLY_LIKED = 0.7
"""Taste from which a viewer really likes a film: the taste at the cut of rating 3."""
HELD_OUT = frozenset(range(7, 1_000, 10))
"""Film ids (those that end in 7) that the stand-in model's training text never mentions."""


def catalogue() -> pd.DataFrame:
    """Return the true facts of all films, one row each, sorted by film_id.

    Columns film_id int32, title, year int32, genres ("Crime|Drama"), director, country, language.
    """
    films = pd.read_csv(FOLDER / "matinee_films.csv", keep_default_na=False)
    films = films.sort_values("film_id", ignore_index=True)
    return films.astype({"film_id": "int32", "year": "int32"})


def load_matinee() -> Dataset:
    """Return the embedded dataset: shown items, interactions, and the truth beside them.

    Item codes are the rows of `catalogue`. Ratings are 1 to 5, there are no timestamps.
    """
    films = catalogue()
    truth = pd.DataFrame({"item": np.arange(len(films), dtype=np.int32)})
    truth = truth.assign(attributes=films["genres"])
    truth = truth.join(films[["director", "country", "language"]])
    taste = (np.load(FOLDER / TASTE) / 1000.0).astype(np.float32)
    return make_dataset(
        open_table(FOLDER / RATINGS).read(),
        open_table(FOLDER / ITEMS).read(),
        name="matinee",
        truth=Truth(truth, taste, REALLY_LIKED),
        notes=("a simulation made for teaching: real films, simulated viewers",),
    )
