"""Faults inside real kernels reach the terminal as one line, with nothing half-made left behind.

The many kinds of bad input are in tests/unit/test_bad_input.py, without kernels; here are those
where the kernel itself matters.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from second_run import ROOT
from tiny_book import write_book, write_page


def dallrec(runs: Path, *arguments: object, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(runs / "hub"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "dallrec_core.cli", *map(str, arguments)],
        cwd=root,
        env=os.environ | offline | {"DALLREC_RUNS_DIR": str(runs)},
        capture_output=True,
        text=True,
        timeout=240,
    )


def explained(done: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    lines = done.stderr.splitlines()
    assert done.returncode == status, done.stdout + done.stderr
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    for word in words:
        assert word in lines[0], f"'{word}' is not in: {lines[0]}"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os.kill(os.getpid(), 9)", ("01_data: the kernel died", "what was finished")),
        ("raise ValueError('one\\ntwo')", ("01_data.ipynb, code cell 3: ValueError: one two",)),
    ],
)
def test_what_is_not_the_users_fault(tmp_path: Path, code: str, words: tuple[str, ...]) -> None:
    root = write_book(tmp_path)
    write_page(root / "notebooks", "01_data", code)
    done = dallrec(root / "runs", "run", "--only", "01", root=root)
    explained(done, 1, *words)
    assert not (root / "runs" / "smoke" / "01_data" / "manifest.json").exists()
    assert not (root / "runs" / "smoke" / "notebooks" / "01_data.ipynb").exists()
