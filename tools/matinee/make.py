"""Write the tables of the embedded dataset: `python -m tools.matinee.make`.

The films and their facts are real (`matinee_films.csv` in `dallrec_core/data`, kept by hand). Made
from them are what a recommender is shown of each film, what simulated viewers saw and how they
rated it, and how much each would like every film. The same facts give the same bytes on every
machine, and a test holds that they are those in the package.

What is shown is poorer than the truth: about 30 % of the films are documented (all genres,
director, country, language and two sentences of text); the others show one genre, their most
specific one, which is the one that is rarest in the catalogue.
"""

from __future__ import annotations

import io

import numpy as np
import pandas as pd

from dallrec_core.data import matinee
from tools.matinee.descriptions import description
from tools.matinee.viewers import DOCUMENTED, film_words, simulate

SEED = 20_250_417
"""The seed of the embedded dataset's viewers; other viewers come from other seeds."""
N_VIEWERS = 900
"""Viewers of the embedded dataset."""
DOCUMENTED_PERCENT = 30
"""Chance of each film that its metadata are shown completely."""


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


def files() -> dict[str, bytes]:
    """Return the files of the embedded dataset, by name."""
    films = matinee.catalogue()
    viewers = simulate(films, N_VIEWERS, SEED)
    seen = viewers.interactions
    ratings = pd.DataFrame({"user_id": seen["viewer"] + 1})
    ratings["item_id"] = films["film_id"].to_numpy()[seen["film"]]
    ratings["rating"] = seen["rating"]
    taste = io.BytesIO()
    np.save(taste, np.rint(viewers.taste * 1000.0).astype("<i2"))
    return {
        matinee.ITEMS: shown(films).to_csv(index=False, lineterminator="\n").encode(),
        matinee.RATINGS: ratings.to_csv(index=False, lineterminator="\n").encode(),
        matinee.TASTE: taste.getvalue(),
    }


if __name__ == "__main__":
    for name, body in files().items():
        (matinee.FOLDER / name).write_bytes(body)
        print(f"{name}: {len(body):,} bytes")
