"""The book: executed notebooks and prose pages, built strictly by Jupyter Book, then checked.

The pages are staged in `build/site` so that the sources stay without outputs; what the notebooks
show comes from a run, what they say from the sources as they are now. Tables that a run fills are
put in while staging, and what the theme writes wrongly is mended in the built pages.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
from sphinx_external_toc.parsing import parse_toc_yaml

from dallrec_core.chain import artefacts, freshness
from dallrec_core.chain.pages import PAGES, Page, book_root, notebooks_dir, remedy, run_dir
from dallrec_core.chain.parameters import page_parameters, profiles
from dallrec_core.chain.progress import LINE
from dallrec_core.chain.run import SKIPPED
from dallrec_core.errors import UserError
from dallrec_core.llm.ledger import COUNTS, ledger_table


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
        for cell in shown.cells:
            figure = cell.metadata.get("mystnb", {}).get("figure", {})
            if figure.get("caption") and cell.get("execution_count"):
                origin = f"Drawn by cell {cell.execution_count} of `{page.notebook}`"
                figure["caption"] += f"\n\n{origin}, run `{run}`, commit `{commit}`."
        nbformat.write(shown, site / "notebooks" / page.notebook)
    figure = run_dir(run) / "07_analysis" / "headline.png"
    if figure.is_file():
        shutil.copy(figure, site / "book")
    for prose in (site / "book").glob("*.md"):
        text = prose.read_text(encoding="utf-8")
        text = re.sub(r"(?m)^<!-- (\w+) -->$", lambda found: INSERTIONS[found[1]](run), text)
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
        lines = log.read_text(encoding="utf-8").splitlines()
        said = [line for line in lines if re.search(r"WARNING|ERROR|CRITICAL|Error:", line)]
        shown = "\n".join(said[:20] or lines[-20:])
        raise UserError(f"the book has not been built:\n{shown}\n(all of it: {log})")


def _missing_pages(root: Path, html: Path) -> list[str]:
    pages = [*parse_toc_yaml(root / "book" / "_toc.yml"), "index"]
    return [page for page in pages if not (html / f"{page}.html").is_file()]


REPAIRS = (
    # The theme's names for screen readers hide the visible text; some of its roles do not fit.
    (r'(<summary) aria-label="Toggle hidden content"', r"\1"),
    (r'(<button class="btn search-button-field[^>]*?) title="Search" aria-label="Search"', r"\1"),
    (r'(<i class="theme-switch [^>]*?) +title="[^"]*"', r"\1"),
    (r'(href="[^"]*/issues/new\?title=[^"]*?)&(body=)', r"\1&amp;\2"),
    (r'(<div role=")list(" class="citation-list)', r"\1none\2"),
    (r' role="doc-biblioentry"', ""),
    # The first page only leads on.
    (
        r'\A<meta http-equiv="Refresh" content="0; url=([^"]*)" */>\s*\Z',
        r'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>To the book</title>'
        r'<meta http-equiv="Refresh" content="0; url=\1"><p><a href="\1">To the book</a></html>',
    ),
    # Thebe is not offered, and its scripts, which come twice, collide.
    (r" *<script>const THEBE_JS_URL.*?</script>\n?", ""),
    (r' *<script async="async" src="[^"]*sphinx-thebe\.js[^"]*"></script>\n?', ""),
)
"""Pattern and replacement for what the theme writes wrongly on every page.

