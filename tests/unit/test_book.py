"""Staging and building the book, on tiny pages; the real one is tested in tests/book."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from tiny_book import cell, write_notebook

from dallrec_core import book
from dallrec_core.book import INSERTIONS, repair
from dallrec_core.chain import artefacts
from dallrec_core.chain.pages import PAGES
from dallrec_core.errors import UserError

TOC = {"format": "jb-book", "root": "book/intro", "chapters": [{"file": "notebooks/01_data"}]}


def executed_copy(source: Path, target: Path) -> None:
    """Write what Papermill would: the same notebook with outputs and times."""
    notebook = nbformat.read(source, as_version=4)
    for number, each in enumerate(c for c in notebook.cells if c.cell_type == "code"):
        each.outputs = [nbformat.v4.new_output("stream", text="a result")]
        each.execution_count = number + 1
    notebook.metadata["papermill"] = {"duration": 4.0, "input_path": "/secret/place"}
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, target)


@pytest.fixture
def tiny(tiny: Path) -> Path:
    """A tiny book whose notebooks seem to have been executed."""
    (tiny / "book").mkdir()
    (tiny / "book/_toc.yml").write_text(json.dumps(TOC))
    (tiny / "book/intro.md").write_text("# Intro\n\nText.\n")
    (tiny / "_config.yml").write_text(
        "title: tiny\nonly_build_toc_files: true\nexecute: {execute_notebooks: 'off'}\n"
    )
    for each in (tiny / "notebooks").glob("*.ipynb"):
        executed_copy(each, tiny / "runs/smoke/notebooks" / each.name)
    return tiny


def staged(tiny: Path) -> nbformat.NotebookNode:
    book.stage(tiny, "smoke", tiny / "site")
    return nbformat.read(tiny / "site/notebooks/01_data.ipynb", as_version=4)


def page(tiny: Path, text: str) -> str:
    """Return a page with this text as it is staged."""
    (tiny / "book/intro.md").write_text(text)
    staged(tiny)
    return (tiny / "site/book/intro.md").read_text()


def test_what_the_theme_writes_wrongly_is_mended(tmp_path: Path) -> None:
    thebe = '    <script>const THEBE_JS_URL = "x"; const y = 1</script>\n'
    (tmp_path / "deep").mkdir()
    page = tmp_path / "deep" / "page.html"
    page.write_text(
        f"<p>kept</p>\n{thebe}<script>mine()</script>\n{thebe}"
        '<summary aria-label="Toggle hidden content"><p>Show</p></summary>\n'
        '<a href="https://host/issues/new?title=a&body=b">issue</a>\n'
        '<div class="citation" id="id1" role="doc-biblioentry">'
    )
    repair(tmp_path)
    assert page.read_text() == (
        "<p>kept</p>\n<script>mine()</script>\n<summary><p>Show</p></summary>\n"
        '<a href="https://host/issues/new?title=a&amp;body=b">issue</a>\n'
        '<div class="citation" id="id1">'
    )


def outputs(notebook: nbformat.NotebookNode) -> list[str]:
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return ["".join(output.text for output in cell.outputs) for cell in code]


def test_pages_show_newer_prose_with_the_outputs_of_the_run_less_progress(tiny: Path) -> None:
    assert outputs(staged(tiny)) == ["a result"] * 2
    assert "secret" not in (tiny / "site/notebooks/01_data.ipynb").read_text()
    source, ran = (tiny / f / "01_data.ipynb" for f in ("notebooks", "runs/smoke/notebooks"))
    source.write_text(source.read_text().replace("# 01_data", "# A better title"))
    said = "asking: 562/3992 questions in 10 s, about 63 s left\\nAUC: 0.71\\n"
    ran.write_text(ran.read_text().replace("a result", said))
    content = nbformat.read(ran, as_version=4)
    content.cells.insert(2, cell("seed = 5", "injected-parameters"))
    nbformat.write(content, ran)
    notebook = staged(tiny)
    assert notebook.cells[0].source == "# A better title"
    assert notebook.cells[2].source == "seed = 5"  # where papermill put it
    assert outputs(notebook) == ["AUC: 0.71\n", "", "AUC: 0.71\n"]
    ran.write_text(ran.read_text().replace("AUC: 0.71\\n", ""))
    assert all(each.get("outputs", []) == [] for each in staged(tiny).cells)


def test_newer_code_is_not_shown_with_old_outputs_nor_a_run_without_notebooks(tiny: Path) -> None:
    write_notebook(tiny / "notebooks/01_data.ipynb", cell("x: int = 1", "parameters"))
    assert "x: int" not in "".join(each.source for each in staged(tiny).cells)
    (tiny / "runs/smoke/notebooks/03_interactions.ipynb").unlink()
    with pytest.raises(UserError, match="no executed 03_interactions; run first: dallrec run"):
        book.stage(tiny, "smoke", tiny / "site")


def test_the_tables_show_what_was_measured(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "tools"))
    from measured import measure

    assert "| any | not measured yet |" in INSERTIONS["profiles"]("smoke")
    assert INSERTIONS["notebooks"]("smoke").count("| by hand |") == len(PAGES)
    with pytest.raises(SystemExit, match="run 'smoke' is not finished"):
        measure("smoke")
    for number, stage in enumerate(PAGES):
        folder = tiny / "runs/smoke" / stage.name
        manifest = {"seconds": 60, "finished": "2026-01-02T03:04:05", "commit": "abc", "key": "k"}
        manifest |= {"artefacts": {}, "python": "3.11", "parts": {"parameters": {"seed": 0}}}
        manifest["parts"]["versions"] = dict.fromkeys(("torch", "transformers", "peft"), "9")
        artefacts.write_json(manifest, folder / "manifest.json")
        costs = {"peak_mib": 1024 * (number + 1), "device": "cpu"}
        artefacts.write_json(costs, folder / "costs.json")
    took = measure("smoke")
    assert (took["minutes"], took["peak_mib"], took["date"]) == (7.0, 7168, "2026-01-02")
    artefacts.write_json({"smoke": took}, tiny / "notebooks/profiles/measured.json")
    assert "7 min, 7.0 GiB" in INSERTIONS["profiles"]("smoke")
    assert "| notebooks in all | 540 s |" in INSERTIONS["summary"]("smoke")
    assert "(../notebooks/01_data) | 60 | 1024 | 2026-01-02 03:04 |" in INSERTIONS["notebooks"](
        "smoke"
    )


def test_the_first_page_shows_the_headline_of_page_7(tiny: Path) -> None:
    text = "# Intro\n\n<!-- headline -->\n\nText.\n"
    assert page(tiny, text) == "# Intro\n\n\n\nText.\n"
    folder = tiny / "runs/smoke/07_analysis"
    folder.mkdir()
    (folder / "headline.png").write_bytes(b"a figure")
    (folder / "headline.html").write_text("<table>+0.0123</table>")
    assert page(tiny, text) == "# Intro\n\n<table>+0.0123</table>\n\nText.\n"
    assert (tiny / "site/book/headline.png").read_bytes() == b"a figure"


@pytest.mark.slow
def test_build_is_strict_checked_and_skipped_when_fresh(tiny: Path) -> None:
    said: list[str] = []
    index = book.build("smoke", say=said.append)
    assert index == tiny / "build/_build/html/index.html" and index.is_file()
    assert book.build("smoke", say=said.append) == index
    assert said[0].startswith("building") and "fresh" in said[1]
    (tiny / "book/intro.md").write_text("# Intro\n\n[broken](nowhere.md)\n")
    with pytest.raises(UserError, match="book/intro.md.*nowhere"):
        book.build("smoke", say=said.append)
