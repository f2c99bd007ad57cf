"""The built book, built first if it is not there or not fresh."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock

from dallrec_core import book, stages

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def html() -> Path:
    """Return the folder of the pages of the smoke run."""
    before, runs = Path.cwd(), os.environ.pop("DALLREC_RUNS_DIR", None)
    os.chdir(ROOT)
    try:
        with FileLock(ROOT / "runs" / ".book.lock"):
            stages.run_chain("smoke")
            return book.build("smoke").parent
    finally:
        os.chdir(before)
        if runs is not None:
            os.environ["DALLREC_RUNS_DIR"] = runs
