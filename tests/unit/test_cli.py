"""The command line: quick, and every mistake ends in one line and a non-zero status."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dallrec_core.cli import main


def dallrec(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_help_is_quick() -> None:
    command = [sys.executable, "-c", "from dallrec_core.cli import main; main(['--help'])"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Processor time, so that a busy machine does not fail the test.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5
    for name in ("run", "book", "sweep", "data", "import", "export", "doctor"):
        assert f"  {name} " in done.stdout


def test_outside_a_copy_of_the_book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dallrec_core.chain.pages.PACKAGE", tmp_path / "site" / "x")
    result = dallrec("run")
    assert result.exit_code == 2 and "clone the repository" in result.stderr


def test_dry_run_says_what_and_why_and_does_nothing(tiny: Path) -> None:
    result = dallrec("run", "--dry-run", "--until", "02")
    assert result.output.splitlines() == [
        "01_data            has not run yet",
        "02_finetune        has not run yet",
    ]
    assert not list((tiny / "runs").glob("*/*"))
