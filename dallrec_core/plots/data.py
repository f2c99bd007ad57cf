"""Figures of what goes in and what is written: pages 1 to 5 and the appendices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from dallrec_core.plots.style import COLOURS, canvas


def long_tail(train: pd.DataFrame, n_users: int, n_items: int, noun: str = "item") -> Figure:
    """Draw interactions per item and per user, most active first (train `[E]` rows)."""
    figure, axes = canvas(2, 3.2)
    for ax, column, size, label in zip(
        axes, ("item", "user"), (n_items, n_users), (f"{noun}s", "users"), strict=True
    ):
        counts = np.sort(np.bincount(train[column], minlength=size))[::-1]
        ax.fill_between(np.arange(size), counts, color=COLOURS["dallrec"], alpha=0.85, linewidth=0)
        ax.set(xlabel=f"{label}, most active first", ylabel="training interactions", ylim=(0, None))
        ax.margins(x=0.01)
    return figure


def loss_curves(log: pd.DataFrame) -> Figure:
    """Draw training and held-out loss over steps, one panel per task (schema `training_log`)."""
    tasks = list(dict.fromkeys(log["task"])) or ["no adapter was trained"]
    figure, axes = canvas(len(tasks), 3.2)
    for ax, task in zip(axes, tasks, strict=True):
        rows = log[log["task"] == task]
        for column, label, colour in (
            ("loss", "training", COLOURS["light"]),
            ("eval_loss", "held out", COLOURS["dallrec"]),
        ):
            seen = rows.dropna(subset=[column])
            ax.plot(seen["step"], seen[column], label=label, color=colour, linewidth=2.2)
        ax.set(title=task, xlabel="step", ylim=(0, None))
    axes[0].set_ylabel("loss per answer token")
    axes[-1].legend()
    return figure


def learning_curve(table: pd.DataFrame, marks: Mapping[str, float]) -> Figure:
    """Draw how well yes and no are told apart after how many examples.

    Args:
        table: columns examples (0 for the untuned model) and auc.
        marks: AUC of what the curve is compared with, by name; drawn as dashed lines.
    """
    figure, (ax,) = canvas(1, 3.4)
    places = np.arange(len(table))  # sizes are chosen by doubling, so equal steps are a log scale
    ax.plot(places, table["auc"], color=COLOURS["dallrec"], marker="o", markersize=9, linewidth=2.2)
    for name, value in marks.items():
        ax.axhline(value, color=COLOURS["base"], linestyle="--", linewidth=1.3)
        ax.annotate(name, (1.0, value), xycoords=("axes fraction", "data"), ha="right", va="bottom")
    ax.set_xticks(places, [f"{n:,}" for n in table["examples"]])
    ax.set(xlabel="examples", ylabel="AUC on held-out pairs", ylim=(0.4, 1.02))
    return figure


def before_after(table: pd.DataFrame) -> Figure:
    """Draw one line per measure from the untuned to the tuned model.

    Args:
        table: columns measure, before, after, and optionally chance (a tick to compare with).
    """
    figure, (ax,) = canvas(1, 0.9 + 0.6 * len(table))
    rows = np.arange(len(table))[::-1]
    ax.hlines(rows, table["before"], table["after"], color=COLOURS["light"], linewidth=4)
    ax.scatter(table["before"], rows, s=90, color=COLOURS["base"], label="before LoRA", zorder=3)
    ax.scatter(table["after"], rows, s=90, color=COLOURS["dallrec"], label="after LoRA", zorder=3)
    if "chance" in table:
        ax.scatter(table["chance"], rows, s=160, marker="|", color="black", label="chance")
    ax.set_yticks(rows, table["measure"])
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.6, len(table) - 0.4))
    ax.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=3)
    return figure


def answer_histogram(p_yes: Sequence[float], liked: Sequence[bool], threshold: float) -> Figure:
    """Draw how p(yes) falls on pairs that were really liked and really disliked (both `[n]`)."""
    figure, (ax,) = canvas()
    frame = pd.DataFrame({"p": p_yes, "really": np.where(liked, "liked", "disliked")})
    colours = {"liked": COLOURS["dallrec"], "disliked": COLOURS["random"]}
    sns.histplot(frame, x="p", hue="really", palette=colours, bins=25, binrange=(0, 1), ax=ax)
    ax.axvline(threshold, color="black", linestyle="--", linewidth=1.5)
    ax.annotate(
        "threshold", (threshold, 0.98), xycoords=("data", "axes fraction"), rotation=90, va="top"
    )
    ax.set(xlabel="p(yes)", ylabel="held-out pairs")
    sns.move_legend(ax, "upper right", title="")
    return figure


def reliability(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the share really liked over p(yes), by kind of p(yes), with 95 % intervals.

    Args:
        tables: by label (first what the model said, then what it was mapped to), columns said,
            liked, from, to, n of each bin.
    """
    figure, (ax,) = canvas(1, 4.0)
    ax.plot([0, 1], [0, 1], color=COLOURS["light"], linestyle="--", linewidth=2, zorder=1)
    looks = zip(("base", "dallrec"), ("o", "s"), strict=True)
    for (label, table), (colour, marker) in zip(tables.items(), looks, strict=False):
        said, liked = table["said"], table["liked"]
        reach = np.abs(table[["from", "to"]].sub(liked, axis=0)).to_numpy().T
        ax.errorbar(
            said, liked, yerr=reach, label=label, color=COLOURS[colour], marker=marker,
            markersize=8, linewidth=1.6, elinewidth=1.2,
        )  # fmt: skip
    ax.set(xlabel="p(yes)", ylabel="share really liked", xlim=(0, 1), ylim=(0, 1))
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure


