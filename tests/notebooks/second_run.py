"""Where the two runs of the notebooks are."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIRST = ROOT / "runs"
"""Made by `dallrec run`."""

SECOND = ROOT / "build" / "second"
"""Made by nbval's kernels."""
