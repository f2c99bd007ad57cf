"""Progress: few plain lines where nobody watches."""

from __future__ import annotations

import pytest

from dallrec_core.chain import progress as module
from dallrec_core.chain.progress import progress


@pytest.fixture
def headless(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JPY_SESSION_NAME", "VSCODE_PID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module, "is_interactive", lambda: False)


def test_short_loops_print_nothing(headless: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(range(5), desc="count")) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().out == ""


def test_long_loops_print_a_few_lines_with_the_rest_of_the_time(
    headless: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(0, 100_000, 7))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(ticks)))
    assert len(list(progress(range(1000), desc="asking", unit="questions"))) == 1000
    lines = capsys.readouterr().out.splitlines()
    assert 1 <= len(lines) <= 5
    assert lines[0] == "asking: 2/1000 questions in 14 s (7.0 s each), about 1.9 h left"
    assert all(module.LINE.fullmatch(line) for line in lines)


def test_a_batch_counts_as_a_whole(
    headless: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter([0, 30, 60])
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(ticks)))
    batches = progress([200, 200], total=400, desc="asking", unit="questions", size=int)
    assert list(batches) == [200, 200]
    said = capsys.readouterr().out
    assert said == "asking: 200/400 questions in 30 s (6.7 a second), about 30 s left\n"


def test_jupyter_counts_as_somebody_watching(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "notebook")
    assert module.is_interactive()
