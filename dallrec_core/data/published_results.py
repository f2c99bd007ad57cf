"""What the authors of DALLRec printed and logged: numbers of theirs, kept as data, none of ours.

The two files beside this module say where each number stands.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

METRICS = ("R@10", "R@20", "R@50", "N@10", "N@20", "N@50", "P@20")
"""Columns of the printed table: recall, nDCG, precision."""

_HALF = 0.00005  # a value printed with four decimals may be this far from the one it stands for
_LAST = 0.01  # of a percentage with two decimals, rounded or truncated


def printed_table() -> pd.DataFrame:
    """Return the printed results, columns `METRICS`, by (backbone, variant).

    Variants are base, dallrec, and improve, the printed gain in per cent.
    """
    return _read("published_table.csv").set_index(["backbone", "variant"])


def training_logs() -> pd.DataFrame:
    """Return the last line of each released training log of MMSSL, by the time of the log.

    Columns label ("or" for the original data, "aug" for augmented ones), longest, and `METRICS`.
    """
    return _read("published_logs.csv").set_index("log")


def _read(name: str) -> pd.DataFrame:
    return pd.read_csv(Path(__file__).with_name(name), comment="#")


def improvements() -> pd.DataFrame:
    """Return each printed gain beside the one that follows from the two values above it.

    Returns:
        One row per backbone and metric: printed and recomputed (per cent), low and high (what
        values that round to the printed ones allow), follows (whether the printed gain lies there).
    """
    table = printed_table()
    base, ours, said = (
        table.xs(variant, level="variant").stack() for variant in ("base", "dallrec", "improve")
    )
    found = pd.DataFrame(
        {
            "printed": said,
            "recomputed": 100 * (ours / base - 1),
            "low": 100 * ((ours - _HALF) / (base + _HALF) - 1),
            "high": 100 * ((ours + _HALF) / (base - _HALF) - 1),
        }
    )
    found["follows"] = np.asarray(
        (found["printed"] > found["low"] - _LAST) & (found["printed"] < found["high"] + _LAST)
    )
    return found.rename_axis(["backbone", "metric"]).reset_index()
