"""A page whose data are not on this machine ends with a note; the chain sees when they arrive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

from dallrec_core import artifacts, keys
from dallrec_core.datasets.download import is_here
from dallrec_core.datasets.origins import RECIPES, folder_of
from dallrec_core.errors import UserError
from dallrec_core.layout import STAGES, find_stage
from dallrec_core.stages import begin

ROOT = Path(__file__).resolve().parents[2]
BEGIN = 'from dallrec_core import stages\nhere = stages.begin("A2_released_edges", run="own")'


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(ROOT)
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("DALLREC_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DALLREC_RUNS_DIR", str(tmp_path / "runs"))
    return tmp_path


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


def put_files(place: Path, name: str) -> None:
    folder = place / "data" / folder_of(name)
    folder.mkdir(parents=True)
    for file in RECIPES[folder_of(name)].files:
        (folder / file).touch()


def test_the_cells_below_do_nothing(
    place: Path, shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_cell(BEGIN)
    shell.run_cell("here.needs_data()")
    shell.run_cell("ran = True")
    shell.run_cell("made = here.provenance(seed=0)")
    assert "ran" not in shell.user_ns and "made" in shell.user_ns
    folder = place / "runs" / "own" / "A2_released_edges"
    note = artifacts.read_json(folder / "findings.json")["skipped"]
    assert "dallrec data released-edges" in note and "dallrec run --only A2" in note
    assert "Traceback" not in capsys.readouterr().out


def test_with_the_files_the_page_goes_on(place: Path, shell: InteractiveShell) -> None:
    put_files(place, "released-edges")
    shell.run_cell(BEGIN)
    shell.run_cell("here.needs_data()")
    shell.run_cell("ran = True")
    assert shell.user_ns["ran"]
    assert not (place / "runs" / "own" / "A2_released_edges" / "findings.json").exists()


def test_outside_of_a_notebook_it_is_an_error() -> None:
    with pytest.raises(UserError, match="dallrec data published"):
        begin("A1_published_split", "own").needs_data()


@pytest.mark.parametrize("stage", [s for s in STAGES if s.data], ids=lambda stage: stage.name)
def test_the_key_says_whether_the_files_are_here(place: Path, stage: object) -> None:
    stage = find_stage(str(stage.name))  # type: ignore[attr-defined]
    before = keys.parts(stage, {}, {})
    assert not is_here(stage.data) and before["data"] == {stage.data: False}
    put_files(place, stage.data)
    after = keys.parts(stage, {}, {})
    assert is_here(stage.data) and keys.key(after) != keys.key(before)
    assert keys._changes(before, after) == [f"data changed: {stage.data}"]
    assert "data" not in keys.parts(STAGES[0], {}, {})
