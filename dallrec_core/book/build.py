"""The book: executed notebooks and prose pages, built strictly by Jupyter Book, then checked.

The pages are staged in `build/site` so that the sources stay without outputs; what the notebooks
show comes from a run, what they say from the sources as they are now.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import nbformat
import yaml

from dallrec_core.book.html import mark_figures, parameter_tables, repair
from dallrec_core.book.status import profile_table, status_page
from dallrec_core.chain import artefacts, freshness
from dallrec_core.chain.pages import PAGES, find_page, remedy
from dallrec_core.chain.places import PACKAGE, book_root, run_dir
from dallrec_core.chain.progress import LINE
from dallrec_core.chain.run import SKIPPED
from dallrec_core.errors import UserError

HTML = "_build/html"
"""Where Jupyter Book puts the pages, below `build`."""


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
    site, html = root / "build" / "site", root / "build" / HTML
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
    """Lay out the pages in `site`: prose, notebooks with the outputs of `run`, the status page.

    Raises:
        UserError: when a notebook of the run has not been executed.
    """
    executed = {item.name: run_dir(run) / "notebooks" / item.notebook for item in PAGES}
    absent = [name for name, path in executed.items() if not path.is_file()]
    if absent:
        raise UserError(f"run '{run}' has no executed {', '.join(absent)}; {remedy(run)}")
    shutil.rmtree(site, ignore_errors=True)
    shutil.copytree(root / "book", site / "book")
    (site / "notebooks").mkdir()
    for page in pages(root):
        source = root / f"{page}.ipynb"
        if source.is_file():
            shown = _read(source)
            if source.stem in executed:
                shown = merge(shown, _read(executed[source.stem]))
                manifest = freshness.read_manifest(find_page(source.stem), run) or {}
                mark_figures(shown, run, manifest.get("commit", "unknown"), source.stem)
            nbformat.write(shown, site / f"{page}.ipynb")
    (site / "book" / "status.md").write_text(status_page(run), encoding="utf-8")
    _insert_tables(root, site / "book" / "reproduce.md")
    _insert_headline(run, site / "book" / "intro.md")
    _copy_included(root, site)


def _insert_tables(root: Path, page: Path) -> None:
    """Put tables where the page says `<!-- profiles -->` and `<!-- parameters -->`."""
    if page.is_file():
        measured = root / "notebooks" / "profiles" / "measured.json"
        table = profile_table(artefacts.read_json(measured) if measured.is_file() else {})
        text = page.read_text("utf-8").replace("<!-- profiles -->", table)
        page.write_text(text.replace("<!-- parameters -->", parameter_tables()), "utf-8")


HEADLINE = """```{figure} headline.png
:alt: Differences that the written data make for each recommender, over base and over the best control, with 95 % intervals on each yardstick.
:width: 100%

What the written data gain, per recommender: over base (circles) and over the best control (squares), with 95 % intervals.
```

