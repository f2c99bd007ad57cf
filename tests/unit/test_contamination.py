"""Probes of what a model recites: a parrot passes, a coin is at chance."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from tiny_data import FakeAsker, books, matinee, movies

from dallrec_core.augmentation import Asker, contamination
from dallrec_core.llm.load import load

DATA = movies(60, 50)
ITEMS = np.arange(DATA.n_items)


def noise(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 16**8


def test_titles() -> None:
    said = {"Film 03": " 03.", "Film 04": "film 04", "Film 05": "05 and more", "Film 06": "6"}
    items = DATA.items.assign(title=["Heat", *DATA.items["title"][1:]])
    data = replace(DATA, items=items)
    answers = iter([said.get(title, "") for title in items["title"][1:]])
    asker = FakeAsker(answer=lambda text: next(answers))
    table = contamination.titles(asker, data, ITEMS)
    assert table["item"].tolist() == list(range(1, 50)), "a title of one word is left out"
    assert table.loc[table["recited"], "item"].tolist() == [3, 4]
    assert all(text.endswith("Title: Film") for text in asker.asked), "half is shown and no more"


def test_genres_of_a_model_that_knows_them() -> None:
    own = {row["title"]: "|".join(DATA.values[row["item"]][:3]) for row in DATA.rows}

    def knows(question: str, answer: str) -> float:
        title = re.search(r"Movie: (Film \d+)", question)
        assert title and "Known genres: none" in question
        return -1.0 if own[title[1]] == answer else -4.0

    table = contamination.genres(FakeAsker(likelihood=knows), DATA, ITEMS)
    assert list(table["item"]) == list(ITEMS)
    assert table["recited"].all() and (table["difference"] == 3).all()


def test_genres_of_a_model_that_likes_frequent_ones() -> None:
    """A model that does not read the title is right one time in ten, whatever it likes to say."""
    asker = FakeAsker(likelihood=lambda text, answer: len(answer) * 5 + noise(text + answer))
    hits = [contamination.genres(asker, DATA, ITEMS, seed)["recited"] for seed in range(6)]
    together = pd.concat(hits)
    assert binomtest(int(together.sum()), len(together), 0.1).pvalue > 0.01
    assert not contamination.genres(FakeAsker(), DATA, ITEMS)["recited"].any(), "no tie counts"
    none = contamination.genres(FakeAsker(), books(), np.arange(12))  # they have no genres
    assert contamination.summary({"genres": (none, 0.1)})["verdict"].tolist() == ["not asked"]


def test_users() -> None:
    coin, known = FakeAsker(chance=noise), DATA.texts("default")
    table = contamination.users(coin, DATA, 60)
    assert len(table) == table["user"].nunique() == 60
    assert binomtest(int(table["recited"].sum()), 60, 0.1).pvalue > 0.01
    for row, texts in zip(table.itertuples(), np.reshape(coin.asked, (60, 10)), strict=True):
        histories, names = zip(*(text.rsplit("movie: ", 1) for text in texts), strict=True)
        items = [known.index(name.removesuffix("? Answer yes or no.")) for name in names]
        assert len(set(histories)) == 1 and known[row.item] not in histories[0]
        assert items[0] == row.item and len(set(items)) == 10
        assert DATA.opinion(row.user, items).tolist() == [1] + [0] * 9, "one liked, others unseen"
    place = iter(range(200))  # each history is asked about ten times; its own item comes first
    parrot = FakeAsker(chance=lambda text: 0.9 if next(place) % 10 == 0 else 0.2)
    assert contamination.users(parrot, DATA, 20)["recited"].all()


def test_summary_says_above_chance_only_when_the_interval_does() -> None:
    few, many = (pd.DataFrame({"recited": np.arange(100) < k}) for k in (15, 25))
    found = contamination.summary({"a": (few, 0.1), "b": (many, 0.1)})
    assert found["verdict"].tolist() == ["not above chance", "above chance"]
    expected = binomtest(25, 100).proportion_ci(method="wilson")
    assert found.loc[1, ["low", "high"]].tolist() == pytest.approx([expected.low, expected.high])


def test_precision_by_recital() -> None:
    added = pd.DataFrame({"user": range(6), "item": [0, 0, 1, 2, 3, 9]})
    liked = np.array([True, False, True, True, False, True])
    table = contamination.precision_by_recital(added, [0, 1], [0, 1, 2, 3], liked)
    assert table["items"].tolist() == ["not probed", "not recited", "recited"]
    assert table["pairs"].tolist() == [1, 2, 3]
    assert table["precision"].tolist() == pytest.approx([1, 1 / 2, 2 / 3])


def test_the_probe_finds_what_the_standin_was_taught() -> None:
    """Its card says that films whose ids end in 7 were kept out of its training text."""
    data, _ = matinee()
    unread = data.items["item_id"].str.endswith("7").to_numpy()
    items = np.concatenate([np.flatnonzero(unread)[:40], np.flatnonzero(~unread)[:40]])
    table = contamination.genres(Asker(load("standin")), data, items)
    read = ~unread[table["item"]]
    assert table.loc[read, "recited"].mean() > 0.3
    assert table.loc[read, "difference"].mean() > table.loc[~read, "difference"].mean() + 1
