"""The book's figures in one style: colour-blind-safe, legible on a phone and on a dark page.

Every function takes plain tables, returns a closed `Figure` (so that a notebook shows it once, as
the value of its cell), and leaves numbers to the caller: nothing is computed here beyond what a
drawing needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib_inline.backend_inline import set_matplotlib_formats

from dallrec_core.data.base import plural

COLOURS = {
    "base": "#5b6470", "dallrec": "#0072b2", "interactions": "#56b4e9", "attributes": "#009e73",
    "summaries": "#cc79a7", "zero_shot": "#b07aa1", "given_text": "#9c9ede", "oracle": "#444444",
    "random": "#e69f00", "popular": "#8c564b", "self": "#7b4fb5", "text_knn": "#2f7d7e",
    "true_attributes": "#5b8f3a", "liked_only": "#a6611a", "liked_dallrec": "#08519c",
    "liked_counting": "#00441b", "coin": "#c98bdb", "counting": "#1b7a5a",
    "counting_written": "#66a61e", "shuffled": "#d55e00", "constant": "#8a6d1a", "noise": "#000000",
    "llm": "#0072b2", "knn": "#d55e00", "good": "#009e73", "bad": "#d55e00", "light": "#c9ced6",
}  # fmt: skip
"""Okabe-Ito colours by meaning; the same arm has the same colour on every page."""

_WIDTH = 7.0
_LINES = (("dallrec", "o"), ("random", "s"), ("attributes", "^"), ("summaries", "D"), ("bad", "v"))
"""Colours and markers of lines that stand for no arm, in order."""


def use_style() -> None:
    """Set the book's look for this session: white card, large type, twofold resolution."""
    look: dict[str, Any] = {
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


def _canvas(columns: int = 1, height: float = 3.6) -> tuple[Figure, list[Axes]]:
    """Return a figure of the page's width and its panels, side by side; the height in inches."""
    figure, axes = plt.subplots(1, columns, figsize=(_WIDTH, height), squeeze=False)
    plt.close(figure)  # so that a notebook shows it once, as the value of its cell
    return figure, list(axes[0])


def _legend_above(ax: Axes, columns: int, place: float = 0.5, **options: Any) -> None:
    ax.legend(loc="lower center", bbox_to_anchor=(place, 1.0), ncols=columns, **options)


def _intervals(
    ax: Axes, x: Any, table: pd.DataFrame, names: Sequence[str], look: Sequence[str], **options: Any
) -> None:
    """Draw values over `x` with their intervals: `names` are the columns of value, low and high."""
    (value, *ends), (colour, marker) = names, look
    reach = table[ends].sub(table[value], axis=0).abs().to_numpy().T
    style: dict[str, Any] = {"markersize": 7, "elinewidth": 1.2, "linewidth": 1.6} | options
    ax.errorbar(x, table[value], reach, color=COLOURS[colour], marker=marker, **style)


# ---------------------------------------------------------------- pages 1 to 5


def long_tail(train: pd.DataFrame, n_users: int, n_items: int, noun: str = "item") -> Figure:
    """Draw interactions per item and per user, most active first (train `[E]` rows)."""
    figure, axes = _canvas(2, 3.2)
    sides = (("item", n_items, plural(noun)), ("user", n_users, "users"))
    for ax, (column, size, label) in zip(axes, sides, strict=True):
        counts = np.sort(np.bincount(train[column], minlength=size))[::-1]
        ax.fill_between(np.arange(size), counts, color=COLOURS["dallrec"], alpha=0.85, linewidth=0)
        ax.set(xlabel=f"{label}, most active first", ylabel="training interactions", ylim=(0, None))
        ax.margins(x=0.01)
    return figure


def loss_curves(log: pd.DataFrame) -> Figure:
    """Draw training and held-out loss over steps, one panel per task (schema `training_log`)."""
    tasks = list(dict.fromkeys(log["task"])) or ["no adapter was trained"]
    figure, axes = _canvas(len(tasks), 3.2)
    lines = (("loss", "training", "light"), ("eval_loss", "held out", "dallrec"))
    for ax, task in zip(axes, tasks, strict=True):
        for column, label, colour in lines:
            seen = log[log["task"] == task].dropna(subset=[column])
            ax.plot(seen["step"], seen[column], label=label, color=COLOURS[colour], linewidth=2.2)
        ax.set(title=task, xlabel="step", ylim=(0, None))
    axes[0].set_ylabel("loss per answer token")
    axes[-1].legend()
    return figure


def learning_curve(table: pd.DataFrame, marks: Mapping[str, float]) -> Figure:
    """Draw how well yes and no are told apart after how many examples.

    Args:
        table: columns examples (0 for the untuned model) and auc, and low and high where intervals
            are known.
        marks: AUC of what the curve is compared with, by name; drawn as dashed lines.
    """
    figure, (ax,) = _canvas(1, 3.4)
    places = np.arange(len(table))  # sizes are chosen by doubling, so equal steps are a log scale
    ax.plot(places, table["auc"], color=COLOURS["dallrec"], marker="o", markersize=9, linewidth=2.2)
    if "low" in table:
        _intervals(ax, places, table, ("auc", "low", "high"), ("dallrec", "o"))
    # names stand at the end where the curve is farther from all of them
    gap = [min((abs(end - each) for each in marks.values()), default=0) for end in table["auc"]]
    at, side = (0.01, "left") if gap[0] > gap[-1] else (1.0, "right")
    for name, value in marks.items():
        ax.axhline(value, color=COLOURS["base"], linestyle="--", linewidth=1.3)
        ax.annotate(name, (at, value), xycoords=("axes fraction", "data"), ha=side, va="bottom")
    ax.set_xticks(places, [f"{n:,}" for n in table["examples"]])
    ax.set(xlabel="examples", ylabel="AUC on held-out pairs", ylim=(0.4, 1.02))
    return figure


def before_after(table: pd.DataFrame) -> Figure:
    """Draw one line per measure from the untuned to the tuned model.

    Args:
        table: columns measure, before, after, and optionally chance (a tick to compare with).
    """
    figure, (ax,) = _canvas(1, 0.9 + 0.6 * len(table))
    rows = np.arange(len(table))[::-1]
    ax.hlines(rows, table["before"], table["after"], color=COLOURS["light"], linewidth=4)
    for when, colour in (("before", "base"), ("after", "dallrec")):
        ax.scatter(table[when], rows, s=90, color=COLOURS[colour], label=f"{when} LoRA", zorder=3)
    if "chance" in table:
        ax.scatter(table["chance"], rows, s=160, marker="|", color="black", label="chance")
    ax.set_yticks(rows, table["measure"])
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.6, len(table) - 0.4))
    _legend_above(ax, 3, 0.4)
    return figure


