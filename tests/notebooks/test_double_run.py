"""The smoke profile run twice gives the same artefacts, times aside."""

from __future__ import annotations

import pytest
from second_run import FIRST, ROOT, SECOND

from dallrec_core.chain import freshness
from dallrec_core.chain.pages import PAGES, Page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_both_runs_left_the_same(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (SECOND / "smoke" / PAGES[-1].name).is_dir():
        pytest.skip("nbval has not run the notebooks a second time (make test does)")
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("DALLREC_RUNS_DIR", str(FIRST))
    first = freshness.digests(page, "smoke")
    monkeypatch.setenv("DALLREC_RUNS_DIR", str(SECOND))
    assert freshness.digests(page, "smoke") == first
    assert not page.has_data() or set(page.makes) <= {name.split("/")[0] for name in first}
