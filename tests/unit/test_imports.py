"""The library's shape: imports go downwards, and every module is on the page about it.

That public names are typed and documented is held by mypy and ruff.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "dallrec_core"
ROOMS = ["errors", "chain", "data", "llm", "recommenders", "augmentation", "experiment"]
ROOMS += ["plots", "book", "cli"]
"""A room may import those before it. So `llm` knows no recommender and `chain` no dataset."""

APART = {("recommenders", "llm"), ("llm", "data"), ("recommenders", "data")}
"""The first must do without the second, so that each can be used alone."""

FILES = sorted(PACKAGE.rglob("*.py"))


def imported_modules(file: Path) -> set[str]:
    """Return the modules that a file imports anywhere."""
    modules = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "dallrec_core":
            modules |= {f"dallrec_core.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(str(node.module))
    return modules


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_room_imports_a_later_one(file: Path) -> None:
    room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    ours = {name for name in imported_modules(file) if name.startswith("dallrec_core.")}
    found = {name.split(".")[1] for name in ours} - {room, "__version__"}
    if room == "__init__":
        assert not found
        return
    later = {name for name in found if ROOMS.index(name) > ROOMS.index(room)}
    assert not later, f"{file.name} imports {later}"
    assert not {(room, name) for name in found} & APART


def test_every_module_is_on_the_page_of_the_library() -> None:
    page = (PACKAGE.parent / "book" / "api.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"automodule:: dallrec_core\.(\S+)", page))
    modules = {str(f.relative_to(PACKAGE).with_suffix("")).replace("/", ".") for f in FILES}
    commands = {"cli"}  # which the pages describe
    assert listed == {m for m in modules if not m.endswith("__init__")} - commands


def test_importing_the_package_and_the_command_line_is_light_and_silent() -> None:
    code = (
        "import os, sys, dallrec_core, dallrec_core.cli, dallrec_core.data\n"
        "import dallrec_core.augmentation.prompts\n"
        "assert os.environ['THP_MEM_ALLOC_ENABLE'] == '0'\n"  # as the user says
        "heavy = {'torch', 'transformers', 'papermill', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    command, environment = [sys.executable, "-c", code], os.environ | {"THP_MEM_ALLOC_ENABLE": "0"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
