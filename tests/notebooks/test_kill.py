"""Killed in the middle of any stage, the chain goes on from there; nothing half-written stays."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_book import write_book, write_stage

from dallrec_core import keys
from dallrec_core.layout import STAGES
from dallrec_core.stages import plan

# Waits in the stage that the environment names, as if it were a long training.
WAIT = """
import os, time
if os.environ.get("STOP_IN") == here.stage.name:
    here.path("half.partial").write_text("work")
    time.sleep(120)
"""


def start(root: Path, stop_in: str = "") -> subprocess.Popen[str]:
    code = "from dallrec_core.cli import main; main()"
    command = [sys.executable, "-c", code, "run"]
    environment = {key: value for key, value in os.environ.items() if key != "DALLREC_RUNS_DIR"}
    return subprocess.Popen(
        command,
        cwd=root,
        env=environment | {"STOP_IN": stop_in},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(path: Path, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.1)


@pytest.mark.slow
def test_kill_during_each_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_book(tmp_path)
    for stage in STAGES:
        write_stage(root / "notebooks", stage.name, WAIT)
    runs = root / "runs" / "smoke"
    for number, stage in enumerate(STAGES):
        process = start(root, stop_in=stage.name)
        wait_for(runs / stage.name / "half.partial")
        process.kill()
        output = process.communicate()[0]
        assert output.count(" fresh") == max(0, number - 1), output
        assert not (runs / stage.name / "manifest.json").exists()
        assert not (runs / "notebooks" / stage.notebook).exists()
    last = start(root)
    output = last.communicate(timeout=180)[0]
    assert last.returncode == 0 and output.count(" fresh") == len(STAGES) - 1, output
    monkeypatch.chdir(root)
    monkeypatch.delenv("DALLREC_RUNS_DIR", raising=False)
    assert not [step.reasons for step in plan("smoke") if step.reasons]
    for stage in STAGES:
        assert set(keys.digests(stage, "smoke")) == {name for name in stage.makes if "." in name}