def histogram(values: Sequence[float], xlabel: str, ylabel: str) -> Figure:
    """Draw how often each value occurs (`[n]` numbers)."""
    figure, (ax,) = canvas(1, 3.0)
    sns.histplot(np.asarray(values), discrete=True, color=COLOURS["dallrec"], ax=ax)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.grid(axis="x", visible=False)
    return figure


def spread(groups: Mapping[str, Sequence[float]], xlabel: str, ylabel: str) -> Figure:
    """Draw how shares between 0 and 1 are spread, one outline per group (by label, `[n]` each)."""
    figure, (ax,) = canvas(1, 3.2)
    for (label, values), name in zip(groups.items(), ("dallrec", "random", "base"), strict=False):
        ax.hist(values, bins=40, range=(0, 1), label=label, color=COLOURS[name], alpha=0.6)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend()
    return figure


def edge_map(train: pd.DataFrame, added: pd.DataFrame, n_users: int, n_items: int) -> Figure:
    """Draw training interactions and added ones on a user x item map, both sorted by activity."""
    figure, (ax,) = canvas(1, 4.4)
    ranks = []
    for column, size in (("user", n_users), ("item", n_items)):
        degree = np.bincount(train[column], minlength=size)
        ranks.append(np.argsort(np.argsort(-degree, kind="stable")))
    user_rank, item_rank = ranks
    for frame, label, colour, size in (
        (train, "observed", COLOURS["light"], 2),
        (added, "written by the model", COLOURS["dallrec"], 5),
    ):
        place = item_rank[frame["item"]], user_rank[frame["user"]]
        ax.scatter(*place, s=size, color=colour, label=label, linewidths=0, rasterized=True)
    ax.set(xlabel="items, most popular first", ylabel="users, most active first")
    ax.invert_yaxis()
    ax.grid(False)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, markerscale=3)
    return figure


def bars(table: pd.DataFrame, label: str, series: Sequence[str], ylabel: str) -> Figure:
    """Draw grouped bars: one group per row of `table[label]`, one bar per column in `series`."""
    figure, (ax,) = canvas()
    palette = [COLOURS[name] for name in ("base", "dallrec", "random", "good")]
    width = 0.8 / len(series)
    for position, (column, colour) in enumerate(zip(series, palette, strict=False)):
        x = np.arange(len(table)) + (position - (len(series) - 1) / 2) * width
        ax.bar(x, table[column], width=width * 0.92, label=column, color=colour)
    ax.set_xticks(np.arange(len(table)), table[label])
    ax.set(ylabel=ylabel)
    ax.grid(axis="x", visible=False)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(series))
    return figure