<div class="cell_output" style="overflow-x: auto" tabindex="0" role="region" aria-label="Gains per recommender">
"""  # noqa: E501


def _insert_headline(run: str, page: Path) -> None:
    """Put the figure and table of page 7 where the first page says `<!-- headline -->`.

    Glue does not carry figures with their texts from page to page.
    """
    figure, table = (run_dir(run) / "07_analysis" / f"headline.{end}" for end in ("png", "html"))
    if page.is_file() and figure.is_file() and table.is_file():
        shutil.copyfile(figure, page.parent / figure.name)
        shown = f"{HEADLINE}{table.read_text('utf-8')}\n</div>"
        page.write_text(page.read_text("utf-8").replace("<!-- headline -->", shown), "utf-8")


def _copy_included(root: Path, site: Path) -> None:
    """Copy what prose pages include from outside `book`, to the same relative place."""
    for page in (site / "book").glob("*.md"):
        for name in re.findall(r"^```\{include\} +(\S+)", page.read_text("utf-8"), re.MULTILINE):
            target = (page.parent / name).resolve()
            source = root / target.relative_to(site.resolve())
            if not target.exists() and source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)


def _read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def merge(source: Any, executed: Any) -> Any:
    """Return `source` with the outputs of `executed`, if both have the same code, else `executed`.

    Prose and cell metadata may be newer than the run; the cell of injected parameters is kept.
    Where cells were skipped for want of data, `executed` says so and is shown as it is.
    """
    ran = [cell for cell in executed.cells if cell.cell_type == "code"]
    injected = [cell for cell in ran if "injected-parameters" in cell.metadata.get("tags", [])]
    ran = [cell for cell in ran if cell not in injected]
    code = [cell for cell in source.cells if cell.cell_type == "code"]
    skipped = any(SKIPPED in cell.metadata.get("tags", []) for cell in ran)
    if skipped or [cell.source for cell in code] != [cell.source for cell in ran]:
        return _without_paths(executed)
    for cell, result in zip(code, ran, strict=True):
        cell.outputs = [each for each in map(_without_progress, result.outputs) if each]
        cell.execution_count = result.execution_count
    for position, cell in enumerate(source.cells):
        if injected and "parameters" in cell.metadata.get("tags", []):
            source.cells[position + 1 : position + 1] = [_without_paths(each) for each in injected]
            break
    return source


def _without_progress(output: Any) -> Any:
    """Drop the lines that tell how far a loop was; None when nothing is left."""
    if output.output_type == "stream" and output.name == "stdout":
        output.text = LINE.sub("", output.text)
        return output if output.text else None
    return output


def _without_paths(node: Any) -> Any:
    """Drop what Papermill noted about the machine; the pages can be downloaded."""
    node.metadata.pop("papermill", None)
    for cell in node.get("cells", []):
        cell.metadata.pop("papermill", None)
    return node


def pages(root: Path) -> list[str]:
    """Return the pages of book/_toc.yml, as paths without suffix."""
    toc = yaml.safe_load((root / "book" / "_toc.yml").read_text(encoding="utf-8"))
    return list(_entries(toc))


def _entries(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (str(node[name]) for name in ("root", "file") if name in node)
        for inner in node.values():
            yield from _entries(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _entries(inner)


# --- building ---


def _key(root: Path, site: Path) -> str:
    """Hash everything that the pages depend on: staged pages, configuration, library, versions."""
    sources = [*_files(site), root / "_config.yml", *_files(PACKAGE, "*.py")]
    hashes = [f"{path.name} {artefacts.sha256(path)}" for path in sources]
    versions = [
        f"{name} {metadata.version(name)}" for name in ("jupyter-book", "sphinx", "myst-nb")
    ]
    return hashlib.sha256("\n".join(hashes + versions).encode()).hexdigest()


def _files(folder: Path, pattern: str = "*") -> Iterable[Path]:
    return sorted(path for path in folder.rglob(pattern) if path.is_file())


def _jupyter_book(root: Path, site: Path) -> None:
    build = root / "build"
    command = [
        sys.executable,
        "-P",
        "-c",
        "from jupyter_book.cli.main import main; main()",
        "build",
        str(site),
    ]
    command += ["--config", str(root / "_config.yml"), "--toc", str(site / "book" / "_toc.yml")]
    command += ["--path-output", str(build), "-W", "-n", "--keep-going", "--all"]
    environment = os.environ | {"NO_COLOR": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    log = build / "book.log"
    log.write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode:
        raise UserError(
            f"the book has not been built:\n{_complaints(log, site)}\n(all of it: {log})"
        )


def _complaints(log: Path, site: Path) -> str:
    text = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(encoding="utf-8"))
    lines = [
        line for line in text.splitlines() if re.search(r"WARNING|ERROR|CRITICAL|Error:", line)
    ]
    shown = [line.replace(f"{site}/", "") for line in dict.fromkeys(lines)]
    return "\n".join(shown[:20] or text.splitlines()[-20:])


def _missing_pages(root: Path, html: Path) -> list[str]:
    return [page for page in (*pages(root), "index") if not (html / f"{page}.html").is_file()]
