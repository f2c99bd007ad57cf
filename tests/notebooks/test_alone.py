"""Each notebook by itself, as in Colab: the package is installed, no repository lies beside it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from second_run import ROOT

from dallrec_core.chain.pages import PAGES

SAMPLE = ("03_interactions",)
"""Needs two others, so their quick versions run too; all where `DALLREC_ALONE=all`."""

NAMES = [s.name for s in PAGES if s.name in SAMPLE or os.environ.get("DALLREC_ALONE") == "all"]
SOURCES = ("dallrec_core", "notebooks", "pyproject.toml", "README.md", "LICENSE")


def call(folder: Path, *words: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    own = {"PYTHONPATH": str(path)} if path else {}
    kept = {name: value for name, value in os.environ.items() if name != "DALLREC_RUNS_DIR"}
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=kept | {"HF_HUB_OFFLINE": "1"} | own,
        capture_output=True,
        text=True,
        timeout=1800,
    )


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the package from a copy of the sources, without its dependencies."""
    source, target = (tmp_path_factory.mktemp(name) for name in ("source", "installed"))
    for name in SOURCES:
        path = ROOT / name
        copy = shutil.copytree if path.is_dir() else shutil.copyfile
        copy(path, source / name)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--target", str(target)]
    done = call(source, "-m", "pip", "install", *options, str(source))
    assert done.returncode == 0, done.stderr
    return target


def papermill(folder: Path, installed: Path, name: str, *parameters: str) -> nbformat.NotebookNode:
    """Execute a copy of a notebook in `folder` and return it with its outputs."""
    shutil.copyfile(ROOT / "notebooks" / f"{name}.ipynb", folder / f"{name}.ipynb")
    words = ["-m", "papermill", f"{name}.ipynb", "out.ipynb", "--no-progress-bar", *parameters]
    done = call(folder, *words, path=installed)
    assert done.returncode == 0, done.stdout + done.stderr
    return nbformat.read(folder / "out.ipynb", as_version=4)


def printed(notebook: nbformat.NotebookNode) -> str:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.text for output in outputs if output.output_type == "stream")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_runs_in_an_empty_folder(tmp_path: Path, installed: Path, name: str) -> None:
    small = () if "DALLREC_ALONE" in os.environ else ("-p", "budget", "60")
    said = printed(papermill(tmp_path, installed, name, *small))
    for stage in PAGES:
        if stage.name < name and (tmp_path / "runs/smoke" / stage.name).is_dir():
            assert f"{stage.name} has not run yet: running it now" in said
    made = next(stage.makes for stage in PAGES if stage.name == name)
    assert all((tmp_path / "runs/smoke" / name / file).exists() for file in made)
    assert str(ROOT) not in said