:meta hide-value:
"""


def repair(folder: Path) -> None:
    """Mend the built pages in `folder` in place; see `REPAIRS`."""
    for page in folder.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for pattern, replacement in REPAIRS:
            text = re.sub(pattern, replacement, text, flags=re.DOTALL)
        page.write_text(text, encoding="utf-8")


# --- what a run fills ---


def _headline(run: str) -> str:
    """Table of page 7; glue does not carry it between pages."""
    table = run_dir(run) / "07_analysis" / "headline.html"
    return table.read_text(encoding="utf-8") if table.is_file() else ""


def _profiles(run: str) -> str:
    """What each profile runs, on what, and what that took, by `tools/measured.py`."""
    measured = freshness.read_json_or_none(notebooks_dir() / "profiles" / "measured.json") or {}
    took = {
        name: f"{of['minutes']:.0f} min, {of['peak_mib'] / 1024:.1f} GiB ({of['machine']})"
        for name, of in measured.items()
    }
    rows = [
        (f"`{p.name}`", p.description, p.hardware, took.get(p.name, "not measured yet"))
        for p in profiles()
    ]
    return _table(["profile", "what it runs", "what it needs", "measured"], rows)


def _parameters(run: str) -> str:
    """The parameters of all notebooks, from their own parameters cells."""
    parts = []
    for page in PAGES:
        known = page_parameters(page).values()
        rows = [(f"`{p.name}`", f"`{p.kind}`", f"`{p.default!r}`", p.comment) for p in known]
        table = _table(["parameter", "type", "default", "meaning"], rows)
        parts.append(f"(parameters-{page.name[:2]})=\n### {page.name}\n\n{table}")
    return "\n".join(parts)


def _summary(run: str) -> str:
    made = [manifest for page in PAGES if (manifest := freshness.read_manifest(page, run))]
    facts = {
        "run": [run],
        "commit": [m["commit"] for m in made],
        "seed": [m["parts"]["parameters"]["seed"] for m in made],
        "device": [_costs(page, run).get("device", "") for page in PAGES],
        "Python": [m["python"] for m in made],
    }
    facts |= {name: [m["parts"]["versions"][name] for m in made] for name in freshness.VERSIONED}
    rows = [(name, ", ".join(sorted({str(v) for v in of} - {""}))) for name, of in facts.items()]
    total = sum(m["seconds"] for m in made)
    return _table(["", "this build"], [*rows, ("notebooks in all", f"{total:.0f} s")])


def _notebooks(run: str) -> str:
    """What each notebook took, when it was finished, and what stands for its results."""
    rows = []
    for page in PAGES:
        manifest, costs = freshness.read_manifest(page, run) or {}, _costs(page, run)
        finished = manifest.get("finished", "by hand")[:16].replace("T", " ")
        keys = freshness.short_digest(page, run), freshness.actual_key(page, run)[:12]
        link = f"[{page.name}](../notebooks/{page.name})"
        times = manifest.get("seconds", ""), costs.get("peak_mib", ""), finished
        rows.append([link, *times, *(f"`{key}`" for key in keys)])
    head = ["notebook", "seconds", "peak MiB", "finished (UTC)", "content digest", "key"]
    return _table(head, rows)


def _costs(page: Page, run: str) -> dict[str, Any]:
    return freshness.read_json_or_none(run_dir(run) / page.name / freshness.COSTS) or {}


def _ledger(run: str) -> str:
    """What the language model cost, task by task, and all of it; nothing where none was asked."""
    files = [run_dir(run) / page.name / "ledger.parquet" for page in PAGES]
    tables = [artefacts.read_table(file, "ledger") for file in files if file.is_file()]
    if not tables:
        return ""
    whole = pd.concat(tables)
    total = {"stage": "all", "task": "", "device": "", "peak_mib": whole["peak_mib"].max()}
    total |= whole[[*COUNTS, "seconds"]].astype(object).sum().to_dict()
    whole = pd.concat([whole, pd.DataFrame([total])])
    shown = ledger_table(whole).reset_index()
    shown.insert(0, "notebook", whole["stage"].to_numpy())
    return _table(shown.columns, shown.to_numpy())


INSERTIONS: dict[str, Callable[[str], str]] = {
    "headline": _headline,
    "profiles": _profiles,
    "parameters": _parameters,
    "summary": _summary,
    "notebooks": _notebooks,
    "ledger": _ledger,
}
"""What stands in the pages of a run instead of `<!-- name -->`, by name.

:meta hide-value:
"""


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return a Markdown table; cells may hold a bar or a tag."""
    body = [[re.sub(r"([|<])", r"\\\1", str(cell)) for cell in row] for row in rows]
    names = list(head)
    lines = [names, ["---"] * len(names), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx: this module is one of its extensions (`_config.yml`)."""
    app.connect("autodoc-process-signature", _with_defaults_that_parse)
    return {"parallel_read_safe": True}


def _with_defaults_that_parse(*given: Any) -> tuple[str, str] | None:
    """Write the default `<factory>` of a dataclass as `...`: else all its types are left raw."""
    signature, returned = given[-2:]
    return (signature.replace("<factory>", "..."), returned) if signature else None
