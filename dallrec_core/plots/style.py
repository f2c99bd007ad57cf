"""The one style of the book's figures: colours by meaning, and how a figure begins and ends."""

from __future__ import annotations

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib_inline.backend_inline import set_matplotlib_formats

COLOURS = {
    "base": "#5b6470",
    "dallrec": "#0072b2",
    "random": "#e69f00",
    "coin": "#c98bdb",
    "counting": "#1b7a5a",
    "counting_written": "#66a61e",
    "liked_only": "#a6611a",
    "interactions": "#56b4e9",
    "attributes": "#009e73",
    "summaries": "#cc79a7",
    "shuffled": "#d55e00",
    "constant": "#8a6d1a",
    "noise": "#000000",
    "popular": "#8c564b",
    "self": "#7b4fb5",
    "text_knn": "#2f7d7e",
    "zero_shot": "#b07aa1",
    "given_text": "#9c9ede",
    "oracle": "#444444",
    "true_attributes": "#5b8f3a",
    "llm": "#0072b2",
    "knn": "#d55e00",
    "good": "#009e73",
    "bad": "#d55e00",
    "light": "#c9ced6",
}
"""Okabe-Ito colours by meaning; the same arm has the same colour on every page."""

_WIDTH = 7.0


def use_style() -> None:
    """Set the book's look for this session: white card, large type, twofold resolution."""
    look = {
        "figure.facecolor": "white",
        "figure.constrained_layout.use": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#5b6470",
        "grid.color": "#e6e8ec",
        "font.size": 12,
        "axes.titlesize": 13,
        "legend.frameon": False,
    }
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind", rc=look)
    set_matplotlib_formats("retina")


def canvas(columns: int = 1, height: float = 3.6) -> tuple[Figure, list[Axes]]:
    """Return a figure of the page's width and its panels, side by side; the height in inches."""
    figure, axes = plt.subplots(1, columns, figsize=(_WIDTH, height), squeeze=False)
    plt.close(figure)  # so that a notebook shows it once, as the value of its cell
    return figure, list(axes[0])
