"""Content keys: what a stage's result depends on, and whether the result on disk is still it.

The key of a stage is a hash over its code cells, its resolved parameters, the library source that
it imports, the keys of its inputs, and the versions of the libraries that do the arithmetic.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import re
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from dallrec_core import artifacts
from dallrec_core.datasets.download import is_here
from dallrec_core.errors import UserError
from dallrec_core.layout import PACKAGE, Stage, book_root, missing, run_dir
from dallrec_core.parameters import code_cells

VERSIONED = ("torch", "transformers", "peft")
"""Distributions whose version is part of every key."""

MACHINERY = {"stages", "here", "keys", "layout", "parameters", "execution", "progress", "errors"}
"""Rooms that decide when a notebook runs and how it is told, not what comes out of it."""

MANIFEST = "manifest.json"
_SOURCES = {".py", ".csv", ".json", ".safetensors"}
_OWN_FILES = {MANIFEST, "costs.json", "started.json"}

Parts = dict[str, dict[str, Any]]
"""Everything a key is made of, in groups that can be named when they change."""


def parts(stage: Stage, parameters: Mapping[str, Any], inputs: Mapping[str, str]) -> Parts:
    """Return what the result of `stage` depends on.

    Args:
        stage: the stage.
        parameters: its resolved parameters without `run`.
        inputs: keys of the stages it needs.
    """
    cells = code_cells(book_root() / "notebooks" / stage.notebook)
    source = "\n".join(text for text, tags in cells if "parameters" not in tags)
    files = {name: _hash_path(value) for name, value in parameters.items() if _is_file(name, value)}
    files |= {name: artifacts.sha256(file) for name, file in _own_modules(parameters).items()}
    return {
        "code": {"cells": _hash(source.encode())},
        "parameters": dict(parameters),
        "files": files,
        "library": library(source),
        "inputs": dict(inputs),
        "versions": {name: distribution_version(name) for name in VERSIONED},
        **({"data": {stage.data: is_here(stage.data)}} if stage.data else {}),
    }


def key(content: Parts) -> str:
    """Return the content key: 64 hexadecimal digits."""
    return _hash(json.dumps(content, sort_keys=True, default=str).encode())


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@cache
def distribution_version(distribution: str) -> str:
    """Return the installed version of a distribution, or "absent"."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "absent"


def _is_file(name: str, value: Any) -> bool:
    named = isinstance(value, str) and (name.endswith("_path") or "/" in value)
    return bool(named and value) and (book_root() / "notebooks" / value).exists()


def _own_modules(parameters: Mapping[str, Any]) -> dict[str, Path]:
    """Return the files of the user's own recommenders, named `module:Name`, that are found."""
    listed = [v for value in parameters.values() if isinstance(value, list) for v in value]
    names = {str(v).rpartition(":")[0] for v in listed if ":" in str(v)}
    specs = {name: importlib.util.find_spec(name) for name in names}
    return {name: Path(spec.origin) for name, spec in specs.items() if spec and spec.origin}


def _hash_path(value: str) -> str:
    path = book_root() / "notebooks" / value
    if path.is_file():
        return artifacts.sha256(path)
    stats = {str(f.relative_to(path)): f.stat() for f in _files(path)}
    told = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()]
    return _hash(json.dumps(told).encode())


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


# --- the library source that a notebook reaches ---


def library(source: str) -> dict[str, str]:
    """Return a hash for each room of the library that `source` imports, directly or not.

    A subpackage counts as a whole, with its data files, because it may import lazily by name.
    The chain's own machinery is left out: mending it must not cost anybody a training.
    """
    found: dict[str, str] = {}
    todo = imported_rooms(source)
    while todo:
        room = todo.pop()
        if room in found or room in MACHINERY:
            continue
        found[room], inner = _room(room)
        todo |= inner
    return dict(sorted(found.items()))


def imported_rooms(source: str) -> set[str]:
    """Return the top-level names below `dallrec_core` that Python source imports anywhere."""
    code = re.sub(r"^\s*[%!].*$", "", source, flags=re.MULTILINE)
    rooms = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            rooms |= {name[1] for name in names if name[0] == "dallrec_core" and name[1:]}
        elif isinstance(node, ast.ImportFrom) and node.module == "dallrec_core":
            rooms |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dallrec_core."):
            rooms.add(str(node.module).split(".")[1])
    places = {room: (PACKAGE / room, PACKAGE / f"{room}.py") for room in rooms}
    return {room for room, (folder, file) in places.items() if folder.is_dir() or file.is_file()}


