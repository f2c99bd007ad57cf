"""The smoke profile run twice gives the same artefacts, times aside."""

from __future__ import annotations

import pytest
from second_run import FIRST, ROOT, SECOND

from dallrec_core import keys
from dallrec_core.layout import STAGES, Stage


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_both_runs_left_the_same(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (SECOND / "smoke" / STAGES[-1].name).is_dir():
        pytest.skip("nbval has not run the notebooks a second time (make test does)")
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("DALLREC_RUNS_DIR", str(FIRST))
    first = keys.digests(stage, "smoke")
    monkeypatch.setenv("DALLREC_RUNS_DIR", str(SECOND))
    assert keys.digests(stage, "smoke") == first
    assert set(stage.makes) <= {name.split("/")[0] for name in first}
