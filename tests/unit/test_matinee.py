"""matinee: the same bytes everywhere, the shape it promises, poorer metadata, known truth."""

from __future__ import annotations

import hashlib
import re
from dataclasses import fields
from decimal import getcontext, localcontext
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dallrec_core.chain.artefacts import read_table, write_table
from dallrec_core.data import Dataset, load, matinee
from tools import settle
from tools.matinee import make
from tools.matinee.descriptions import NATIONALITY
from tools.matinee.viewers import RECIPE, simulate

# The embedded dataset, byte for byte. It is settled: results in the book rest on it. These change
# only when a fact in matinee_films.csv is corrected.
INTERACTIONS_SHA256 = "030d9bd8bdc457c0daeb5ef75e2738b09c06cf6aaebbfa6899792df504c886a4"
TASTE_SHA256 = "c3ecfcaa3cffd837b9a49b380bf07fade034a5f2cda3fc602fdea767d41483b2"
SHOWN_SHA256 = "7290b340575600665f67d783d3eaaff9d38507d69c01145ef67368625a00291d"

GENRES = set(
    "Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy Film-Noir Horror "
    "Musical Mystery Romance Sci-Fi Thriller War Western".split()
)


@pytest.fixture(scope="module")
def films() -> pd.DataFrame:
    return matinee.catalogue()


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load("matinee")


def sha256(values: np.ndarray | bytes) -> str:
    return hashlib.sha256(values).hexdigest()


# --- what is in the package ---


def test_its_bytes_are_settled(data):
    seen = data.interactions[["user", "item", "rating"]].to_numpy("<i4")
    assert sha256(np.ascontiguousarray(seen)) == INTERACTIONS_SHA256
    assert sha256(data.truth.taste.astype("<f4")) == TASTE_SHA256
    assert sha256((matinee.FOLDER / matinee.ITEMS).read_bytes()) == SHOWN_SHA256


def test_its_tables_are_what_the_simulation_makes():
    for name, body in make.files().items():
        assert (matinee.FOLDER / name).read_bytes() == body, name


def test_catalogue_is_well_formed(films):
    assert len(films) >= 400
    assert films["film_id"].is_monotonic_increasing and films["film_id"].is_unique
    assert not films.duplicated(["title", "year"]).any()
    lists = films["genres"].str.split("|")
    assert lists.str.len().between(1, 3).all()
    assert set(lists.explode()) <= GENRES
    assert films["year"].between(1890, 2030).all()
    assert (films[["title", "director", "country", "language"]] != "").all(axis=None)


def test_shown_metadata_are_poorer_than_the_truth(films, data, tmp_path):
    items, truth = data.items, data.truth.items
    assert (items["item_id"].astype(int) == films["film_id"]).all()
    assert (truth["attributes"] == films["genres"]).all() and truth["item"].is_monotonic_increasing
    documented = items["text"].notna()
    assert 0.25 < documented.mean() < 0.35
    assert (items["attributes"] == truth["attributes"])[documented].all()
    for column in ("director", "country", "language"):
        assert (items[column].notna() == documented).all()
        assert (items.loc[documented, column] == truth.loc[documented, column]).all()
    counts = films["genres"].str.split("|").explode().value_counts()
    for given, true in zip(items["attributes"], truth["attributes"], strict=True):
        if given != true:
            assert given in true.split("|")
            assert counts[given] == counts[true.split("|")].min()
    assert not items.loc[~documented, "attributes"].str.contains("|", regex=False).any()
    read_table(write_table(items, tmp_path / "items.parquet", "items"), "items")


def test_texts_state_all_facts_in_two_sentences(films, data):
    assert set(films["country"]) <= set(NATIONALITY)
    for row, text in zip(films.to_dict("records"), data.items["text"], strict=True):
        if isinstance(text, str):
            assert row["title"] in text and row["director"] in text
            assert row["language"] in text or row["language"] == "Silent"
            rest = text.replace(row["title"], "It")
            assert not re.search(r"\b[Aa] [aeiou]|\ban [^aeiouAEIOU]|  | ,|[{}|]|Silent", rest)


def test_held_out_films_are_every_tenth_and_of_both_kinds(films, data):
    held = films["film_id"].isin(matinee.HELD_OUT)
    assert 38 <= held.sum() <= 50 and films["film_id"].max() < 1_000
    assert (films.loc[held, "film_id"] % 10 == 7).all()
    assert 4 <= data.items.loc[held, "text"].notna().sum() < held.sum() - 10


# --- how it was made ---


def test_other_viewers_have_the_bytes_of_every_other_machine(films):
    with localcontext():
        getcontext().prec = 5  # a caller's settings do not change a byte
        viewers = simulate(films, 300, 7)
    chance = (viewers.ratings >= 3)[np.abs(viewers.taste - matinee.REALLY_LIKED) < 0.02].mean()
    assert matinee.REALLY_LIKED == RECIPE.cuts[1] / 1_000 and 0.45 < chance < 0.55
    assert sha256(viewers.interactions.to_numpy("<i4").copy()) == (
        "a26d13799f5baab7e695e3d5afc8d91220cb39b70b83336127b010f0406d23c0"
    )
    assert sha256(viewers.taste.astype("<f4")) == (
        "5aab7ee9bd7ac7dfb016be5c4416455f0a75e5685ff61ce5b343c2fb7fc865f6"
    )


def test_the_book_tells_every_constant():
    page = (Path(__file__).parents[2] / "book" / "matinee.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", page, re.MULTILINE))
    thousandths = ("director", "era", "appeal", "whim", "noise", "cuts")
    for field in fields(RECIPE):
        value = getattr(RECIPE, field.name)
        if field.name == "activity":
            assert all(
                f"{share} % " in page and f"{low} to {high}" in page for share, low, high in value
            )
            continue
        parts = np.atleast_1d(value).astype(float) / (1_000 if field.name in thousandths else 1)
        assert told[field.name] == ", ".join(f"{part:g}" for part in parts)


def test_the_rule_is_settled_on_other_viewers_by_validation_alone() -> None:
    data, validation = settle.other_viewers(1)
    published = load("matinee")
    assert data.n_items == published.n_items and len(data.items) == published.n_items
    pairs = pd.concat([data.train, validation])[["user", "item"]]
    ours = pairs.merge(published.interactions[["user", "item"]])
    assert len(ours) < 0.2 * len(pairs)  # other viewers met other films
    names = [name for name, _ in settle.rules()]
    assert len(names) == len(set(names)) == 1 + len(settle.CHANGES)

    cases = product(("as it stands", "better", "noise"), ("MF-BPR", "LightGCN"), range(6))
    found = pd.DataFrame(cases, columns=["arm", "backbone", "viewers"]).assign(added=10)
    luck = np.random.default_rng(0).normal(0, 0.01, len(found))
    found["validation"] = 0.1 + 0.2 * (found["arm"] == "better") + luck
    table = settle.laid_out(settle.compared(found)).set_index("rule")["finding"]
    assert table.to_dict() == {
        "as it stands": "", "better": "higher", "noise": "no detectable effect"
    }  # fmt: skip
