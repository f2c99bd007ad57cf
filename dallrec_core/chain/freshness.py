"""Content keys: what a page's result depends on, and whether the result on disk is still it.

The key of a page is a hash over its code cells, its resolved parameters and the files they name,
all source of the library, the keys of its inputs, and the versions of the libraries that compute.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
from collections.abc import Callable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from dallrec_core.chain import artefacts
from dallrec_core.chain.pages import PACKAGE, Page, missing, notebooks_dir, run_dir
from dallrec_core.chain.parameters import as_path
from dallrec_core.errors import UserError

VERSIONED = ("torch", "transformers", "peft")
"""Distributions whose version is part of every key."""

COMPUTING = {".py", ".csv", ".jinja", ".json", ".npy", ".safetensors", ".toml", ".yml"}
"""Kinds of the library's files that can change a result."""

NOTES = MANIFEST, STARTED, COSTS = "manifest.json", "started.json", "costs.json"
"""A page's own notes: it is finished; it has begun, for which key; what it took."""

Parts = dict[str, dict[str, Any]]
"""Everything a key is made of, in groups that can be named when they change."""


def parts(page: Page, parameters: Mapping[str, Any], inputs: Mapping[str, str]) -> Parts:
    """Return what the result of `page` depends on.

    Args:
        page: the page.
        parameters: its resolved parameters without `run`.
        inputs: keys of the pages it needs.
    """
    return {
        "code": {"cells": key(_code(notebooks_dir() / page.notebook))},
        "parameters": dict(parameters),
        "files": {name: _hash_path(path) for name, path in _named_files(parameters).items()},
        "library": {"dallrec_core": library()},
        "inputs": dict(inputs),
        "versions": {name: metadata.version(name) for name in VERSIONED},
        **({"data": {page.data: page.has_data()}} if page.data else {}),
    }


def key(content: Any) -> str:
    """Return the content key of plain values, such as `Parts`: 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _code(notebook: Path) -> list[str]:
    # as json, because importing nbformat takes seconds, which every kernel would wait for
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    own = [cell for cell in code if "parameters" not in cell["metadata"].get("tags", [])]
    return ["".join(cell["source"]) for cell in own]


@cache
def library() -> str:
    """Return a hash of all source and data files of the library."""
    files = [file for file in _files(PACKAGE) if file.suffix in COMPUTING]
    return key({str(f.relative_to(PACKAGE)): artefacts.sha256(f) for f in files})


def _named_files(parameters: Mapping[str, Any]) -> dict[str, Path]:
    """Return existing files that parameters name, and modules of the user's own recommenders."""
    texts = {name: as_path(name, v) for name, v in parameters.items() if isinstance(v, str)}
    listed = [v for values in parameters.values() if isinstance(values, list) for v in values]
    modules = {str(v).partition(":")[0] for v in listed if ":" in str(v)}
    specs = {name: importlib.util.find_spec(name) for name in modules}
    own = {name: Path(s.origin) for name, s in specs.items() if s and s.origin}
    return own | {name: path for name, path in texts.items() if path and path.exists()}


def _hash_path(path: Path) -> str:
    if path.is_file():
        return artefacts.sha256(path)
    stats = {file.relative_to(path): file.stat() for file in _files(path)}
    return key({str(name): (s.st_size, s.st_mtime_ns) for name, s in stats.items()})


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


# ---------------------------------------------------------------- manifests


def read_json_or_none(path: Path) -> Any:
    """Return the content of a JSON file, or None when it is absent or damaged."""
    try:
        return artefacts.read_json(path)
    except UserError:
        return None


def read_manifest(page: Page, run: str) -> dict[str, Any] | None:
    """Return the manifest of a finished page, or None when it is not finished (or damaged)."""
    manifest = read_json_or_none(run_dir(run) / page.name / MANIFEST)
    complete = isinstance(manifest, dict) and {"key", "parts", "artefacts"} <= set(manifest)
    return manifest if complete else None


def digests(page: Page, run: str, of: Callable[[Path], str] = artefacts.digest) -> dict[str, str]:
    """Return a content digest of every artefact of a page; equal runs have equal digests.

    Its own notes, unfinished files and content-keyed pieces are no artefacts.

    Args:
        page: the page.
        run: name of the run.
        of: what makes a digest of a file.
    """
    folder = run_dir(run) / page.name
    names = [file.relative_to(folder) for file in _files(folder) if file.name not in NOTES]
    made = [n for n in names if n.parts[0] not in page.keeps and ".partial" not in str(n)]
    return {str(name): digest for name in made if (digest := of(folder / name))}


def short_digest(page: Page, run: str) -> str:
    """Return twelve digits that stand for all artefacts of a page."""
    return key(digests(page, run))[:12]


def actual_key(page: Page, run: str) -> str:
    """Return the key of what is on disk; of files that somebody made or changed, their digest."""
    manifest = read_manifest(page, run)
    if manifest and not _damaged(page, run, manifest):
        return str(manifest["key"])
    return f"by hand {key(digests(page, run, artefacts.sha256))[:12]}"


def staleness(page: Page, run: str, content: Parts) -> list[str]:
    """Say in a few words why the page has to run; nothing when its result is fresh."""
    manifest = read_manifest(page, run)
    if manifest is None:
        begun = (run_dir(run) / page.name / STARTED).is_file()
        return ["not finished, or run by hand" if begun else "has not run yet"]
    gone = sorted({*missing(page, run), *_damaged(page, run, manifest)})
    reasons = [f"file missing or changed: {', '.join(gone)}"] if gone else []
    return reasons + _changes(manifest["parts"], content)


def _damaged(page: Page, run: str, manifest: Mapping[str, Any]) -> list[str]:
    found = digests(page, run, artefacts.sha256)
    return [name for name, known in manifest["artefacts"].items() if found.get(name) != known]


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