@cache
def _room(room: str) -> tuple[str, set[str]]:
    folder = PACKAGE / room
    files = _files(folder) if folder.is_dir() else [PACKAGE / f"{room}.py"]
    files = [file for file in files if file.suffix in _SOURCES]
    hashes = [(str(file.relative_to(PACKAGE)), artifacts.sha256(file)) for file in files]
    sources = [file.read_text(encoding="utf-8") for file in files if file.suffix == ".py"]
    inner = set().union(*(imported_rooms(source) for source in sources)) - {room}
    return _hash(json.dumps(hashes).encode()), inner


# --- manifests ---


def read_manifest(stage: Stage, run: str) -> dict[str, Any] | None:
    """Return the manifest of a finished stage, or None when it is not finished (or damaged)."""
    manifest = read_json_or_none(run_dir(run) / stage.name / MANIFEST)
    complete = isinstance(manifest, dict) and {"key", "parts", "artefacts"} <= set(manifest)
    return manifest if complete else None


def read_json_or_none(path: Path) -> Any:
    """Return the content of a JSON file, or None when it is absent or damaged."""
    try:
        return artifacts.read_json(path) if path.is_file() else None
    except UserError:
        return None


def actual_key(stage: Stage, run: str) -> str:
    """Return the key of what is on disk; of files that somebody made or changed, their digest."""
    manifest = read_manifest(stage, run)
    if manifest and not _damaged(stage, run, manifest):
        return str(manifest["key"])
    files = artefact_files(stage, run)
    made = {str(file): artifacts.sha256(run_dir(run) / stage.name / file) for file in files}
    return f"by hand {_hash(json.dumps(made).encode())}"


def digests(stage: Stage, run: str) -> dict[str, str]:
    """Return a content digest for every artefact of a stage; equal runs have equal digests.

    Pictures are left out: they show what tables hold, and kernels draw a few pixels otherwise.
    """
    folder = run_dir(run) / stage.name
    files = [file for file in artefact_files(stage, run) if file.suffix != ".png"]
    return {str(file): artifacts.digest(folder / file) for file in files}


def artefact_files(stage: Stage, run: str) -> list[Path]:
    """Return the files a stage made, relative to its folder.

    Left out are its own bookkeeping, unfinished files, and content-keyed pieces.
    """
    folder = run_dir(run) / stage.name
    kept = [file.relative_to(folder) for file in _files(folder) if file.name not in _OWN_FILES]
    return [
        file for file in kept if ".partial" not in str(file) and file.parts[0] not in stage.keeps
    ]


def short_digest(stage: Stage, run: str) -> str:
    """Return twelve digits that stand for all artefacts of a stage."""
    return _hash(json.dumps(digests(stage, run), sort_keys=True).encode())[:12]


def staleness(stage: Stage, run: str, content: Parts) -> list[str]:
    """Say in a few words why the stage has to run; nothing when its result is fresh."""
    manifest = read_manifest(stage, run)
    if manifest is None:
        begun = run_dir(run) / stage.name / "started.json"
        return ["not finished, or run by hand" if begun.is_file() else "has not run yet"]
    gone = [*missing(stage, run), *_damaged(stage, run, manifest)]
    reasons = [f"file missing or changed: {', '.join(gone)}"] if gone else []
    return reasons + _changes(manifest["parts"], content)


def _damaged(stage: Stage, run: str, manifest: Mapping[str, Any]) -> list[str]:
    folder = run_dir(run) / stage.name
    return [
        name
        for name, made in manifest["artefacts"].items()
        if not (folder / name).is_file() or artifacts.sha256(folder / name) != made["sha256"]
    ]


def _changes(old: Parts, new: Parts) -> list[str]:
    reasons = []
    for group, values in new.items():
        before = old.get(group, {})
        names = [n for n in {**before, **values} if before.get(n) != values.get(n)]
        if group in ("parameters", "versions"):
            names = [f"{name} {before.get(name)!r} -> {values.get(name)!r}" for name in names]
        if names:
            reasons.append(f"{group} changed: {', '.join(names)}")
    return reasons


@cache
def commit() -> str:
    """Return the commit of the sources, with "+" when the tree has uncommitted changes."""
    command = ["git", "-C", str(PACKAGE), "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
