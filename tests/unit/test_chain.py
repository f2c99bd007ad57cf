"""The chain on a book of tiny notebooks: what runs, what is skipped, what a failure leaves."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from filelock import FileLock
from no_kernel import execute_notebook, no_kernel  # noqa: F401 (a fixture)
from tiny_book import write_book, write_page

from dallrec_core import chain
from dallrec_core.chain import artefacts, freshness
from dallrec_core.chain.pages import PAGES, find_page, missing, select
from dallrec_core.chain.run import CHAIN
from dallrec_core.errors import PageFailed, UserError

FIRST = ["01_data", "02_finetune"]
WITHOUT_KERNELS = pytest.mark.usefixtures("no_kernel")
"""Where it does not matter in which process a notebook runs."""


def run(name: str = "smoke", *overrides: dict[str, dict[str, object]], **options: object) -> None:
    chain.run_chain(name, overrides, say=lambda line: None, **({"only": FIRST} | options))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny book whose first two pages have run once."""
    root = write_book(tmp_path_factory.mktemp("book"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.delenv("DALLREC_RUNS_DIR", raising=False)
        patch.setattr("papermill.execute_notebook", execute_notebook)
        run()
    return root


@pytest.fixture
def book(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished book to work in."""
    shutil.copytree(finished, tmp_path / "book")
    monkeypatch.chdir(tmp_path / "book")
    monkeypatch.delenv("DALLREC_RUNS_DIR", raising=False)
    monkeypatch.delenv(CHAIN, raising=False)
    monkeypatch.setenv("DALLREC_DATA_DIR", str(tmp_path))
    return tmp_path / "book"


def reasons(**overrides: dict[str, object]) -> dict[str, list[str]]:
    return {step.page.name: step.reasons for step in chain.plan("smoke", [overrides], only=FIRST)}


def executed(book: Path) -> set[str]:
    return {path.name for path in (book / "runs/smoke/notebooks").iterdir()}


# --- what is fresh ---


def test_a_finished_page_has_manifest_artefacts_and_notebook(book: Path) -> None:
    manifest = artefacts.read_json(made(book, "manifest.json"))
    parts = manifest["parts"]
    assert parts["parameters"] == {"seed": 0, "rate": 0.1, "label": "default"}
    assert parts["inputs"] == {"01_data": freshness.actual_key(PAGES[0], "smoke")}
    assert manifest["artefacts"]["model.json"] == artefacts.sha256(made(book, "model.json"))
    assert executed(book) == {"01_data.ipynb", "02_finetune.ipynb"}
    assert not list(book.rglob("started.json"))
    assert reasons() == {"01_data": [], "02_finetune": []}


def test_defaults_inject_nothing_and_a_new_value_is_injected_and_makes_pages_stale(
    book: Path,
) -> None:
    assert "injected-parameters" not in (book / "runs/smoke/notebooks/01_data.ipynb").read_text()
    run("other", {"01_data": {"size": 4}}, only=["01_data"])
    injected = nbformat.read(book / "runs/other/notebooks/01_data.ipynb", as_version=4).cells[2]
    assert "injected-parameters" in injected.metadata.tags
    assert "size = 4" in injected.source and 'run = "other"' in injected.source
    found = reasons(**{"01_data": {"size": 4}})
    assert found["01_data"] == ["parameters changed: size 3 -> 4"]
    assert found["02_finetune"] == ["inputs changed: 01_data"]


def change_prose(book: Path) -> None:
    path = book / "notebooks/02_finetune.ipynb"
    path.write_text(path.read_text().replace("# 02_finetune", "# Another title"))


def made(book: Path, name: str) -> Path:
    return book / "runs/smoke/02_finetune" / name


CHANGED, UNFINISHED = "file missing or changed: model.json", "not finished, or run by hand"
DAMAGES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "prose changed": (change_prose, []),
    "code changed": (
        lambda book: write_page(book / "notebooks", "02_finetune", "print('more')"),
        ["code changed: cells"],
    ),
    "artefact removed": (lambda book: made(book, "model.json").unlink(), [CHANGED]),
    "artefact changed": (lambda book: made(book, "model.json").write_text("{}"), [CHANGED]),
    "manifest damaged": (
        lambda book: made(book, "manifest.json").write_text('{"key": '),
        ["has not run yet"],
    ),
    "run by hand": (lambda book: chain.begin("02_finetune", {}), [UNFINISHED]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_makes_a_page_stale(book: Path, damage: str) -> None:
    spoil, expected = DAMAGES[damage]
    spoil(book)
    assert reasons() == {"01_data": [], "02_finetune": expected}


def test_versions_library_and_files_that_parameters_name_are_part_of_the_key(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, own = set(), book / "own.csv"
    for content in ("a", "b"):
        own.write_text(content)
        parts = freshness.parts(PAGES[0], {"interactions_path": str(own)}, {})
        keys.add(freshness.key(parts))
    assert len(keys) == 2
    monkeypatch.setattr(freshness.metadata, "version", lambda name: "9")
    monkeypatch.setattr(freshness, "library", lambda: "changed")
    changed = " ".join(reasons()["01_data"])
    assert "library changed: dallrec_core" in changed and "-> '9'" in changed


# --- what is run ---


@WITHOUT_KERNELS
def test_fresh_pages_are_skipped_unless_forced(book: Path) -> None:
    said: list[str] = []
    chain.run_chain("smoke", only=FIRST, say=said.append)
    assert said == ["01_data            fresh", "02_finetune        fresh"]
    left, before = book / "runs/smoke/01_data/left.txt", dict(os.environ)
    left.write_text("from before")
    run(only=["01_data"], force=True)
    assert not left.exists() and dict(os.environ) == before


@WITHOUT_KERNELS
def test_an_interrupted_page_keeps_its_work_and_another_key_clears_it(book: Path) -> None:
    stop = "import pathlib\nif not pathlib.Path(page.path('go')).exists(): raise ValueError('stop')"
    write_page(book / "notebooks", "01_data", stop)
    folder = book / "runs/smoke/01_data"
    with pytest.raises(PageFailed, match="ValueError: stop"):
        run(only=["01_data"])
    (folder / "half.partial").write_text("work")
    (folder / "go").touch()
    run(only=["01_data"])
    assert (folder / "half.partial").read_text() == "work"
    (folder / "started.json").write_text('{"key": "of other parameters"}')
    with pytest.raises(PageFailed, match="ValueError: stop"):
        run("smoke", {"01_data": {"size": 4}}, only=["01_data"])
    assert not (folder / "half.partial").exists()


@WITHOUT_KERNELS
def test_without_its_data_an_appendix_says_so_and_runs_again_once_they_are_there(
    book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only = ["A1_published_split"]
    write_page(book / "notebooks", *only, "print('all of it')", "needs-data")
    run(only=only)
    page = (book / "runs/smoke/notebooks/A1_published_split.ipynb").read_text()
    assert "`dallrec data published` fetches and verifies" in page
    assert capsys.readouterr().out == ""
    assert chain.plan("smoke", only=only)[0].reasons == []
    (book.parent / "published/movielens").mkdir(parents=True)
    assert chain.plan("smoke", only=only)[0].reasons == ["data changed: published/movielens"]
    run(only=only)
    assert capsys.readouterr().out == "all of it\n"


def test_two_processes_in_one_run_exclude_each_other(book: Path) -> None:
    with FileLock(book / "runs/smoke/.lock"):
        for act in (run, lambda: chain.begin("01_data", {})):
            with pytest.raises(UserError, match="another dallrec is working in .*use --run NAME"):
                act()


# --- failures ---


@WITHOUT_KERNELS
def test_a_failing_notebook_is_explained_and_leaves_no_result(book: Path) -> None:
    fault = "from dallrec_core.errors import UserError\nraise UserError('no model x; use y')"
    write_page(book / "notebooks", "02_finetune", fault)
    with pytest.raises(UserError, match="^02_finetune: no model x; use y$"):
        run()
    assert reasons() == {"01_data": [], "02_finetune": [UNFINISHED]}
    assert executed(book) == {"01_data.ipynb", "02_finetune.unfinished.ipynb"}
    write_page(book / "notebooks", "02_finetune")
    run()
    assert executed(book) == {"01_data.ipynb", "02_finetune.ipynb"}
    write_page(book / "notebooks", "02_finetune", "page.path('model.json').unlink()")
    with pytest.raises(PageFailed, match="finished without making model.json"):
        run()
    assert not made(book, "manifest.json").exists()


# --- inside a notebook ---


@pytest.mark.parametrize(
    ("name", "words"),
    [(name, "cannot name a run") for name in ("../out", "", "a/b", "cache", ".hidden")]
    + [("mine", "needs 01_data, 02_finetune of run 'mine'; run first: ")],
)
def test_a_page_opened_by_hand_in_no_run(book: Path, name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        chain.begin("04_attributes", {"run": name})


@WITHOUT_KERNELS
def test_begin_makes_missing_inputs_of_the_default_run(
    book: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(book / "runs/smoke/01_data")
    chain.begin("02_finetune", {})
    assert capsys.readouterr().out.startswith("01_data has not run yet: running it now\n")
    assert not missing(find_page("01"), "smoke")


def test_an_open_page_reads_and_writes_with_schemas_and_tells_its_provenance(book: Path) -> None:
    page = chain.begin("03_interactions", {})
    assert page.has("02_finetune", "model.json") and not page.has("01_data", "truth.parquet")
    for act, words in (
        (lambda: page.read("01_data", "train"), "column 'user' is missing"),
        (lambda: page.write("interactions", pd.DataFrame()), "column 'user' is missing"),
        (lambda: page.input("06_recommenders"), "does not declare 06_recommenders"),
    ):
        with pytest.raises(UserError, match=words):
            act()
    page.write_json("x", {"a": 1})
    assert page.read_json("03_interactions", "x") == {"a": 1}
    first, second = page.provenance(seed=7), page.provenance(seed=7)
    assert first.drop("wall time").equals(second.drop("wall time"))
    assert first.loc["seed", "value"] == "7"
    digest = freshness.short_digest(find_page("02"), "smoke")
    assert first.loc["input 02_finetune", "value"] == digest
    assert {"seconds", "peak_mib", "device"} == set(artefacts.read_json(page.path("costs.json")))
    shown = chain.table({"n_items": 12345, "error": {"test": 0.123456}})
    assert shown.to_dict() == {"value": {"n items": "12,345", "error.test": "0.1235"}}


# --- the list of pages ---


def test_pages_can_be_named_shortly_and_chosen() -> None:
    names = [page.name for page in PAGES]
    assert find_page("03_interactions") is find_page("3") is find_page("interactions")
    assert select(None, None) == names and select("A1", None) == names[-2:]
    assert select("06", "07") == ["06_recommenders", "07_analysis"]
    assert select(None, None, ("05", "01")) == ["05_summaries", "01_data"]
    for page in PAGES:  # `Page.needs` holds all of them, in order
        assert sorted(page.needs) == list(page.needs)
        assert all(set(find_page(name).needs) <= set(page.needs) for name in page.needs)
