"""Parameters cells, profiles and overrides: what is accepted, and what each refusal says."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from tiny_book import cell, write_notebook

from dallrec_core import data, recommenders
from dallrec_core.augmentation import interactions, prompts, selection
from dallrec_core.chain import begin
from dallrec_core.chain import parameters as module
from dallrec_core.chain.pages import PAGES, find_page
from dallrec_core.chain.parameters import (
    TYPES,
    check,
    load_profile,
    page_parameters,
    parse_overrides,
    resolve,
)
from dallrec_core.data import splits
from dallrec_core.errors import UserError
from dallrec_core.experiment.arms import ARMS
from dallrec_core.recommenders.base import model_class

# --- types and bounds ---


def test_the_notebooks_and_their_quick_versions_fit_and_every_bound_has_a_parameter() -> None:
    names = set()
    for page in PAGES:
        known = page_parameters(page)
        check(page, {name: p.default for name, p in known.items() if name != "run"})
        check(page, page.quick)
        names |= {*known, *(f"{page.name}.{name}" for name in known)}
    assert set(TYPES) <= names


def test_words_are_those_of_the_rooms() -> None:
    assert get_args(TYPES["dataset"]) == data.NAMES
    assert get_args(TYPES["split"]) == splits.KINDS
    assert get_args(TYPES["wording"]) == prompts.WORDINGS
    assert get_args(TYPES["strategy"]) == interactions.STRATEGIES
    assert set(get_args(TYPES["calibration_method"])) == set(selection.METHODS)
    # other tests of this process may have registered one of their own
    ours = {name for name in recommenders.names() if "dallrec" in model_class(name).__module__}
    assert set(get_args(module.Backbone)) == ours
    assert set(get_args(module.Arm)) == set(ARMS)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("01_data.min_interactions", True, "a valid integer"),
        ("01_data.columns", {"user_id": "reader"}, ""),
        ("07_analysis.fractions", [1, 0.5], ""),
        ("07_analysis.fractions", ["1e-4"], "a valid number"),
        ("06_recommenders.arms", ["base", 1], "'base', 'dallrec'"),
        ("06_recommenders.backbones", [], "at least 1 item"),
        ("06_recommenders.backbones", ["mine:Model"], ""),
        ("06_recommenders.encoder", "tf-idf", "'tfidf'"),
        ("06_recommenders.encoder", "lm:standin", ""),
        ("03_interactions.llm_backend", "https://me:key@host/v1", "pattern"),
        ("03_interactions.llm_backend", "http://host:8000/v1", ""),
        ("06_recommenders.encoder", "sentence-transformers/all-MiniLM-L6-v2", ""),
        ("06_recommenders.epochs", 0, ""),
        ("02_finetune.epochs", 0, "greater than 0"),
        ("01_data.seed", 3_000_000_000, "less than or equal to 2000000000"),
    ],
)
def test_types_and_bounds(place: str, value: Any, message: str) -> None:
    page, name = place.split(".")
    if not message:
        assert check(find_page(page), {name: value}) == {name: value}
        return
    with pytest.raises(UserError, match=f"{place}: .*{message}.*, but it is "):
        check(find_page(page), {name: value})


# --- reading a notebook ---


def test_reads_names_types_defaults_and_comments(tiny: Path) -> None:
    found = page_parameters(find_page("02"))
    assert list(found) == ["run", "seed", "rate", "label"]
    rate = found["rate"]
    assert (rate.kind, rate.default, rate.comment) == ("float", 0.1, "learning rate")


def test_refuses_what_is_no_notebook_with_literals(tiny: Path) -> None:
    absent, half, computing = (tiny / "notebooks" / page.notebook for page in PAGES[:3])
    absent.unlink()
    half.write_text('{"cells": ')
    write_notebook(computing, cell("x: int = 1 + y", "parameters"))
    for page in PAGES[:3]:
        with pytest.raises(UserError, match=f"{page.name}.* is not a notebook with parameters"):
            page_parameters(page)


# --- where values come from ---


def test_layers_of_overrides_are_typed_by_the_notebook(tiny: Path) -> None:
    texts = ["02.rate=1e-3", "finetune.label='007'", "06_recommenders.arms=[base, random]"]
    typed = parse_overrides(texts)
    assert typed["02_finetune"] == {"rate": 0.001, "label": "007"}
    assert typed["06_recommenders"] == {"arms": ["base", "random"]}
    assert parse_overrides(["seed=3"]) == {page.name: {"seed": 3} for page in PAGES}
    profile = {"02_finetune": {"rate": 0.5, "label": "paper"}}
    expected = {"seed": 0, "rate": 0.001, "label": "007"}
    assert resolve(find_page("02"), profile, typed) == expected


def test_paths_are_made_absolute_where_they_are_given(tiny: Path) -> None:
    (tiny / "own").mkdir()
    texts = ["02.label=./own", "02.label=acme/model", "02.label="]
    found = [parse_overrides([text])["02_finetune"]["label"] for text in texts]
    assert found == [str(tiny / "own"), "acme/model", ""]


def test_texts_from_papermill_become_what_the_annotations_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DALLREC_RUNS_DIR", str(tmp_path))
    names = {"columns": '{"user_id": "reader"}', "seed": "5", "noun": "book", "other": "[x]"}
    begin("01_data", names)
    assert (names["columns"], names["seed"]) == ({"user_id": "reader"}, 5)
    assert (names["noun"], names["other"]) == ("book", "[x]")
    for name, text in (("columns", "reader"), ("seed", "five"), ("seed", "-1")):
        with pytest.raises(UserError, match=f"01_data.{name}: .*, but it is "):
            begin("01_data", {name: text})


# --- profiles ---

HEAD = "description: d\nhardware: h\n"
PROFILES = [
    (HEAD + "parameters: {02_finetune: [}\n", "while parsing.* line 3"),
    ("- a list\n", "not a mapping"),
    ("", "description Field required"),
    (HEAD + "parameters: {}\nhardwear: h\n", "hardwear Extra inputs"),
    (HEAD + "parameters: {08_x: {a: 1}}\n", "no page '08_x'.*01_data"),
    (HEAD + "parameters: {02_finetune: {rat: 5}}\n", "mean rate\\? .*rate: float"),
    (HEAD + "parameters: {02_finetune: {rate: much}}\n", "02_finetune.rate: .*'much'"),
]


def test_a_profile_is_found_by_its_path_and_named_where_it_is_malformed(tiny: Path) -> None:
    file = tiny / "mine.yml"
    file.write_text(HEAD + "parameters: {02: {rate: 1e-4}}")  # to YAML, a text
    assert load_profile(str(file)).parameters == {"02_finetune": {"rate": 0.0001}}
    for text, message in PROFILES:
        file.write_text(text)
        with pytest.raises(UserError, match=f"mine.yml.*{message}"):
            load_profile(str(file))
