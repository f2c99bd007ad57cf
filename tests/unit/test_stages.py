"""The chain on a book of tiny notebooks: what runs, what is skipped, what a failure leaves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from filelock import FileLock
from tiny_book import write_book, write_stage

from dallrec_core import artifacts, keys, stages
from dallrec_core.errors import UserError
from dallrec_core.execution import CHAIN, StageFailed
from dallrec_core.layout import STAGES, find_stage, missing, run_dir

FIRST = ["01_data", "02_finetune"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny book whose first two stages have run once."""
    root = write_book(tmp_path_factory.mktemp("book"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.delenv("DALLREC_RUNS_DIR", raising=False)
        stages.run_chain("smoke", only=FIRST, say=lambda line: None)
    return root


@pytest.fixture
def book(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished book to work in."""
    import shutil

    root = tmp_path / "book"
    shutil.copytree(finished, root)
    monkeypatch.chdir(root)
    monkeypatch.delenv("DALLREC_RUNS_DIR", raising=False)
    monkeypatch.delenv(CHAIN, raising=False)
    return root


def reasons(**overrides: dict[str, object]) -> dict[str, list[str]]:
    steps = stages.plan("smoke", [overrides], only=FIRST)
    return {step.stage.name: step.reasons for step in steps}


def test_a_finished_stage_has_manifest_artefacts_and_notebook(book: Path) -> None:
    manifest = artifacts.read_json(book / "runs/smoke/02_finetune/manifest.json")
    assert manifest["parameters"] == {"seed": 0, "rate": 0.1, "label": "default"}
    assert manifest["parts"]["inputs"] == {"01_data": keys.actual_key(STAGES[0], "smoke")}
    model = book / "runs/smoke/02_finetune/model.json"
    assert manifest["artefacts"]["model.json"]["sha256"] == artifacts.sha256(model)
    assert {path.name for path in (book / "runs/smoke/notebooks").iterdir()} == {
        "01_data.ipynb",
        "02_finetune.ipynb",
    }
    assert not list(book.rglob("started.json"))


def test_defaults_inject_nothing_and_overrides_do(book: Path) -> None:
    executed = book / "runs/smoke/notebooks/01_data.ipynb"
    assert "injected-parameters" not in executed.read_text()
    stages.run_chain("other", [{"01_data": {"size": 4}}], ["01_data"], say=lambda line: None)
    injected = nbformat.read(book / "runs/other/notebooks/01_data.ipynb", as_version=4).cells[2]
    assert "injected-parameters" in injected.metadata.tags
    assert "size = 4" in injected.source and 'run = "other"' in injected.source


def test_fresh_stages_are_skipped(book: Path) -> None:
    said: list[str] = []
    steps = stages.run_chain("smoke", only=FIRST, say=said.append)
    assert [step.reasons for step in steps] == [[], []]
    assert all("fresh" in line for line in said) and len(said) == 2


def test_a_new_parameter_makes_it_and_what_follows_stale(book: Path) -> None:
    found = reasons(**{"01_data": {"size": 4}})
    assert found["01_data"] == ["parameters changed: size 3 -> 4"]
    assert found["02_finetune"] == ["inputs changed: 01_data"]


def test_code_counts_and_prose_does_not(book: Path) -> None:
    path = book / "notebooks/02_finetune.ipynb"
    content = json.loads(path.read_text())
    content["cells"][0]["source"] = "# Another title"
    path.write_text(json.dumps(content))
    assert reasons() == {"01_data": [], "02_finetune": []}
    write_stage(book / "notebooks", "02_finetune", extra="print('more')")
    assert reasons()["02_finetune"] == ["code changed: cells"]


@pytest.mark.parametrize("damage", ["remove", "truncate"])
def test_damaged_artefacts_are_noticed(book: Path, damage: str) -> None:
    path = book / "runs/smoke/01_data/users.parquet"
    path.unlink() if damage == "remove" else path.write_bytes(path.read_bytes()[:-9])
    assert "file missing or changed: users.parquet" in reasons()["01_data"][0]


def test_a_damaged_manifest_means_not_finished(book: Path) -> None:
    (book / "runs/smoke/01_data/manifest.json").write_text('{"key": ')
    assert reasons()["01_data"] == ["has not run yet"]


def test_versions_and_library_are_part_of_the_key(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "distribution_version", lambda name: "9")
    assert "torch" in reasons()["01_data"][0] and "-> '9'" in reasons()["01_data"][0]
    monkeypatch.undo()
    monkeypatch.chdir(book)
    monkeypatch.setattr(keys, "library", lambda source: {"artifacts": "changed"})
    assert "library changed: " in reasons()["01_data"][0]


def test_files_named_by_parameters_are_part_of_the_key(book: Path) -> None:
    (book / "own.csv").write_text("a")
    parameters = {"interactions_path": str(book / "own.csv"), "seed": 0}
    before = keys.key(keys.parts(STAGES[0], parameters, {}))
    (book / "own.csv").write_text("b")
    assert keys.key(keys.parts(STAGES[0], parameters, {})) != before


def test_the_library_reached_by_an_import_is_followed() -> None:
    code = "def f():\n    from dallrec_core.experiments import run_cells\n%matplotlib inline"
    reached = set(keys.library(code))
    assert {"experiments", "training", "recommenders", "artifacts"} <= reached
    assert not {"cli", "book", "llm"} & reached
    assert set(keys.library("import dallrec_core.llm.models")) >= {"llm", "artifacts"}


def test_the_machinery_can_be_mended_without_running_again() -> None:
    assert keys.library("from dallrec_core import stages, artifacts").keys() == {"artifacts"}
    assert all((keys.PACKAGE / f"{room}.py").is_file() for room in keys.MACHINERY)


def test_force_runs_again_and_clears_everything(book: Path) -> None:
    left = book / "runs/smoke/01_data/left.txt"
    left.write_text("from before")
    steps = stages.run_chain("smoke", only=["01_data"], force=True, say=lambda line: None)
    assert steps[0].reasons == ["forced"] and not left.exists()


def test_an_interrupted_stage_keeps_its_work_and_another_key_clears_it(book: Path) -> None:
    stage = find_stage("06")
    folder = run_dir("smoke") / stage.name
    step = stages.Step(stage, {"seed": 0}, {"parameters": {"seed": 0}}, ["new"])
    other = stages.Step(stage, {"seed": 1}, {"parameters": {"seed": 1}}, ["new"])
    stages._prepare(step, folder, force=False)
    for name in ("half.partial", "cells"):
        (folder / name).mkdir()
        (folder / name / "piece").write_text("work")
    stages._prepare(step, folder, force=False)
    assert (folder / "half.partial" / "piece").is_file()
    stages._prepare(other, folder, force=False)
    assert {path.name for path in folder.iterdir()} == {"cells", "started.json"}


# --- failures ---


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        ("UserError('no model x; use y')", UserError, "^02_finetune: no model x; use y$"),
        ("ValueError('boom')", StageFailed, "02_finetune.ipynb, code cell 3: ValueError: boom"),
    ],
)
def test_a_failing_notebook_is_explained_and_leaves_no_result(
    book: Path, error: str, kind: type[Exception], message: str
) -> None:
    extra = f"from dallrec_core.errors import UserError\nraise {error}"
    write_stage(book / "notebooks", "02_finetune", extra)
    with pytest.raises(kind, match=message):
        stages.run_chain("smoke", only=FIRST, say=lambda line: None)
    assert reasons() == {"01_data": [], "02_finetune": ["not finished, or run by hand"]}
    names = {path.name for path in (book / "runs/smoke/notebooks").iterdir()}
    assert names == {"01_data.ipynb", "02_finetune.failed.ipynb"}
    write_stage(book / "notebooks", "02_finetune")
    stages.run_chain("smoke", only=FIRST, say=lambda line: None)
    names = {path.name for path in (book / "runs/smoke/notebooks").iterdir()}
    assert names == {"01_data.ipynb", "02_finetune.ipynb"}


def test_a_dead_kernel_is_explained(book: Path) -> None:
    write_stage(book / "notebooks", "01_data", "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(StageFailed, match="the kernel died"):
        stages.run_chain("smoke", only=["01_data"], say=lambda line: None)


def test_a_stage_that_makes_too_little_has_failed(book: Path) -> None:
    write_stage(book / "notebooks", "01_data", "here.path('users.parquet').unlink()")
    with pytest.raises(StageFailed, match="without making users.parquet"):
        stages.run_chain("smoke", only=["01_data"], say=lambda line: None)


def test_two_runs_of_one_folder_exclude_each_other(book: Path) -> None:
    with FileLock(book / "runs/smoke/.lock"):
        with pytest.raises(UserError, match="another dallrec is working in"):
            stages.run_chain("smoke", only=FIRST)
        with pytest.raises(UserError, match="another dallrec"):
            stages.begin("01_data")


def test_a_folder_that_cannot_be_written_is_named(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (book / "taken").write_text("a file")
    monkeypatch.setenv("DALLREC_RUNS_DIR", str(book / "taken"))
    with pytest.raises(UserError, match="cannot write to .*taken/smoke"):
        stages.run_chain("smoke", only=FIRST)


def test_only_a_later_stage_needs_the_earlier_ones(book: Path) -> None:
    with pytest.raises(UserError, match="06_recommenders needs 03_interactions of run 'smoke'"):
        stages.run_chain("smoke", only=["06_recommenders"])


# --- inside a notebook ---


def test_begin_in_another_run_names_the_command(book: Path) -> None:
    with pytest.raises(UserError, match="needs 01_data of run 'ml-1m'.*dallrec run --run ml-1m"):
        stages.begin("02_finetune", run="ml-1m")


@pytest.mark.parametrize("run", ["../out", "", "a/b", "cache", ".hidden"])
def test_a_run_stays_inside_the_runs(run: str) -> None:
    with pytest.raises(UserError, match="cannot name a run"):
        stages.begin("01_data", run=run)


def test_begin_makes_missing_inputs_of_the_default_run(
    book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    shutil.rmtree(book / "runs/smoke/02_finetune")
    here = stages.begin("03_interactions")
    assert capsys.readouterr().out.startswith("02_finetune has not run yet: running it now\n")
    assert not missing(find_stage("02"), "smoke")
    assert here.folder.is_dir()


def test_a_notebook_run_by_hand_is_not_mistaken_for_a_finished_stage(book: Path) -> None:
    here = stages.begin("01_data")
    assert here.read_json("01_data", "dataset") == {"seed": 0}
    assert reasons()["01_data"] == ["not finished, or run by hand"]


@pytest.fixture
def here(book: Path) -> Iterator[stages.Here]:
    yield stages.begin("03_interactions")


def test_here_reads_and_writes_with_schemas(here: stages.Here) -> None:
    import pandas as pd

    assert here.has("02_finetune", "model.json") and not here.has("01_data", "truth.parquet")
    with pytest.raises(UserError, match="column 'user' is missing"):
        here.read("01_data", "train")
    with pytest.raises(UserError, match="no table 'edges'; layout.ARTEFACTS lists interactions"):
        here.write("edges", pd.DataFrame())
    with pytest.raises(UserError, match="does not declare 06_recommenders"):
        here.input("06_recommenders")
    here.write_json("x", {"a": 1})
    assert artifacts.read_json(here.path("x.json")) == {"a": 1}
    assert here.cache().parent.is_dir()


def test_provenance_names_inputs_and_notes_costs(here: stages.Here) -> None:
    first, second = here.provenance(seed=7), here.provenance(seed=7)
    pd_same = first.drop("wall time").equals(second.drop("wall time"))
    assert pd_same and first.loc["seed", "value"] == "7"
    digest = keys.short_digest(find_stage("02"), "smoke")
    assert first.loc["input 02_finetune", "value"] == digest
    assert {"seconds", "peak_mib", "device"} == set(artifacts.read_json(here.path("costs.json")))


def test_digests_leave_times_and_bookkeeping_out(book: Path) -> None:
    folder = book / "runs/smoke/01_data"
    before = keys.digests(STAGES[0], "smoke")
    assert set(before) == {name for name in STAGES[0].makes if "." in name}
    artifacts.write_json({"seed": 0, "seconds": 12.5}, folder / "dataset.json")
    assert keys.digests(STAGES[0], "smoke") == before
    artifacts.write_json({"seed": 1}, folder / "dataset.json")
    assert keys.digests(STAGES[0], "smoke") != before
