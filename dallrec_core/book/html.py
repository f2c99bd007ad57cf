"""What is done to pages beside Jupyter Book: origins of figures, generated tables, repairs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from dallrec_core.chain.pages import PAGES
from dallrec_core.chain.parameters import page_parameters

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


def parameter_tables() -> str:
    """Return the parameters of all notebooks as Markdown, from their own parameters cells."""
    parts = []
    for stage in PAGES:
        rows = [
            f"| `{p.name}` | `{_cell(p.kind)}` | `{_cell(repr(p.default))}` | {_cell(p.comment)} |"
            for p in page_parameters(stage).values()
        ]
        head = f"(parameters-{stage.name[:2]})=\n### {stage.name}\n\n"
        table = ["| parameter | type | default | meaning |", "|---|---|---|---|", *rows]
        parts.append(head + "\n".join(table) + "\n")
    return "\n".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "\\<")


def repair(folder: Path) -> None:
    """Mend the built pages in `folder` in place; see `REPAIRS`."""
    for page in folder.rglob("*.html"):
        before = after = page.read_text(encoding="utf-8")
        for pattern, replacement in REPAIRS:
            after = re.sub(pattern, replacement, after, flags=re.DOTALL)
        if after != before:
            page.write_text(after, encoding="utf-8")
