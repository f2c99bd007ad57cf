"""The built pages in a browser: axe-core finds nothing, no script fails, all fits a phone."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent / "browser"
SAMPLE = ("book/intro.html", "book/bibliography.html", "book/api.html", "notebooks/01_data.html",
          "search.html", "genindex.html")  # fmt: skip
"""A page of each kind; all pages where `DALLREC_BROWSER=all` (`make axe`)."""


def lacking() -> str:
    """Say what keeps this machine from opening pages; nothing when it can."""
    if not shutil.which("node"):
        return "node is not installed"
    if not (HERE / "node_modules").is_dir():
        return f"run `npm ci` in {HERE}"
    names = (os.environ.get("CHROMIUM", "chromium"), "chromium-browser", "google-chrome")
    return "" if any(map(shutil.which, names)) else "no Chromium is installed"


pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(lacking()), reason=lacking() or "-")]


def check(html: Path, *pages: str) -> subprocess.CompletedProcess[str]:
    command = ["node", str(HERE / "check.mjs"), str(html), *pages]
    return subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)


def test_pages_are_accessible_and_their_scripts_run(html: Path) -> None:
    pages = () if os.environ.get("DALLREC_BROWSER") == "all" else SAMPLE
    done = check(html, *pages)
    assert done.returncode == 0, done.stdout + done.stderr
