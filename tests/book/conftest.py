"""The built book, built first if it is not there or not fresh."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock

from dallrec_core import book
from dallrec_core.chain.run import run_chain

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def html() -> Path:
    """Return the folder of the pages of the smoke run."""
    with pytest.MonkeyPatch.context() as patch, FileLock(ROOT / "runs" / ".book.lock"):
        # as `make book` does: neither runs of the tests nor real data belong to these pages
        for name in ("DALLREC_RUNS_DIR", "DALLREC_DATA_DIR"):
            patch.delenv(name, raising=False)
        patch.chdir(ROOT)
        run_chain("smoke")
        return book.build("smoke").parent
