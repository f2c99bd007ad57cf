"""A book of seven tiny notebooks, for testing the chain without waiting for the real one."""

from __future__ import annotations

import json
from pathlib import Path

from dallrec_core.layout import STAGES

PARAMETERS = 'run: str = "smoke"  # name of the run\nseed: int = 0  # seeds everything\n'

EXTRA = {
    "01_data": "size: int = 3  # rows\n",
    "02_finetune": "rate: float = 0.1  # learning rate\nlabel: str = 'default'  # prompts\n",
    "06_recommenders": "arms: list[str] = ['base']  # arms\njobs: int | None = None  # processes\n",
}

WORK = """
import json
import pyarrow as pa
import pyarrow.parquet as pq
from dallrec_core import stages
here = stages.begin("{name}", run=run)
for name in here.stage.makes:
    if name.endswith(".parquet"):
        pq.write_table(pa.table(dict(seed=[seed])), here.path(name))
    elif name.endswith(".json"):
        here.path(name).write_text(json.dumps(dict(seed=seed)))
    else:
        here.path(name).mkdir(exist_ok=True)
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


def write_stage(folder: Path, name: str, extra: str = "") -> None:
    """Write the tiny notebook of one stage; `extra` is code in a cell of its own."""
    cells = [cell(PARAMETERS + EXTRA.get(name, ""), "parameters"), cell(WORK.format(name=name))]
    write_notebook(folder / f"{name}.ipynb", *cells, *([cell(extra)] if extra else []))


def write_book(root: Path) -> Path:
    """Write the tiny book into `root` and return `root`."""
    (root / "_config.yml").write_text("title: tiny\n")
    (root / "notebooks" / "profiles").mkdir(parents=True)
    smoke = "description: all defaults\nhardware: any\nparameters: {}\n"
    (root / "notebooks" / "profiles" / "smoke.yml").write_text(smoke)
    for stage in STAGES:
        write_stage(root / "notebooks", stage.name)
    return root
