"""The built book, built first if it is not there or not fresh."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock

from dallrec_core.book import build as book
from dallrec_core.chain.run import run_chain

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def html() -> Path:
    """Return the folder of the pages of the smoke run."""
    # as `make book` does: neither runs of the tests nor real data belong to these pages
    before = Path.cwd()
    kept = {name: os.environ.pop(name, None) for name in ("DALLREC_RUNS_DIR", "DALLREC_DATA_DIR")}
    os.chdir(ROOT)
    try:
        with FileLock(ROOT / "runs" / ".book.lock"):
            run_chain("smoke")
            return book.build("smoke").parent
    finally:
        os.chdir(before)
        os.environ.update({name: value for name, value in kept.items() if value is not None})
