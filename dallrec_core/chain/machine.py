"""What this process computes on, and how much memory it has used."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def peak_mib() -> float:
    """Return the largest resident memory of this process so far, in MiB.

    On Linux `ru_maxrss` starts at the peak of the process that started this one, so every small
    child of a large parent looks large; the kernel's own status has no such inheritance.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def device() -> str:
    """Return the device that torch computes on here: the GPU's name, or "cpu"."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return "cpu"
