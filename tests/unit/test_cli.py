"""The command line: quick, and every mistake ends in one line and a non-zero status."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from no_kernel import no_kernel  # noqa: F401 (a fixture)
from tiny_book import write_page

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
    monkeypatch.setattr("dallrec_core.chain.places.PACKAGE", tmp_path / "site" / "x")
    result = dallrec("run")
    assert result.exit_code == 2 and "clone the repository" in result.stderr


def test_dry_run_says_what_and_why_and_does_nothing(tiny: Path) -> None:
    result = dallrec("run", "--dry-run", "--until", "02")
    assert result.output.splitlines() == [
        "01_data            has not run yet",
        "02_finetune        has not run yet",
    ]
    assert not list((tiny / "runs").glob("*/*"))


@pytest.mark.usefixtures("no_kernel")
def test_a_failed_notebook_exits_with_1_and_fresh_pages_stay(tiny: Path) -> None:
    write_page(tiny / "notebooks", "02_finetune", "raise ValueError('boom')")
    result = dallrec("run", "--until", "02", "-p", "01.size=5")
    assert result.exit_code == 1
    assert "01_data            done in" in result.stdout
    assert "ValueError: boom" in result.stderr and "Traceback" not in result.output
    again = dallrec("run", "--until", "01", "-p", "01.size=5")
    assert again.exit_code == 0 and "01_data            fresh" in again.stdout


def test_an_interrupt_says_how_to_go_on(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dallrec_core.chain.run_chain", interrupted)
    result = dallrec("run")
    assert result.exit_code == 130 and "the same command continues" in result.stderr
