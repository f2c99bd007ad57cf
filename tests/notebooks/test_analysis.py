"""Page 7 where page 6 trained something else than usual."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from no_kernel import no_kernel  # noqa: F401 (a fixture)
from second_run import FIRST, SMALL

from dallrec_core.cli import main


@pytest.mark.usefixtures("no_kernel")
def test_it_ends_where_the_arm_dallrec_was_not_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DALLREC_RUNS_DIR", str(tmp_path))
    for page in FIRST.glob("smoke/0[1-5]_*"):
        shutil.copytree(page, tmp_path / "smoke" / page.name)
    shutil.copytree(FIRST / "smoke" / "notebooks", tmp_path / "smoke" / "notebooks")
    small = SMALL | {"06.arms": "[base, random]", "06.seeds": 2, "07.fractions": "[]"}
    options = [word for name, value in small.items() for word in ("-p", f"{name}={value}")]
    done = CliRunner().invoke(main, ["run", "--until", "07_analysis", *options])
    assert done.exit_code == 0, done.output
    assert "05_summaries       running" not in done.output  # nothing but pages 6 and 7 ran again
    assert "No pair was added" not in done.output
    headline = json.loads((tmp_path / "smoke/07_analysis/headline.json").read_text())
    assert headline["backbones"] == []
