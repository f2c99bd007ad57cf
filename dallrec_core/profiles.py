"""Profiles: YAML files that set parameters of several notebooks for a kind of data or machine."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dallrec_core.errors import UserError
from dallrec_core.layout import book_root, find_stage
from dallrec_core.parameters import Overrides, check, fits


@dataclass(frozen=True)
class Profile:
    """A named set of overrides with the machine it is meant for."""

    name: str
    "Name of the profile, and of the run it makes."
    description: str
    "What it does, in one sentence."
    hardware: str
    "The machine it is meant for, in words."
    needs: dict[str, float]
    "The same in numbers: memory_gib, disk_gib, gpu_gib."
    parameters: Overrides
    "Values by stage and parameter."


def profile_names() -> tuple[str, ...]:
    """Return the names of the profiles that come with the book."""
    return tuple(
        sorted(path.stem for path in (book_root() / "notebooks" / "profiles").glob("*.yml"))
    )


def profiles() -> list[Profile]:
    """Return the profiles that come with the book, those with the smallest needs first."""
    loaded = [load_profile(name) for name in profile_names()]
    needs = ("gpu_gib", "memory_gib", "disk_gib")
    return sorted(loaded, key=lambda profile: [profile.needs.get(need, 0) for need in needs])


def load_profile(name: str) -> Profile:
    """Load a profile by name, or by the path of a YAML file, and check all its parameters.

    Raises:
        UserError: when it does not exist, is not readable, or sets what no notebook has.
    """
    path = Path(name) if name.endswith((".yml", ".yaml")) else _profile_path(name)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the profile {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark, said = getattr(error, "problem_mark", None), getattr(error, "problem", error)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise UserError(f"{where} is not a profile, because it is not YAML: {said}") from error
    if problem := _profile_problem(content):
        raise UserError(
            f"{path} is not a profile with description, hardware and parameters: {problem}"
        )
    given: Overrides = {}
    try:
        for key, values in content["parameters"].items():
            check(find_stage(str(key)), values)
            given.setdefault(find_stage(str(key)).name, {}).update(values)
    except UserError as error:
        raise UserError(f"profile {path}: {error}") from error
    description, hardware = (str(content[key]).strip() for key in ("description", "hardware"))
    return Profile(path.stem, description, hardware, content.get("needs", {}), given)


def _profile_problem(content: Any) -> str:
    """Say what keeps a YAML document from being a profile; nothing when it is one."""
    if not isinstance(content, dict):
        return "it is no mapping"
    for key in ("description", "hardware", "parameters"):
        if key not in content:
            return f"'{key}' is missing"
    given, needs = content["parameters"], content.get("needs", {})
    if not isinstance(given, dict) or not all(isinstance(v, dict) for v in given.values()):
        return "'parameters' should be like {01_data: {split: random}}"
    if not isinstance(needs, dict) or not all(fits(v, "float") for v in needs.values()):
        return "'needs' should be numbers, like {memory_gib: 6}"
    return ""


def _profile_path(name: str) -> Path:
    if name not in profile_names():
        near = difflib.get_close_matches(name, profile_names(), n=1)
        guess = f" (did you mean '{near[0]}'?)" if near else ""
        raise UserError(
            f"there is no profile '{name}'{guess}; there are {', '.join(profile_names())}"
        )
    return book_root() / "notebooks" / "profiles" / f"{name}.yml"
