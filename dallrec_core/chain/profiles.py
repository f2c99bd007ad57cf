"""Profiles: YAML files that set parameters of several notebooks for a kind of data or machine."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from dallrec_core.chain.pages import find_page
from dallrec_core.chain.parameters import Overrides, check, guess
from dallrec_core.chain.places import notebooks_dir
from dallrec_core.errors import UserError


class Profile(BaseModel):
    """A named set of overrides with the machine it is meant for."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    name: str
    "Name of the profile, and of the run it makes."
    description: str
    "What it does, in one sentence."
    hardware: str
    "The machine it is meant for, in words."
    needs: dict[str, float] = {}
    "The same in numbers: memory_gib, disk_gib, gpu_gib."
    parameters: Overrides
    "Values by page and parameter."


def profile_names() -> tuple[str, ...]:
    """Return the names of the profiles that come with the book."""
    return tuple(sorted(path.stem for path in (notebooks_dir() / "profiles").glob("*.yml")))


def profiles() -> list[Profile]:
    """Return the profiles that come with the book, those with the smallest needs first."""
    needs = ("gpu_gib", "memory_gib", "disk_gib")
    loaded = [load_profile(name) for name in profile_names()]
    return sorted(loaded, key=lambda profile: [profile.needs.get(need, 0) for need in needs])


def load_profile(name: str) -> Profile:
    """Load a profile by name, or by the path of a YAML file, and check all its parameters.

    Raises:
        UserError: when it does not exist, is not readable, or sets what no notebook has.
    """
    path = Path(name)
    if not name.endswith((".yml", ".yaml")):
        if name not in profile_names():
            near, listing = guess(name, profile_names()), ", ".join(profile_names())
            raise UserError(f"there is no profile '{name}'{near}; there are {listing}")
        path = notebooks_dir() / "profiles" / f"{name}.yml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        profile = Profile.model_validate({"name": path.stem, **(content or {})})
        parameters: Overrides = {}
        for key, values in profile.parameters.items():
            page = find_page(key)
            parameters[page.name] = check(page, values)
    except OSError as error:
        raise UserError(f"cannot read the profile {path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"{path} is not a profile: {place}: {first['msg']}") from error
    except (yaml.YAMLError, UnicodeDecodeError, TypeError) as error:
        said = " ".join(str(error).split())
        raise UserError(f"{path} is not a profile, because it is not YAML: {said}") from error
    except UserError as error:
        raise UserError(f"profile {path}: {error}") from error
    return profile.model_copy(update={"parameters": parameters})
