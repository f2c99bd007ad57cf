"""`dallrec doctor`: what it reports about this machine and about machines we pretend to have."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from dallrec_core import cli
from dallrec_core.chain.parameters import load_profile, profiles

LARGE = dict.fromkeys(cli.NEEDS, 100.0)


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    monkeypatch.setenv("DALLREC_DATA_DIR", str(tmp_path))


def test_the_report_covers_machine_data_and_every_profile() -> None:
    report = CliRunner().invoke(cli.main, ["doctor"]).output
    for word in ("Python", "cores", "memory", "free disk", "GPU", "holds nothing yet"):
        assert word in report
    for profile in profiles():
        assert f"profile   {profile.name}: " in report
    assert "profile   smoke: can run here\n" in report


def test_what_a_machine_lacks_is_named() -> None:
    lacks = cli.lacking(load_profile("paper").needs, LARGE | {"memory_gib": 4.0, "gpu_gib": 0.0})
    ends = ("GiB of memory (here 4)", "GiB of GPU memory (here 0)")
    assert all(said.endswith(end) for said, end in zip(lacks, ends, strict=True))
    assert not any(cli.lacking(profile.needs, LARGE) for profile in profiles())
