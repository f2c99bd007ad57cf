"""The command line: quick, and every mistake ends in one line and a non-zero status."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tiny_book import write_book, write_stage

from dallrec_core.cli import main


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(write_book(tmp_path))
    monkeypatch.delenv("DALLREC_RUNS_DIR", raising=False)
    return tmp_path


def dallrec(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_help_is_quick() -> None:
    command = [sys.executable, "-c", "from dallrec_core.cli import main; main(['--help'])"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Processor time, so that a busy machine does not fail the test.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5
    for name in ("run", "stage", "book", "data", "doctor", "digests"):
        assert f"  {name} " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--profile", "smoek"], "there is no profile 'smoek' (did you mean 'smoke'?)"),
        (["run", "--profile", "none.yml"], "cannot read the profile none.yml"),
        (["run", "-p", "02.rate=fast"], "02_finetune.rate should be float"),
        (["run", "-p", "02.speed=1"], "02_finetune has no parameter 'speed'"),
        (["run", "-p", "rate"], "is not 'stage.name=value'"),
        (["run", "--from", "12"], "there is no stage '12'"),
        (["run", "--from", "05", "--until", "03"], "--from 05 comes after --until 03"),
        (["run", "--run", "../x"], "'../x' cannot name a run"),
        (["run", "--only", "07"], "07_analysis needs 01_data of run 'smoke'"),
        (["stage", "8"], "there is no stage '8'"),
        (["book", "--run", "none"], "run 'none' has no executed 01_data"),
        (["data", "ml-2m"], "ml-2m"),
    ],
)
def test_mistakes_end_in_one_line_and_status_2(
    tiny: Path, arguments: list[str], message: str
) -> None:
    result = dallrec(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ") and message in result.stderr
    assert len(result.stderr.splitlines()) == 1 and "Traceback" not in result.output


def test_outside_a_copy_of_the_book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dallrec_core.layout.PACKAGE", tmp_path / "site" / "x")
    result = dallrec("run")
    assert result.exit_code == 2 and "clone the repository" in result.stderr


def test_dry_run_says_what_and_why_and_does_nothing(tiny: Path) -> None:
    result = dallrec("run", "--dry-run", "--until", "02")
    assert result.output.splitlines() == [
        "01_data            has not run yet",
        "02_finetune        has not run yet",
    ]
    assert not list((tiny / "runs").glob("*/*"))


def test_run_stage_and_digests(tiny: Path) -> None:
    write_stage(tiny / "notebooks", "02_finetune", "raise ValueError('boom')")
    result = dallrec("run", "--until", "02", "-p", "01.size=5")
    assert result.exit_code == 1
    assert "01_data            done in" in result.stdout
    assert "ValueError: boom" in result.stderr and "Traceback" not in result.output
    again = dallrec("run", "--until", "01", "-p", "01.size=5")
    assert again.exit_code == 0 and "01_data            fresh" in again.stdout
    assert "  01_data/train.parquet" in dallrec("digests").stdout


def test_an_interrupt_says_how_to_go_on(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dallrec_core.stages.run_chain", interrupted)
    result = dallrec("run")
    assert result.exit_code == 130 and "the same command continues" in result.stderr


def test_data_that_is_embedded_needs_nothing(tiny: Path) -> None:
    result = dallrec("data", "matinee")
    assert result.exit_code == 0 and "nothing to fetch" in result.stdout
