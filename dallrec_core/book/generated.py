"""What the book holds beside what was written: tables, origins of figures, repairs of the theme."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from dallrec_core.chain import artefacts, freshness
from dallrec_core.chain.pages import PAGES, Page, notebooks_dir, run_dir
from dallrec_core.chain.parameters import page_parameters, profiles
from dallrec_core.llm.ledger import COUNTS, ledger_table

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


def mark_figures(notebook: Any, run: str, commit: str, name: str) -> None:
    """Say below each figure which cell of which notebook, run and commit has drawn it."""
    for cell in notebook.cells:
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if figure.get("caption") and cell.get("execution_count"):
            origin = f"Drawn by cell {cell.execution_count} of `{name}.ipynb`"
            figure["caption"] += f"\n\n{origin}, run `{run}`, commit `{commit}`."


def repair(folder: Path) -> None:
    """Mend the built pages in `folder` in place; see `REPAIRS`."""
    for page in folder.rglob("*.html"):
        before = after = page.read_text(encoding="utf-8")
        for pattern, replacement in REPAIRS:
            after = re.sub(pattern, replacement, after, flags=re.DOTALL)
        if after != before:
            page.write_text(after, encoding="utf-8")
