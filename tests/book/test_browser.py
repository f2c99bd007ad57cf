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


def test_a_bad_page_would_be_seen(tmp_path: Path) -> None:
    (tmp_path / "search.html").write_text("<!DOCTYPE html><html lang='en'><title>x</title></html>")
    (tmp_path / "a.svg").write_text(
        "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'></svg>"
    )
    (tmp_path / "bad.html").write_text(
        "<!DOCTYPE html><html><title>x</title><img src='a.png'><script>nothing()</script>"
        "<img src='a.svg' alt='tall' width=10 height=80><p style='width: 500px'>wide</p></html>"
    )
    done = check(tmp_path, "bad.html")
    assert done.returncode == 1
    for words in ("image-alt", "html-has-lang", "script: nothing is not defined", "'cold-start'",
                  "distorted to 10 x 80: tall", "pixels wider than the window"):  # fmt: skip
        assert words in done.stdout, done.stdout
