"""One measurement, one process: its memory is its own, and it has one thread.

`call("backbones:measure", name="MF-BPR", …)` runs `benchmarks.backbones.measure(name="MF-BPR", …)`
in a fresh Python and returns what it returned. Arguments and results travel as JSON.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {"THP_MEM_ALLOC_ENABLE": "1"} | {  # as `dallrec_core` sets it, for the peers too
    f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "BLIS")
}


def environment() -> dict[str, str]:
    """Return the environment of a measured process: this one's, with one thread everywhere."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return os.environ | SETTINGS | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def call(function: str, **arguments: Any) -> Any:
    """Return `function` ("module:name" in this package) of `arguments`, from a fresh process.

    Raises:
        RuntimeError: when the process fails; what it had to say is on stderr.
    """
    command = [sys.executable, "-m", "benchmarks.process", function, json.dumps(arguments)]
    result = run(command)
    if isinstance(result, int):
        raise RuntimeError(f"{function} of {arguments} ended with exit status {result}")
    return result


def run(command: Sequence[str]) -> Any:
    """Run a command that writes JSON to a file, whose path is added as its last argument.

    Returns:
        What is in the file; the exit status, an int, when that is not 0.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        status = subprocess.run([*command, str(path)], env=environment()).returncode
        return status or json.loads(path.read_text())


def peak_mib() -> float:
    """Return the largest resident memory of this process so far, in MiB.

    `ru_maxrss` will not do where there is a choice: on Linux it starts at the peak of the process
    that started this one, so every small child of a large parent looks large.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 2**10, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def plain(value: Any) -> Any:
    """Return `value` as JSON can hold it: NaN and infinity become null."""
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def say(*words: object) -> None:
    """Print a line of progress, apart from the results, at once."""
    print(*words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    module, name = sys.argv[1].split(":")
    answer = getattr(importlib.import_module(f"benchmarks.{module}"), name)(
        **json.loads(sys.argv[2])
    )
    Path(sys.argv[3]).write_text(json.dumps(plain(answer)))
