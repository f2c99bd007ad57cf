"""Progress: few plain lines where nobody watches."""

from __future__ import annotations

import pytest

from dallrec_core.chain import progress as module
from dallrec_core.chain.progress import progress

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def headless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody watches, and every look at the clock takes seven seconds."""
    ticks = iter(range(0, 100_000, 7))
    monkeypatch.setattr(module, "is_interactive", lambda: False)
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(ticks)))


def test_long_loops_print_a_few_lines_with_the_rest_of_the_time(
    headless: None, capsys: Capture
) -> None:
    assert list(progress([3], desc="count")) == [3]
    assert capsys.readouterr().out == ""  # over at once
    assert len(list(progress(range(1000), desc="asking", unit="questions"))) == 1000
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "asking: 2/1000 questions in 14 s, about 1.9 h left"
    assert len(lines) == 6 and all(module.LINE.fullmatch(line) for line in lines)
    # a batch counts as a whole
    batches = progress(iter([50, 150, 200]), total=400, desc="asking", unit="questions", size=int)
    assert list(batches) == [50, 150, 200]
    assert capsys.readouterr().out == "asking: 200/400 questions in 14 s, about 14 s left\n"


def test_jupyter_counts_as_somebody_watching(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "notebook")
    assert module.is_interactive()
