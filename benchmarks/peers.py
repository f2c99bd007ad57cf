"""Other libraries on the same arrays, each in an environment of its own.

python -m venv DIR && DIR/bin/pip install implicit cornac      (and --peers DIR/bin/python)
python -m venv DIR2 && DIR2/bin/pip install "numpy<2" recbole   (it needs an older NumPy)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from benchmarks.peers_worker import MISSING, PEERS
from benchmarks.process import run, say


def measure(file: str, pythons: Sequence[str], cap_seconds: float = 240.0) -> dict[str, Any]:
    """Return the results of all peers that one of the interpreters has, {} without any.

    A peer that fails is left out with a note; the others still count.

    Args:
        file: from `data.prepare`.
        pythons: interpreters of environments with the libraries; the first that has one is used.
        cap_seconds: training CPU seconds of each peer at most.
    """
    results: dict[str, Any] = {}
    for name, (package, *_) in PEERS.items():
        job = json.dumps({"file": str(file), "name": name, "cap_seconds": cap_seconds})
        for python in pythons:
            result = run([python, "-m", "benchmarks.peers_worker", job])
            if not isinstance(result, int):
                results[name] = result
                break
            if result != MISSING:
                say(f"peers: {name} failed with exit status {result}")
        else:
            say(f"peers: {name} left out; no interpreter given with --peers can run {package}")
    return results
