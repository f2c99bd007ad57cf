"""Where the two runs of the notebooks are, and what makes a further one quick."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIRST = ROOT / "runs"
"""Made by `dallrec run`."""

SECOND = ROOT / "build" / "second"
"""Made by nbval's kernels."""

SMALL = {
    "06.backbones": "[MF-BPR, LightGCN]",
    "06.references": "[Popularity]",
    "06.arms": "[base, dallrec, self]",
    "06.seeds": 1,
    "06.epochs": 6,
    "06.jobs": 1,
    "07.jobs": 1,
    "07.trials": 1,
    "07.fractions": "[1.0]",
    "07.surest": "[0.5]",
    "07.caps": "[5]",
    "07.qualities": "[0.7]",
}
"""Parameters that make pages 6 and 7 quick, for tests that run them once more."""
