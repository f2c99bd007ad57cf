"""The committed notebooks keep to the template: stripped, one parameters cell, short cells."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from second_run import ROOT

from dallrec_core.chain.pages import PAGES, find_page
from dallrec_core.chain.parameters import page_parameters
from dallrec_core.recommenders.settings import SETTINGS

NOTEBOOKS = [ROOT / "notebooks" / page.notebook for page in PAGES]
HEADINGS = ("At a glance", "Overview", "Parameters", "What can go wrong", "Summary", "Next")
"""Every notebook has them, in this order; its own sections stand behind the parameters."""

CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
SLUG = CONFIG["repository"]["url"].removeprefix("https://github.com/")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    """Each notebook in turn."""
    return request.param


def cells(path: Path, kind: str) -> list[dict[str, Any]]:
    content = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in content if cell["cell_type"] == kind]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def prose(path: Path) -> str:
    return "\n\n".join(source(cell) for cell in cells(path, "markdown"))


def test_it_is_stripped_and_its_cells_are_short(path: Path) -> None:
    for cell in cells(path, "code"):
        assert not cell["outputs"] and cell["execution_count"] is None, source(cell)
        assert not {"papermill", "execution"} & set(cell["metadata"])
        assert len(source(cell).splitlines()) <= 25, source(cell)
    metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
    assert metadata["kernelspec"]["name"] == "python3"
    assert not {"papermill", "widgets"} & set(metadata)


def test_it_follows_the_template(path: Path) -> None:
    text = prose(path)
    headings = re.findall(r"^(#+) (.+)$", text, re.MULTILINE)
    names = [name for _, name in headings]
    places = [names.index(name) for name in HEADINGS]
    assert places == sorted(places), names
    assert [mark for mark, _ in headings].count("#") == 1 and headings[0][0] == "#"
    badge, glance = text.split("\n## ")[:2]
    rows = dict(re.findall(r"^\| \*\*(.+?)\*\* \| (.+) \|$", glance, re.MULTILINE))
    assert {"Needs", "Makes", "Time and memory"} <= {name for name, value in rows.items() if value}
    assert f"colab.research.google.com/github/{SLUG}/blob/main/notebooks/{path.name}" in badge
    last = cells(path, "code")[-1]
    assert "page.provenance(" in source(last) and "hide-input" in last["metadata"]["tags"]


def test_the_overview_mirrors_the_headings(path: Path) -> None:
    text = prose(path)
    listed = re.findall(r"^- \[(.+?)\]\(#(.+?)\)", text.split("## Overview")[1], re.MULTILINE)
    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
    frame = {"At a glance", "Overview", "Summary", "Next"}
    assert [name for name, _ in listed] == [name for name in sections if name not in frame]
    for name, anchor in listed:
        assert anchor == re.sub(r"[^\w -]", "", name.lower()).replace(" ", "-")


def test_exercises_have_folded_answers(path: Path) -> None:
    boxes = re.findall(r"^```\{admonition\} Exercise.*?^```", prose(path), re.MULTILINE | re.DOTALL)
    assert boxes, "there is no exercise"
    for box in boxes:
        assert ":class: tip dropdown" in box and re.search(r"\*Answer:\* \w+", box), box


def figures(path: Path) -> list[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Return the cells that draw, each with the cell behind it."""
    content = json.loads(path.read_text(encoding="utf-8"))["cells"]
    pairs = zip(content, [*content[1:], None], strict=True)
    drawing = re.compile(r"^plots\.(?!use_style)", re.MULTILINE)
    return [(c, n) for c, n in pairs if c["cell_type"] == "code" and drawing.search(source(c))]


def test_figures_have_names_captions_alt_texts_and_a_sentence_that_reads_them(path: Path) -> None:
    for cell, behind in figures(path):
        shown = cell["metadata"].get("mystnb", {})
        caption = shown.get("figure", {}).get("caption", "")
        alt = shown.get("image", {}).get("alt", "")
        assert re.fullmatch(r"fig-[a-z0-9-]+", shown["figure"].get("name", "")), source(cell)
        for text in (caption, alt):
            assert re.match(r"[A-Z].{20,}\.$", text), f"not a sentence: '{text}'"
        assert len(alt.split()) >= 8 and alt != caption, alt
        assert behind and behind["cell_type"] == "markdown", f"nothing reads {source(cell)}"
        first = source(behind).strip().split("\n\n")[0]
        assert not first.startswith(("#", "```", "|")) and len(first.split()) >= 8, first


def test_names_of_figures_are_unique() -> None:
    names = [c["metadata"]["mystnb"]["figure"]["name"] for p in NOTEBOOKS for c, _ in figures(p)]
    assert len(set(names)) == len(names) > 7


def test_parameters_are_typed_literals_with_a_comment_each(path: Path) -> None:
    found = page_parameters(find_page(path.name))  # refuses what is no literal
    (cell,) = [c for c in cells(path, "code") if "parameters" in c["metadata"].get("tags", [])]
    assert len(found) == len(ast.parse(source(cell)).body)
    assert (found["run"].default, found["seed"].default) == ("smoke", 0)
    assert all(parameter.comment for parameter in found.values())


def test_no_line_is_wider_than_a_page_and_setting_up_is_short(path: Path) -> None:
    shown = [c for c in cells(path, "code") if "parameters" not in c["metadata"].get("tags", [])]
    for cell in shown:
        assert all(len(line) <= 84 for line in source(cell).splitlines()), source(cell)
    (setup,) = [cell for cell in shown if "chain.begin(" in source(cell)]
    assert len([line for line in source(setup).splitlines() if line.strip()]) <= 8


def test_prose_leads_and_code_follows(path: Path) -> None:
    words = len(re.findall(r"\w+", prose(path)))
    lines = sum(len(source(cell).splitlines()) for cell in cells(path, "code"))
    assert words / lines >= 6, f"{words} words for {lines} lines of code"


def test_each_backbone_has_a_section_a_curve_and_a_row_in_the_book() -> None:
    path = ROOT / "notebooks" / "06_recommenders.ipynb"
    chosen = page_parameters(find_page("06"))
    backbones, references = chosen["backbones"].default, chosen["references"].default
    assert set(backbones) == set(SETTINGS), "page 6 trains what there are settings for"
    content = [source(cell) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    places = []
    for name in backbones:
        heading = next(n for n, text in enumerate(content) if f"### {name}\n" in text)
        equation = content[heading].partition(f"### {name}\n")[2]
        assert re.search(r"\(eq-|\{eq\}", equation), f"{name} has no equation"
        assert re.match(r"show\(|def ", content[heading + 1]), f"{name} shows no code"
        assert content[heading + 2] == f'plots.training_curve(curves, "{name}")'
        places.append(heading)
    training = next(n for n, text in enumerate(content) if "run_grid(" in text)
    test = next(n for n, text in enumerate(content) if "## One look at the test set" in text)
    assert [training, *places, test] == sorted([training, *places, test])
    page = (ROOT / "book" / "backbones.md").read_text(encoding="utf-8")
    assert all(f"**{name}**" in page for name in (*backbones, *references))
