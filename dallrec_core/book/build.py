"""The book: executed notebooks and prose pages, built strictly by Jupyter Book, then checked.

The pages are staged in `build/site` so that the sources stay without outputs; what the notebooks
show comes from a run, what they say from the sources as they are now.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import nbformat
from sphinx_external_toc.parsing import parse_toc_yaml

from dallrec_core.book.generated import INSERTIONS, mark_figures, repair
from dallrec_core.chain import artefacts, freshness
from dallrec_core.chain.pages import PAGES, book_root, remedy, run_dir
from dallrec_core.chain.progress import LINE
from dallrec_core.chain.run import SKIPPED
from dallrec_core.errors import UserError


def build(run: str, force: bool = False, say: Callable[[str], None] = print) -> Path:
    """Build the book from the executed notebooks of `run`; skip it when nothing has changed.

    Args:
        run: name of the run whose outputs are shown.
        force: build in any case.
        say: receives one line per step.

    Returns:
        Path of the first page, `index.html`.

    Raises:
        UserError: a notebook has not been executed, a page has a warning, or a page is missing.
    """
    root = book_root()
    site, html = root / "build" / "site", root / "build" / "_build" / "html"
    stage(root, run, site)
    key, stored = _key(root, site), root / "build" / "book.key"
    fresh = stored.is_file() and stored.read_text() == key and not _missing_pages(root, html)
    if fresh and not force:
        say("book is fresh: pages, outputs and library are those of the last build")
        return html / "index.html"
    stored.unlink(missing_ok=True)
    say("building the book, about a minute")
    _jupyter_book(root, site)
    repair(html)
    absent = _missing_pages(root, html)
    if absent:
        raise UserError(f"the book lacks pages of book/_toc.yml: {', '.join(absent)}")
    stored.write_text(key)
    return html / "index.html"


# --- staging ---


def stage(root: Path, run: str, site: Path) -> None:
    """Lay out the pages in `site`: prose with its tables, notebooks with the outputs of `run`.

    Raises:
        UserError: when a notebook of the run has not been executed.
    """
    executed = run_dir(run) / "notebooks"
    absent = [page.name for page in PAGES if not (executed / page.notebook).is_file()]
    if absent:
        raise UserError(f"run '{run}' has no executed {', '.join(absent)}; {remedy(run)}")
    shutil.rmtree(site, ignore_errors=True)
    shutil.copytree(root / "book", site / "book")
    for card in root.glob("dallrec_core/**/*.md"):  # which pages include
        (site / card.relative_to(root)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(card, site / card.relative_to(root))
    (site / "notebooks").mkdir()
    for page in PAGES:
        both = (folder / page.notebook for folder in (root / "notebooks", executed))
        shown = merge(*(nbformat.read(path, as_version=4) for path in both))
        commit = (freshness.read_manifest(page, run) or {}).get("commit", "unknown")
        mark_figures(shown, run, commit, page.name)
        nbformat.write(shown, site / "notebooks" / page.notebook)
    figure = run_dir(run) / "07_analysis" / "headline.png"
    if figure.is_file():
        shutil.copy(figure, site / "book")
    for prose in (site / "book").glob("*.md"):
        text = prose.read_text(encoding="utf-8")
        for name in re.findall(r"^<!-- (\w+) -->$", text, re.MULTILINE):
            text = text.replace(f"<!-- {name} -->", INSERTIONS[name](run))
        prose.write_text(text, encoding="utf-8")


def merge(source: Any, executed: Any) -> Any:
    """Return `source` with the outputs of `executed`, if both have the same code, else `executed`.

    Prose and cell metadata may be newer than the run; the cell of injected parameters is kept.
    Where cells were skipped for want of data, `executed` says so and is shown as it is.
    """
    for node in (executed, *executed.cells):  # the pages can be downloaded: no paths of a machine
        node.metadata.pop("papermill", None)
    ran = [cell for cell in executed.cells if cell.cell_type == "code"]
    injected = [cell for cell in ran if "injected-parameters" in _tags(cell)]
    ran = [cell for cell in ran if cell not in injected]
    code = [cell for cell in source.cells if cell.cell_type == "code"]
    skipped = any(SKIPPED in _tags(cell) for cell in ran)
    if skipped or [cell.source for cell in code] != [cell.source for cell in ran]:
        return executed
    for cell, result in zip(code, ran, strict=True):
        for output in result.outputs:
            if output.get("name") == "stdout":  # how far a loop was is no result
                output.text = LINE.sub("", output.text)
        cell.outputs = [output for output in result.outputs if output.get("text") != ""]
        cell.execution_count = result.execution_count
    if injected:
        at = next(n for n, cell in enumerate(source.cells) if "parameters" in _tags(cell))
        source.cells[at + 1 : at + 1] = injected
    return source


def _tags(cell: Any) -> list[str]:
    return cell.metadata.get("tags", [])


# --- building ---


def _key(root: Path, site: Path) -> str:
    """Hash everything that the pages depend on: staged pages, configuration, library, versions."""
    files = [root / "_config.yml", *sorted(site.rglob("*"))]
    hashes = [(path.name, artefacts.sha256(path)) for path in files if path.is_file()]
    versions = [metadata.version(name) for name in ("jupyter-book", "sphinx", "myst-nb")]
    return freshness.key([hashes, versions, freshness.library()])


def _jupyter_book(root: Path, site: Path) -> None:
    """Build the html, with every warning as an error.

    Raises:
        UserError: with the complaints; the whole log is kept.
    """
    build, log = root / "build", root / "build" / "book.log"
    main = "from jupyter_book.cli.main import main; main()"
    command: list[str | Path] = [sys.executable, "-P", "-c", main, "build", site]
    command += ["--config", root / "_config.yml", "--toc", site / "book" / "_toc.yml"]
    command += ["--path-output", build, "-W", "-n", "--keep-going", "--all"]
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        text = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(encoding="utf-8"))
        lines = text.replace(f"{site}/", "").splitlines()
        said = [line for line in lines if re.search(r"WARNING|ERROR|CRITICAL|Error:", line)]
        shown = "\n".join(list(dict.fromkeys(said))[:20] or lines[-20:])
        raise UserError(f"the book has not been built:\n{shown}\n(all of it: {log})")


def _missing_pages(root: Path, html: Path) -> list[str]:
    pages = [*parse_toc_yaml(root / "book" / "_toc.yml"), "index"]
    return [page for page in pages if not (html / f"{page}.html").is_file()]
