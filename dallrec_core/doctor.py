"""What this machine can run, and what is missing for the rest: `dallrec doctor`.

Looks only at this machine: no download, no call to a model hub.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator, Mapping

import psutil
import torch

from dallrec_core.chain.pages import data_dir, runs_dir
from dallrec_core.chain.parameters import Profile, profiles
from dallrec_core.data.download import ORIGINS, is_here

GIB = 2**30
KINDS = {"memory_gib": "memory", "disk_gib": "free disk", "gpu_gib": "GPU memory"}
"""What a profile may need, in words."""


def examine() -> Iterator[str]:
    """Yield the report line by line: machine, data, profiles."""
    here = resources()
    gpu = torch.cuda.get_device_name() if here["gpu_gib"] else "no GPU that torch sees"
    sizes = ", ".join(f"{here[kind]:.0f} {words}" for kind, words in KINDS.items())
    yield f"Python    {platform.python_version()} on {platform.system()} {platform.machine()}"
    yield f"machine   {os.cpu_count()} cores, {gpu}; GiB: {sizes}"
    names = [name for name in ORIGINS if is_here(name)]
    yield f"data      {data_dir()} holds {', '.join(names) or 'nothing yet'}"
    for profile in profiles():
        lacks = lacking(profile, here)
        state = f"lacks {'; '.join(lacks)}" if lacks else "can run here"
        yield f"profile   {profile.name}: {state}"
        yield f"          {profile.description} {profile.hardware}"


def resources() -> dict[str, float]:
    """Return how much this machine has of what profiles may need, in GiB."""
    folder = next(each for each in (runs_dir(), *runs_dir().parents) if each.exists())
    gpu = torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0
    sizes = psutil.virtual_memory().total, shutil.disk_usage(folder).free, gpu
    return {kind: size / GIB for kind, size in zip(KINDS, sizes, strict=True)}


def lacking(profile: Profile, here: Mapping[str, float]) -> list[str]:
    """Return what a machine with so many GiB lacks for a profile, in words."""
    # Machines sold as 8 or 16 GiB report a little less.
    return [
        f"{need:g} GiB of {KINDS[kind]} (here {here[kind]:.0f})"
        for kind, need in profile.needs.items()
        if here[kind] < 0.9 * need
    ]
