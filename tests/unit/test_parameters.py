"""Parameters cells, profiles and overrides: what is accepted, and what each refusal says."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_book import cell, write_book, write_notebook

from dallrec_core.errors import UserError
from dallrec_core.layout import STAGES, find_stage, select
from dallrec_core.parameters import (
    fits,
    parse_overrides,
    read_parameters,
    read_texts,
    resolve,
)
from dallrec_core.profiles import load_profile


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(write_book(tmp_path))
    return tmp_path


def test_reads_names_types_defaults_and_comments(tiny: Path) -> None:
    found = read_parameters(tiny / "notebooks" / "02_finetune.ipynb")
    assert list(found) == ["run", "seed", "rate", "label"]
    rate = found["rate"]
    assert (rate.kind, rate.default, rate.comment) == ("float", 0.1, "learning rate")


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([cell("x = 1")], "0 cells tagged 'parameters'"),
        ([cell("x: int = 1", "parameters"), cell("y: int = 1", "parameters")], "2 cells"),
        ([cell("x = 1", "parameters")], "line 1 is not 'name: type = literal'"),
    ],
)
def test_refuses_a_notebook_without_one_typed_cell(
    tmp_path: Path, cells: list[dict[str, object]], message: str
) -> None:
    write_notebook(tmp_path / "n.ipynb", *cells)
    with pytest.raises(UserError, match=message):
        read_parameters(tmp_path / "n.ipynb")


def test_refuses_what_is_no_notebook(tmp_path: Path) -> None:
    (tmp_path / "n.ipynb").write_text('{"cells": ')
    with pytest.raises(UserError, match="is not a notebook"):
        read_parameters(tmp_path / "n.ipynb")
    with pytest.raises(UserError, match="does not exist"):
        read_parameters(tmp_path / "other.ipynb")


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (1, "int", True),
        (True, "int", False),
        (1, "float", True),
        ("1e-4", "float", False),
        (0, "bool", False),
        (["a"], "list[str]", True),
        (["a", 1], "list[str]", False),
        ("a", "list[str]", False),
        ({"a": 1}, "dict[str, int]", True),
        ({"a": "b"}, "dict[str, int]", False),
        (None, "int | None", True),
        ("x", "int | None", False),
        ([1, "a"], "list", True),
    ],
)
def test_fits(value: object, kind: str, expected: bool) -> None:
    assert fits(value, kind) is expected


def test_overrides_are_typed_by_the_notebook(tiny: Path) -> None:
    texts = ["02.rate=1e-3", "finetune.label=007", "06_recommenders.arms=[base, random]"]
    assert parse_overrides(texts) == {
        "02_finetune": {"rate": 0.001, "label": "007"},
        "06_recommenders": {"arms": ["base", "random"]},
    }


def test_a_seed_without_stage_is_for_all(tiny: Path) -> None:
    assert parse_overrides(["seed=3"]) == {stage.name: {"seed": 3} for stage in STAGES}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rate=1", "is not 'stage.name=value'"),
        ("02.rate", "is not 'stage.name=value'"),
        ("09.rate=1", "there is no stage '09'; the stages are 01_data, 02_finetune"),
        ("02.rat=1", r"no parameter 'rat' \(did you mean 'rate'\?\).*label: str = 'default'"),
        ("02.rate=quick", "02_finetune.rate should be float, like 0.1, but is str 'quick'"),
        ("02.rate=true", "should be float.* but is bool True"),
        ("06.arms=base", r"should be list\[str\], like \['base'\], but is str"),
        ("01.size=2.5", "should be int.* but is float 2.5"),
        ("01.run=x", "name the run with --run"),
    ],
)
def test_bad_overrides_say_what_to_write(tiny: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_overrides([text])


def test_layers_override_each_other_and_leave_run_out(tiny: Path) -> None:
    stage = find_stage("02")
    profile, typed = {"02_finetune": {"rate": 0.5}}, {"02_finetune": {"label": "paper"}}
    assert resolve(stage, profile, typed) == {"seed": 0, "rate": 0.5, "label": "paper"}


def write_profile(tiny: Path, text: str) -> None:
    (tiny / "notebooks" / "profiles" / "mine.yml").write_text(text)


def test_a_profile_is_checked_as_it_is_loaded(tiny: Path) -> None:
    head = "description: d\nhardware: h\n"
    write_profile(tiny, head + "parameters: {02_finetune: {rate: 1.0e-4}}")
    assert load_profile("mine").parameters == {"02_finetune": {"rate": 0.0001}}
    write_profile(tiny, head + "parameters: {02_finetune: {rate: 1e-4}}")
    with pytest.raises(UserError, match="YAML reads 1e-4 as text, write 1.0e-4"):
        load_profile("mine")
    write_profile(tiny, "description: d\n")
    with pytest.raises(UserError, match="is not a profile with description, hardware and"):
        load_profile("mine")
    write_profile(tiny, "a: [\n")
    with pytest.raises(UserError, match="is not a profile"):
        load_profile("mine")


def test_an_unknown_profile_lists_the_known_ones(tiny: Path) -> None:
    with pytest.raises(UserError, match=r"no profile 'smok' \(did you mean 'smoke'\?\)"):
        load_profile("smok")
    with pytest.raises(UserError, match="cannot read the profile"):
        load_profile(str(tiny / "none.yml"))


@pytest.mark.parametrize("text", ["03_interactions", "03", "3", "interactions"])
def test_stages_can_be_named_shortly(text: str) -> None:
    assert find_stage(text).name == "03_interactions"


def test_select() -> None:
    assert select(None, None) is None
    assert select("06", "07") == ["06_recommenders", "07_analysis"]
    assert select("A1", None) == ["A1_published_split", "A2_released_edges"]
    assert select("02", "03") == ["02_finetune", "03_interactions"]
    assert select(None, None, ("05", "01")) == ["05_summaries", "01_data"]
    with pytest.raises(UserError, match="comes after"):
        select("03", "02")
    with pytest.raises(UserError, match="cannot be combined"):
        select("03", None, ("05",))


def test_texts_from_papermill_become_what_the_annotations_say() -> None:
    annotations = {"backbones": list, "sizes": list[int], "columns": dict, "seeds": int}
    annotations |= {"name": str}
    given = {"backbones": '["LightGCN"]', "sizes": "[1, 2]", "columns": '{"a": "b"}', "seeds": 5}
    names = given | {"name": "[text]", "__annotations__": annotations, "other": "[x]"}
    read_texts(find_stage("06"), names)
    assert (names["backbones"], names["sizes"]) == (["LightGCN"], [1, 2])
    assert (names["columns"], names["seeds"]) == ({"a": "b"}, 5)
    assert (names["name"], names["other"]) == ("[text]", "[x]")


@pytest.mark.parametrize(("kind", "text"), [(list[int], "[a]"), (list, "LightGCN"), (int, "five")])
def test_a_text_of_another_type_is_refused(kind: object, text: str) -> None:
    with pytest.raises(UserError, match="06_recommenders.x should be .*, but is "):
        read_texts(find_stage("06"), {"x": text, "__annotations__": {"x": kind}})
