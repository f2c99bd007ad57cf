"""A book of seven tiny notebooks, for testing the chain without waiting for the real one."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dallrec_core.chain.pages import PAGES

PARAMETERS = 'run: str = "smoke"  # name of the run\nseed: int = 0  # seeds everything\n'

EXTRA = {
    "01_data": "size: int = 3  # rows\n",
    "02_finetune": "rate: float = 0.1  # learning rate\nlabel: str = 'default'  # prompts\n",
    "06_recommenders": "arms: list[str] = ['base']  # arms\n",
}

WORK = """
import json
import time
import pyarrow as pa
import pyarrow.parquet as pq
from dallrec_core import chain
page = chain.begin("{name}", globals())
for name in page.page.makes:
    if name.endswith(".parquet"):
        pq.write_table(pa.table(dict(seed=[seed])), page.path(name))
    elif name.endswith(".json"):
        page.path(name).write_text(json.dumps(dict(seed=seed)))
    else:
        page.path(name).mkdir(exist_ok=True)
"""


def cell(source: str, *tags: str) -> NotebookNode:
    """Return a code cell without outputs."""
    return new_code_cell(source.strip("\n"), metadata={"tags": list(tags)} if tags else {})


def write_notebook(path: Path, *cells: NotebookNode) -> None:
    """Write a notebook of the given cells, after a title."""
    title = new_markdown_cell(f"# {path.stem}")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    about = {"kernelspec": kernel, "language_info": {"name": "python"}}
    nbformat.write(new_notebook(cells=[title, *cells], metadata=about), path)


def write_page(folder: Path, name: str, extra: str = "", *tags: str) -> None:
    """Write the tiny notebook of one page; `extra` is code in a cell of its own."""
    cells = [cell(PARAMETERS + EXTRA.get(name, ""), "parameters"), cell(WORK.format(name=name))]
    write_notebook(folder / f"{name}.ipynb", *cells, *([cell(extra, *tags)] if extra else []))


def write_book(root: Path) -> Path:
    """Write the tiny book into `root` and return `root`."""
    (root / "_config.yml").write_text("title: tiny\n")
    (root / "notebooks" / "profiles").mkdir(parents=True)
    smoke = "description: all defaults\nhardware: any\nparameters: {}\n"
    (root / "notebooks" / "profiles" / "smoke.yml").write_text(smoke)
    for page in PAGES:
        write_page(root / "notebooks", page.name)
    return root


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a tiny book, in which the test works."""
    monkeypatch.chdir(write_book(tmp_path))
    monkeypatch.delenv("DALLREC_RUNS_DIR", raising=False)
    return tmp_path
