"""The library's shape: imports go downwards, public names are typed and documented."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dallrec_core.keys import PACKAGE, imported_rooms

# A room may import rooms of lower rows only. So `llm` knows no recommender and no dataset,
# `recommenders` no language model, and `augmentation` is where the two meet.
LAYERS = [
    {"errors"},
    {"artifacts", "dealing", "memory", "paired", "progress", "prompts"},
    {"datasets", "answers", "llm", "recommenders", "statistics", "plots"},
    {"augmentation", "evaluation", "features", "ledger"},
    {"training", "study", "leakage"},
    {"cells"},
    {"worker"},
    {"experiments", "arms"},
    {"layout", "limits", "where"},
    {"parameters", "execution"},
    {"keys", "profiles"},
    {"here", "pages", "status"},
    {"stages", "book", "doctor", "exports"},
    {"imports", "sweep"},
    {"exchange"},
    {"cli"},
]
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def level(room: str) -> int:
    levels = [number for number, rooms in enumerate(LAYERS) if room in rooms]
    assert len(levels) == 1, f"'{room}' has no place in LAYERS of this test; give it one"
    return levels[0]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_downwards(file: Path) -> None:
    room = room_of(file)
    if room == "__init__":
        assert not imported_rooms(file.read_text(encoding="utf-8"))
        return
    for imported in imported_rooms(file.read_text(encoding="utf-8")) - {room}:
        assert level(imported) < level(room), f"{file.name} imports {imported}"


def test_an_upward_import_would_be_seen() -> None:
    source = "def f():\n    from dallrec_core.cli import main\n    import dallrec_core.llm.models\n"
    assert imported_rooms(source) == {"cli", "llm"}
    assert level("cli") > level("llm")


def public_definitions(file: Path) -> Iterator[tuple[str, ast.AST]]:
    """Yield public classes, functions and methods, with dotted names."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    todo = [("", node) for node in tree.body]
    while todo:
        prefix, node = todo.pop()
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        yield f"{prefix}{node.name}", node
        if isinstance(node, ast.ClassDef):
            todo += [(f"{prefix}{node.name}.", inner) for inner in node.body]


def untyped(function: ast.FunctionDef) -> list[str]:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    named += [each for each in (arguments.vararg, arguments.kwarg) if each]
    bare = [a.arg for a in named if a.annotation is None and a.arg not in ("self", "cls")]
    return bare + ([] if function.returns is not None else ["return"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_public_names_are_documented_and_typed(file: Path) -> None:
    assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))), "the module"
    for name, node in public_definitions(file):
        assert ast.get_docstring(node), f"{name} has no docstring"
        if isinstance(node, ast.FunctionDef):
            assert not untyped(node), f"{name}: no type for {untyped(node)}"


def test_importing_the_package_and_the_command_line_is_light_and_silent() -> None:
    code = (
        "import sys, dallrec_core, dallrec_core.cli, dallrec_core.prompts, dallrec_core.datasets\n"
        "heavy = {'torch', 'transformers', 'papermill', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("given", "kept"), [(None, "1"), ("0", "0")])
def test_large_pages_are_asked_for_unless_the_user_says_otherwise(
    given: str | None, kept: str
) -> None:
    name = "THP_MEM_ALLOC_ENABLE"
    environment = {key: value for key, value in os.environ.items() if key != name}
    environment |= {} if given is None else {name: given}
    code = f"import os, dallrec_core; print(os.environ[{name!r}])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == kept