def reliability(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the share really liked over p(yes), by kind of p(yes), with 95 % intervals.

    Args:
        tables: by label (first what the model said, then what it was mapped to), columns said,
            liked, from, to, n of each bin.
    """
    figure, (ax,) = _canvas(1, 4.0)
    ax.plot([0, 1], [0, 1], color=COLOURS["light"], linestyle="--", linewidth=2, zorder=1)
    looks = (("base", "o"), ("dallrec", "s"))
    for (label, table), look in zip(tables.items(), looks, strict=False):
        _intervals(ax, table["said"], table, ("liked", "from", "to"), look, label=label)
    ax.set(xlabel="p(yes)", ylabel="share really liked", xlim=(0, 1), ylim=(0, 1))
    _legend_above(ax, 2)
    return figure


def edge_map(train: pd.DataFrame, added: pd.DataFrame, n_users: int, n_items: int) -> Figure:
    """Draw training interactions and added ones on a user x item map, both sorted by activity."""
    figure, (ax,) = _canvas(1, 4.4)
    rank = {}
    for column, size in (("user", n_users), ("item", n_items)):
        degree = np.bincount(train[column], minlength=size)
        rank[column] = np.argsort(np.argsort(-degree, kind="stable"))
    dots = ((train, "observed", "light", 2), (added, "written by the model", "dallrec", 5))
    for frame, label, colour, size in dots:
        place = rank["item"][frame["item"]], rank["user"][frame["user"]]
        ax.scatter(*place, s=size, color=COLOURS[colour], label=label, lw=0, rasterized=True)
    ax.set(xlabel="items, most popular first", ylabel="users, most active first")
    ax.invert_yaxis()
    ax.grid(False)
    _legend_above(ax, 2, markerscale=3)
    return figure


def bars(table: pd.DataFrame, label: str, series: Sequence[str], ylabel: str) -> Figure:
    """Draw grouped bars: one group per row of `table[label]`, one bar per column in `series`."""
    figure, (ax,) = _canvas()
    long = table.melt(label, list(series), var_name="of", value_name="height")
    palette = [COLOURS[name] for name in ("base", "dallrec", "random", "good")[: len(series)]]
    sns.barplot(long, x=label, y="height", hue="of", palette=palette, saturation=1, ax=ax)
    ax.set(xlabel="", ylabel=ylabel)
    ax.grid(axis="x", visible=False)
    if len(table):
        _legend_above(ax, len(series))
    return figure


def histogram(
    groups: Mapping[str, Sequence[float]], xlabel: str, ylabel: str, threshold: float | None = None
) -> Figure:
    """Draw how values are spread, those of each group (by label, `[n]` each) in its own colour."""
    figure, (ax,) = _canvas(1, 3.2)
    every = np.concatenate(list(groups.values()))
    edges: list[float] = np.histogram_bin_edges(every, "auto").tolist()
    if (every == every.round()).all():  # counts: a bar for each number
        edges = (np.arange(every.max(initial=0) + 2) - 0.5).tolist()
    for (label, values), name in zip(groups.items(), ("dallrec", "random"), strict=False):
        ax.hist(values, edges, label=label, color=COLOURS[name], alpha=0.6)
    if threshold is not None:
        ax.axvline(threshold, color="black", linestyle="--", linewidth=1.5, label="threshold")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend()
    return figure


# ---------------------------------------------------------------- pages 6 and 7


def over_epochs(
    curves: pd.DataFrame, marks: Mapping[str, Mapping[str, float]], ylabel: str
) -> Figure:
    """Draw a quality over epochs, one panel per backbone, a line per seed, and what to reach.

    Args:
        curves: columns backbone, seed, epoch, value.
        marks: by backbone, at most two values by name; drawn as dashed and dotted lines.
        ylabel: what the values are.
    """
    figure, axes = _canvas(curves["backbone"].nunique(), 3.2)
    for ax, (name, runs) in zip(axes, curves.groupby("backbone", sort=False), strict=True):
        for _, run in runs.groupby("seed"):
            ax.plot(run["epoch"], run["value"], color=COLOURS["dallrec"], marker="o", markersize=5)
        to_reach = marks.get(str(name), {}).items()
        for (label, value), style in zip(to_reach, ("--", ":"), strict=False):
            ax.axhline(value, color=COLOURS["base"], linestyle=style, linewidth=1.8, label=label)
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
    figure, (ax,) = _canvas(1, 2.8)
    for (arm, _), run in runs.groupby(["arm", "seed"], sort=False):
        look = _line(str(arm))
        ax.plot(run["epoch"], run["value"], alpha=0.8, linewidth=1.6, **look)
        best = run.loc[run["value"].idxmax()]
        ax.scatter(best["epoch"], best["value"], s=34, color=look["color"], zorder=3)
    ax.set(title=backbone, xlabel="epoch", ylabel="validation nDCG@20", xlim=(0, None))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles = [Line2D([], [], label=arm, **_line(arm)) for arm in runs["arm"].unique()]
    ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _line(arm: str) -> dict[str, Any]:
    from dallrec_core.experiment.arms import CONTROLS  # loads torch, and other figures do without

    # dashed, for eyes that see no colours
    return {"color": COLOURS.get(arm, "black"), "linestyle": "--" if arm in CONTROLS else "-"}


def forest(table: pd.DataFrame) -> Figure:
    """Draw differences with their 95 % intervals: a panel per metric, a row per pair compared.

    Args:
        table: columns metric, backbone, arm, over (the arm it is compared with), difference, low,
            high (absolute units of the metric). A row tells the arm, or if all rows are about one
            arm, what it is compared with.
    """
    told, sign = ("over", " over ") if table["arm"].nunique() <= 1 else ("arm", " · ")
    rows = table[["backbone", told]].drop_duplicates()
    rows = rows.sort_values("backbone", key=lambda key: pd.factorize(key)[0], kind="stable")
    place = {pair: -number for number, pair in enumerate(rows.itertuples(index=False, name=None))}
    metrics = table["metric"].unique()
    figure, axes = _canvas(max(1, len(metrics)), 1.1 + 0.34 * len(rows))
    for ax, metric in zip(axes, metrics, strict=False):
        for _, line in table[table["metric"] == metric].iterrows():
            own = place[line["backbone"], line[told]]
            colour = COLOURS.get(line["arm"] if line["over"] == "base" else line["over"], "black")
            mark = {"base": "o", "zero_shot": "D"}.get(line["over"], "s")
            ax.plot([line["low"], line["high"]], [own, own], color=colour, linewidth=3)
            ax.scatter(line["difference"], own, color=colour, s=70, marker=mark, zorder=3)
        ax.axvline(0, color="black", linewidth=1)
        ax.set(ylim=(0.6 - len(rows), 0.6), yticks=[])
        ax.set_title(metric, fontsize=11)
        ax.tick_params(axis="x", labelsize=10)
        ax.xaxis.set_major_locator(MaxNLocator(3))
    figure.supxlabel("difference (95 % interval)", fontsize=12)
    axes[0].set_yticks(list(place.values()), [sign.join(pair) for pair in place])
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
    figure, axes = _canvas(table[panel].nunique(), 3.6)
    words = table[x].dtype.kind not in "iuf"
    for ax, (title, part) in zip(axes, table.groupby(panel, sort=False), strict=True):
        ax.axhline(0, color="black", linewidth=1)
        lines = list(part.groupby(by, sort=False)) if by else [(None, part)]
        for (name, line), look in zip(lines, _LINES, strict=False):
            places = np.arange(len(line)) if words else line[x].to_numpy(float)
            columns, width = ("difference", "low", "high"), 0 if words else 1.6
            _intervals(ax, places, line, columns, look, label=name, linewidth=width)
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
