"""Figures of what came out: training curves, gains and their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from dallrec_core.plots.style import COLOURS, canvas


def over_epochs(
    curves: pd.DataFrame, marks: Mapping[str, Mapping[str, float]], ylabel: str
) -> Figure:
    """Draw a quality over epochs, one panel per backbone, a line per seed, and what to reach.

    Args:
        curves: columns backbone, seed, epoch, value.
        marks: by backbone, at most two values by name; drawn as dashed and dotted lines.
        ylabel: what the values are.
    """
    names = list(dict.fromkeys(curves["backbone"]))
    figure, axes = canvas(len(names), 3.2)
    for ax, name in zip(axes, names, strict=True):
        for _, run in curves[curves["backbone"] == name].groupby("seed"):
            ax.plot(run["epoch"], run["value"], color=COLOURS["dallrec"], marker="o", markersize=5)
        for (label, value), style in zip(marks.get(name, {}).items(), ("--", ":"), strict=False):
            ax.axhline(value, color=COLOURS["base"], linestyle=style, linewidth=1.8, label=label)
        if marks.get(name):
            ax.legend(loc="lower right", fontsize=10)
        ax.set(title=name, xlabel="epoch", ylim=(0, None))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set_ylabel(ylabel)
    return figure


def training_curve(curves: pd.DataFrame, backbone: str) -> Figure | None:
    """Draw one backbone's validation quality over epochs, a dot where its weights were kept.

    Prints a line and returns None where the backbone was not trained, so that a page which shows
    one figure per backbone can be run with any choice of them.

    Args:
        curves: columns backbone, arm, seed, epoch, value.
        backbone: whose runs to draw.
    """
    runs = curves[curves["backbone"] == backbone]
    if runs.empty:
        print(f"{backbone} was not trained in this run: add it to the parameter backbones.")
        return None
    figure, (ax,) = canvas(1, 2.8)
    for (arm, _), run in runs.groupby(["arm", "seed"], sort=False):
        look = _line(str(arm))
        ax.plot(run["epoch"], run["value"], alpha=0.8, linewidth=1.6, **look)
        best = run.loc[run["value"].idxmax()]
        ax.scatter(best["epoch"], best["value"], s=34, color=look["color"], zorder=3)
    ax.set(title=backbone, xlabel="epoch", ylabel="validation nDCG@20", xlim=(0, None))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    arms = dict.fromkeys(str(arm) for arm in runs["arm"])
    handles = [Line2D([], [], label=arm, **_line(arm)) for arm in arms]
    ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _line(arm: str) -> dict[str, Any]:
    from dallrec_core.experiment.arms import CONTROLS  # loads torch, and other figures do without

    # dashed, for eyes that see no colours
    style = "--" if arm in CONTROLS else "-"
    return {"color": COLOURS.get(arm, "black"), "linestyle": style}


def forest(table: pd.DataFrame) -> Figure:
    """Draw gains with their 95 % intervals, one row per backbone and arm.

    Args:
        table: columns backbone, arm, difference, low, high (absolute units of the metric).
    """
    figure, (ax,) = canvas(1, 1.1 + 0.34 * len(table))
    rows = np.arange(len(table))[::-1]
    for row, line in zip(rows, table.itertuples(index=False), strict=True):
        colour = COLOURS.get(line.arm, "black")
        ax.plot([line.low, line.high], [row, row], color=colour, linewidth=3)
        ax.scatter([line.difference], [row], color=colour, s=70, zorder=3)
    ax.axvline(0, color="black", linewidth=1)
    ax.set_yticks(rows, [f"{line.backbone} · {line.arm}" for line in table.itertuples()])
    ax.set(xlabel="difference from the base arm (95 % interval)", ylim=(-0.6, len(table) - 0.4))
    return figure


def headline(table: pd.DataFrame) -> Figure:
    """Draw gains with their 95 % intervals: a panel per metric, a line per backbone and rival.

    Args:
        table: columns metric, backbone, over ("base" or a control's name), difference, low, high
            (absolute units of the metric).
    """
    rows = table[["backbone", "over"]].drop_duplicates()
    rows = rows.sort_values("backbone", key=lambda key: pd.factorize(key)[0], kind="stable")
    place = {pair: -number for number, pair in enumerate(rows.itertuples(index=False, name=None))}
    metrics = list(dict.fromkeys(table["metric"]))
    figure, axes = canvas(max(1, len(metrics)), 1.1 + 0.34 * len(rows))
    for ax, metric in zip(axes, metrics, strict=False):
        for line in table[table["metric"] == metric].itertuples(index=False):
            own, base = place[line.backbone, line.over], line.over == "base"
            colour = COLOURS["dallrec" if base else line.over]
            ax.plot([line.low, line.high], [own, own], color=colour, linewidth=3)
            ax.scatter(
                line.difference, own, color=colour, s=70, marker="o" if base else "s", zorder=3
            )
        ax.axvline(0, color="black", linewidth=1)
        ax.set(title=metric, xlabel="difference (95 % interval)", ylim=(0.6 - len(rows), 0.6))
        ax.set_yticks([])
        ax.xaxis.set_major_locator(MaxNLocator(4))
    axes[0].set_yticks(list(place.values()), [f"{name} over {over}" for name, over in place])
    return figure


def gains(
    table: pd.DataFrame, panel: str, x: str, xlabel: str, *, by: str = "", log: bool = False
) -> Figure | None:
    """Draw gains with their 95 % intervals over x, one panel per value of a column.

    Returns None where the table is empty.

    Args:
        table: columns difference, low, high, and those named below.
        panel: column whose values are the panels' titles.
        x: column of numbers or, drawn in the order of the rows and on one scale, words.
        xlabel: what x is.
        by: column whose values are lines of their own; empty for one line.
        log: whether equal steps on x are equal factors; each value is then written below it.
    """
    if table.empty:
        return None
    figure, axes = canvas(table[panel].nunique(), 3.6)
    words = table[x].dtype.kind not in "iuf"
    for ax, (title, part) in zip(axes, table.groupby(panel, sort=False), strict=True):
        ax.axhline(0, color="black", linewidth=1)
        lines = list(part.groupby(by, sort=False)) if by else [("", part)]
        for (name, line), (colour, marker) in zip(lines, _LINES, strict=False):
            places = np.arange(len(line)) if words else line[x].to_numpy(float)
            reach = np.abs(line[["low", "high"]].sub(line["difference"], axis=0)).to_numpy().T
            ax.errorbar(
                places, line["difference"], yerr=reach, label=name or None, color=COLOURS[colour],
                marker=marker, markersize=7, linewidth=0 if words else 1.6, elinewidth=1.2,
            )  # fmt: skip
            if words:
                ax.set_xticks(places, line[x], rotation=60, ha="right", fontsize=10)
                # where nothing differs, an axis still needs a height
                low, high = min(-1e-4, table["low"].min()), max(1e-4, table["high"].max())
                ax.set_ylim(1.05 * low, 1.05 * high)
                ax.margins(x=0.15 / len(line) + 0.04)
        ax.set(title=title, xlabel=xlabel)
        if log:
            ax.set_xscale("log")
            ax.minorticks_off()
            ax.set_xticks(places, [f"{place:g}" for place in places])
    axes[0].set_ylabel("difference from base")
    if by:
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=min(len(names), 3))
    return figure


_LINES = (("dallrec", "o"), ("random", "s"), ("attributes", "^"), ("summaries", "D"), ("bad", "v"))
