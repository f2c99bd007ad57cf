"""A book of seven tiny notebooks, for testing the chain without waiting for the real one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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


def cell(source: str, *tags: str) -> dict[str, object]:
    """Return a code cell without outputs."""
    return {
        "cell_type": "code",
        "source": source.strip("\n"),
        "metadata": {"tags": list(tags)} if tags else {},
        "outputs": [],
        "execution_count": None,
        "id": f"c{abs(hash(source)) % 10**8}",
    }


def write_notebook(path: Path, *cells: dict[str, object]) -> None:
    """Write a notebook of the given cells, after a title."""
    title = {"cell_type": "markdown", "source": f"# {path.stem}", "metadata": {}, "id": "title"}
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    content = {
        "cells": [title, *cells],
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


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
