"""What this machine can run, and what is missing for the rest: `dallrec doctor`.

Looks only at this machine: no download, no call to a model hub.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from dallrec_core.chain.pages import PAGES
from dallrec_core.chain.parameters import resolve
from dallrec_core.chain.places import book_root, runs_dir
from dallrec_core.chain.profiles import Profile, profiles
from dallrec_core.data import books
from dallrec_core.data.download import ORIGINS, is_here
from dallrec_core.errors import UserError

GIB = 2**30
_SUPPORTED = ((3, 11), (3, 13))


def examine() -> Iterator[str]:
    """Yield the report line by line: machine, packages, GPU, data, profiles."""
    yield from _machine()
    yield from _packages()
    yield _gpu()
    yield from _data()
    yield from _profiles()


def _line(what: str, found: str, problem: str = "") -> str:
    return f"{'!!' if problem else 'ok'}  {what:<14} {found}{f' - {problem}' if problem else ''}"


def _machine() -> Iterator[str]:
    low, high = _SUPPORTED
    fits = low <= sys.version_info[:2] <= high
    yield _line("Python", platform.python_version(), "" if fits else "3.11, 3.12 or 3.13 is needed")
    memory = _memory_gib()
    yield _line("cores", f"{os.cpu_count()} ({platform.system()}, {platform.machine()})")
    yield _line("memory", f"{memory:.0f} GiB", "" if memory > 7 else "8 GiB are needed")
    yield _line("disk", f"{_disk_gib():.0f} GiB free at {_existing(runs_dir())}")


def _memory_gib() -> float:
    return float(psutil.virtual_memory().total / GIB)


def _disk_gib() -> float:
    return shutil.disk_usage(_existing(runs_dir())).free / GIB


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _packages() -> Iterator[str]:
    wanted = locked(book_root() / "requirements.lock")
    differing = []
    for name, version in wanted.items():
        try:
            found = metadata.version(name).split("+")[0]
        except metadata.PackageNotFoundError:
            found = "absent"
        if found != version:
            differing.append(f"{name} is {found}, locked {version}")
    more = f" and {len(differing) - 5} more" if len(differing) > 5 else ""
    problem = "; ".join(differing[:5]) + more
    yield _line("packages", f"{len(wanted)} pinned in requirements.lock", problem)


def locked(path: Path) -> dict[str, str]:
    """Return the versions that a lock file pins for every platform, by distribution name.

    Raises:
        UserError: when the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    pins = [re.fullmatch(r"([A-Za-z0-9._-]+)==(\S+)", line) for line in lines]
    return {pin[1]: pin[2] for pin in pins if pin}


def _gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        return _line("GPU", "none for torch: everything runs on the CPU")
    name, bf16 = torch.cuda.get_device_name(), torch.cuda.is_bf16_supported()
    four_bit = "with" if _has("bitsandbytes") else "without"
    kind = "bfloat16" if bf16 else "float16"
    return _line("GPU", f"{name}, {_gpu_gib():.0f} GiB, {kind}, {four_bit} bitsandbytes")


def _gpu_gib() -> float:
    import torch

    if not torch.cuda.is_available():
        return 0.0
    return float(torch.cuda.get_device_properties(0).total_memory / GIB)


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _data() -> Iterator[str]:
    for name in ("ml-100k", "ml-1m", "book-crossing", "published", "published-book"):
        place = ORIGINS[name].place
        absent = "fetched when first used"
        if name == "book-crossing":  # the one publisher whose server does not answer everywhere
            absent = f"absent; if its server does not answer, put BX-*.csv into {place}"
        yield _line(name, f"in {place}" if is_here(name) else absent)


def _profiles() -> Iterator[str]:
    for profile in profiles():
        lacks, fetches = lacking(profile), downloads(profile)
        state = f"lacks {'; '.join(lacks)}" if lacks else "can run here"
        state += f" (downloads {', '.join(fetches)} first)" if fetches else ""
        yield f"{'--' if lacks else 'ok'}  profile {profile.name}: {state}"
        yield f"      {profile.description} {profile.hardware}"


def lacking(profile: Profile) -> list[str]:
    """Return what this machine lacks for a profile, in words; nothing when it can run."""
    have = {"memory_gib": _memory_gib(), "disk_gib": _disk_gib(), "gpu_gib": _gpu_gib()}
    words = {"memory_gib": "GiB of memory", "disk_gib": "GiB of free disk", "gpu_gib": "GiB GPU"}
    # Machines sold as 8 or 16 GiB report a little less.
    lacks = [
        f"{need:g} {words[what]} (here {have[what]:.0f})"
        for what, need in profile.needs.items()
        if have[what] < 0.9 * need
    ]
    if _chosen(profile).get("quantize") == "4bit" and not _has("bitsandbytes"):
        lacks.append("bitsandbytes (pip install 'dallrec-core[gpu]')")
    return lacks


def downloads(profile: Profile) -> list[str]:
    """Return what a profile fetches from the network because it is not here yet."""
    from huggingface_hub import try_to_load_from_cache

    chosen = _chosen(profile)
    dataset, model = chosen["dataset"], chosen["language_model"]
    wanted = [] if is_here(dataset) else [f"the data of {dataset}"]
    if dataset == "published-book" and not chosen["keep_untitled"] and not books.has_catalogue():
        wanted.append(f"the titles of its books ({books.BOOKS})")
    known = model == "standin" or Path(model).exists()
    if not known and not isinstance(try_to_load_from_cache(model, "config.json"), str):
        wanted.append(f"the model {model}")
    return wanted


def _chosen(profile: Profile) -> dict[str, Any]:
    """Return the parameters of the data and fine-tuning stages under a profile."""
    first, second = PAGES[:2]
    return {**resolve(first, profile.parameters), **resolve(second, profile.parameters)}
