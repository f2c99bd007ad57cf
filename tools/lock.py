"""Write requirements.lock from the present environment: `make lock`.

Pins the closure of what pyproject.toml asks for (extras `book` and `test` included). Lines with an
environment marker, for what only other Pythons or systems install, are kept from the present file.
"""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
HEADER = """\
# Exact versions for Python 3.11-3.13. Written by `make lock`; used by make, environment.yml and CI.
# Torch's GPU libraries are its own dependencies and differ by platform: they are not pinned here.
"""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def top_level() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    build = ["setuptools"]
    return [
        Requirement(text)
        for text in project["dependencies"] + extras["book"] + extras["test"] + build
    ]


def closure(requirements: list[Requirement]) -> dict[str, str]:
    pins: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    todo = [(req, extra) for req in requirements for extra in ("", *req.extras)]
    while todo:
        requirement, extra = todo.pop()
        name = normal(requirement.name)
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        distribution = metadata.distribution(name)
        pins[name] = distribution.version.split("+")[0]
        for text in distribution.requires or []:
            inner = Requirement(text)
            if inner.marker is None or inner.marker.evaluate({"extra": extra}):
                todo += [(inner, wanted) for wanted in ("", *inner.extras)]
    return {
        name: version
        for name, version in pins.items()
        if not name.startswith(("nvidia-", "triton", "cuda-"))
    }


def main() -> None:
    path = ROOT / "requirements.lock"
    old = path.read_text().splitlines() if path.is_file() else []
    elsewhere = [line for line in old if ";" in line and not line.startswith("#")]
    lines = [f"{name}=={version}" for name, version in sorted(closure(top_level()).items())]
    path.write_text(HEADER + "\n".join(lines + elsewhere) + "\n")


if __name__ == "__main__":
    main()
