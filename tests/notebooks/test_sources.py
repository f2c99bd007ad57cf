"""The committed notebooks keep to the template: stripped, one parameters cell, short cells."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from second_run import ROOT

from dallrec_core.layout import STAGES
from dallrec_core.parameters import read_parameters
from dallrec_core.training import SETTINGS

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def cells(path: Path, kind: str) -> list[dict[str, Any]]:
    content = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in content if cell["cell_type"] == kind]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def prose(path: Path) -> str:
    return "\n\n".join(source(cell) for cell in cells(path, "markdown"))


def test_there_is_a_notebook_for_each_stage() -> None:
    assert {stage.notebook for stage in STAGES} <= {path.name for path in NOTEBOOKS}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_stripped(path: Path) -> None:
    for cell in cells(path, "code"):
        assert not cell["outputs"] and cell["execution_count"] is None, source(cell)
        assert not {"papermill", "execution"} & set(cell["metadata"])
    metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
    assert metadata["kernelspec"]["name"] == "python3"
    assert not {"papermill", "widgets"} & set(metadata)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_parameters_and_cells_are_short(path: Path) -> None:
    assert {"run", "seed"} <= set(read_parameters(path))
    for cell in cells(path, "code"):
        assert len(source(cell).splitlines()) <= 25, source(cell)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_follows_the_template(path: Path) -> None:
    text = prose(path)
    for heading in ("At a glance", "What can go wrong", "Summary"):
        assert re.search(rf"^#+ .*{heading}", text, re.MULTILINE) or f"**{heading}" in text, heading
    assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1
    last = cells(path, "code")[-1]
    assert "here.provenance(" in source(last) and "hide-input" in last["metadata"]["tags"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_figures_have_captions_and_alt_texts(path: Path) -> None:
    for cell in cells(path, "code"):
        if not re.search(r"^plots\.(?!use_style)", source(cell), re.MULTILINE):
            continue
        shown = cell["metadata"].get("mystnb", {})
        assert shown.get("figure", {}).get("caption"), source(cell)
        assert len(shown.get("image", {}).get("alt", "")) > 20, source(cell)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_prose_leads_and_code_follows(path: Path) -> None:
    words = len(re.findall(r"\w+", prose(path)))
    lines = sum(len(source(cell).splitlines()) for cell in cells(path, "code"))
    assert words / lines >= 6, f"{words} words for {lines} lines of code"


def test_each_backbone_has_a_section_a_curve_and_a_row_in_the_book() -> None:
    path = ROOT / "notebooks" / "06_recommenders.ipynb"
    chosen = read_parameters(path)
    backbones, references = chosen["backbones"].default, chosen["references"].default
    assert set(backbones) == set(SETTINGS), "page 6 trains what there are settings for"
    content = [source(cell) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    places = []
    for name in backbones:
        heading = next(n for n, text in enumerate(content) if f"### {name}\n" in text)
        equation = content[heading].partition(f"### {name}\n")[2]
        assert re.search(r"\(eq-|\{eq\}", equation), f"{name} has no equation"
        assert content[heading + 1].startswith("show("), f"{name} shows no code"
        assert content[heading + 2] == f'plots.training_curve(curves, "{name}")'
        places.append(heading)
    training = next(n for n, text in enumerate(content) if "run_cells(" in text)
    test = next(n for n, text in enumerate(content) if "## One look at the test set" in text)
    assert [training, *places, test] == sorted([training, *places, test])
    page = (ROOT / "book" / "backbones.md").read_text(encoding="utf-8")
    assert all(f"**{name}**" in page for name in (*backbones, *references))
