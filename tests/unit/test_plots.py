"""Figures: drawn, closed, and saying what they were given."""

from __future__ import annotations

import warnings
from itertools import product

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from dallrec_core import plots
from dallrec_core.experiment.arms import ARMS


@pytest.fixture(autouse=True)
def style():
    matplotlib.use("Agg")
    plots.use_style()


TRAIN = pd.DataFrame({"user": [0, 0, 0, 1, 2], "item": [0, 1, 2, 0, 0]})


def labels(figure: Figure) -> str:
    """All words on a figure."""
    return " ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


def drawn(figure: Figure) -> Figure:
    assert not plt.get_fignums(), "the figure was left open and would be shown twice"
    figure.canvas.draw()
    return figure


def test_long_tail_sorts_by_activity() -> None:
    figure = drawn(plots.long_tail(TRAIN, 4, 5, "movie"))
    heights = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert heights.max() == 3
    assert "movies, most active first" in labels(figure)


def test_loss_curves_have_a_panel_per_task() -> None:
    log = pd.DataFrame({"task": ["a", "a", "b"], "step": [1, 2, 1], "loss": [3.0, None, 1.0]})
    log = log.assign(eval_loss=[None, 2.5, 0.5])
    for table, titles in ((log, ["a", "b"]), (log[:0], ["no adapter was trained"])):
        assert [ax.get_title() for ax in drawn(plots.loss_curves(table)).axes] == titles


def test_before_after_shows_both_ends_and_chance() -> None:
    table = pd.DataFrame({"measure": ["AUC"], "before": [0.6], "after": [0.8], "chance": [0.5]})
    ax = drawn(plots.before_after(table)).axes[0]
    places = [float(c.get_offsets()[0, 0]) for c in ax.collections if len(c.get_offsets())]
    assert {0.6, 0.8, 0.5} <= {round(place, 6) for place in places}


def test_answers_show_both_groups_and_the_threshold() -> None:
    figure = drawn(plots.answer_histogram([0.2, 0.4, 0.9], [False, False, True], 0.7))
    assert all(word in labels(figure) for word in ("liked", "disliked", "threshold"))


def test_edge_map_puts_the_most_active_first() -> None:
    added = pd.DataFrame({"user": [3], "item": [4]})
    ax = drawn(plots.edge_map(TRAIN, added, 4, 5)).axes[0]
    assert ax.collections[1].get_offsets()[0].tolist() == [4.0, 3.0]
    assert ax.yaxis_inverted()


def test_bars_have_the_heights_of_the_table_and_histograms_count() -> None:
    full = pd.DataFrame({"field": ["genres"], "precision": [0.5], "recall": [0.25]})
    kinds = ["precision", "recall"]
    for figure, heights in (
        (plots.bars(full, "field", kinds, "share"), [0.5, 0.25]),
        (plots.bars(full[:0], "field", kinds, "share"), []),
        (plots.histogram([3, 3, 4], "words", "movies"), [2, 1]),
    ):
        assert [patch.get_height() for patch in drawn(figure).axes[0].patches] == heights


CURVES = pd.DataFrame(
    [("MF-BPR", "base", 5, 0.1), ("MF-BPR", "base", 10, 0.3), ("MF-BPR", "random", 5, 0.2)]
    + [("MF-BPR", "random", 10, 0.15), ("NMF", "dallrec", 5, 0.9)],
    columns=["backbone", "arm", "epoch", "value"],
).assign(seed=0)


def test_a_training_curve_shows_one_backbone_and_the_weights_that_were_kept() -> None:
    figure = drawn(plots.training_curve(CURVES, "MF-BPR"))
    (ax,) = figure.axes
    assert ax.get_title() == "MF-BPR" and len(ax.lines) == 2
    assert {"base", "random"} <= set(labels(figure).split()) and "dallrec" not in labels(figure)
    kept = [tuple(dots.get_offsets()[0]) for dots in ax.collections]
    assert kept == [(10, 0.3), (5, 0.2)]
    base, control = ax.lines
    assert base.get_linestyle() != control.get_linestyle()
    assert base.get_color() != control.get_color()


def test_a_backbone_that_was_not_trained_costs_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert plots.training_curve(CURVES, "GRCN") is None
    assert plots.training_curve(CURVES.iloc[:0], "NMF") is None
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == ["GRCN", "NMF"]
    assert all("not trained" in line for line in said)


def test_every_arm_has_a_look_of_its_own() -> None:
    looks = [tuple(plots.results._line(arm).values()) for arm in ARMS]
    assert len(set(looks)) == len(ARMS) and ("black", "-") not in looks


def test_forest_names_backbone_and_arm() -> None:
    table = pd.DataFrame({"backbone": ["EASE"], "arm": ["random"], "difference": [0.1]})
    figure = drawn(plots.forest(table.assign(low=[-0.1], high=[np.float64(0.3)])))
    assert "EASE · random" in labels(figure)


def test_the_headline_has_a_panel_per_metric_and_a_line_per_backbone_and_rival() -> None:
    parts = product(("recall@20", "preference@20"), ("base", "popular"), ("NMF", "EASE"))
    table = pd.DataFrame(parts, columns=["metric", "over", "backbone"])
    table["difference"] = table["over"].map({"base": 0.1, "popular": -0.2})
    table = table.assign(low=table["difference"] - 0.05, high=table["difference"] + 0.05)
    figure = drawn(plots.headline(table))
    assert [ax.get_title() for ax in figure.axes] == ["recall@20", "preference@20"]
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["NMF over base", "NMF over popular", "EASE over base", "EASE over popular"]
    ends = [line.get_xdata().tolist() for line in figure.axes[1].lines[:4]]
    assert np.allclose(sorted(ends), [[-0.25, -0.15]] * 2 + [[0.05, 0.15]] * 2)
    drawn(plots.headline(table.iloc[:0]))


def test_reliability_shows_both_lines_and_their_intervals() -> None:
    bins = pd.DataFrame({"said": [0.2, 0.8], "liked": [0.4, 0.6], "n": 9})
    bins = bins.assign(**{"from": [0.3, 0.5], "to": [0.6, 0.9]})
    figure = drawn(plots.reliability({"as said": bins, "calibrated": bins.iloc[1:]}))
    (ax,) = figure.axes
    assert {"as", "said", "calibrated"} <= set(labels(figure).split())
    ends = ax.containers[0].lines[2][0].get_segments()
    assert np.allclose(ends, [[[0.2, 0.3], [0.2, 0.6]], [[0.8, 0.5], [0.8, 0.9]]])


def test_the_learning_curve_names_its_sizes_and_marks() -> None:
    table = pd.DataFrame({"examples": [0, 16, 1024], "auc": [0.5, 0.6, 0.7]})
    figure = drawn(plots.learning_curve(table, {"chance": 0.5, "oracle": 0.9}))
    (ax,) = figure.axes
    assert ax.lines[0].get_ydata().tolist() == [0.5, 0.6, 0.7]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0", "16", "1,024"]
    assert [text.get_text() for text in ax.texts] == ["chance", "oracle"]


def test_gains_have_a_panel_per_yardstick_and_a_line_per_group() -> None:
    parts = product(("recall@20", "preference@20"), ("coin", "model"), (0.5, 0.7))
    table = pd.DataFrame(parts, columns=["metric", "who", "auc"]).assign(low=0.0, high=0.5)
    table["difference"] = [0.1, 0.2, 0.3, 0.4] * 2
    figure = drawn(plots.gains(table, "metric", "auc", "AUC", by="who"))
    assert [ax.get_title() for ax in figure.axes] == ["recall@20", "preference@20"]
    (bars, other) = figure.axes[0].containers
    assert bars.lines[0].get_xydata().tolist() == [[0.5, 0.1], [0.7, 0.2]]
    assert other.lines[2][0].get_segments()[1].tolist() == [[0.7, 0.0], [0.7, 0.5]]
    assert all(name in labels(figure) for name in ("coin", "model", "AUC"))


def test_gains_over_words_keep_their_order_and_a_logarithmic_axis_names_every_step() -> None:
    table = pd.DataFrame({"group": ["0-3", "4-9", "10"], "difference": 0.1}).assign(of="users")
    table = table.assign(low=0.0, high=0.2)
    (ax,) = drawn(plots.gains(table, "of", "group", "training interactions")).axes
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0-3", "4-9", "10"]
    shares = table.assign(x=[0.02, 0.3, 1])
    (ax,) = drawn(plots.gains(shares, "of", "x", "share", log=True)).axes
    assert ax.get_xscale() == "log"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0.02", "0.3", "1"]
    assert plots.gains(table.iloc[:0], "of", "group", "") is None
    nothing = table.assign(difference=0.0, low=0.0, high=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn(plots.gains(nothing, "of", "group", "training interactions"))


def test_spread_counts_every_share_once() -> None:
    figure = drawn(plots.spread({"one": [0.0, 0.5, 1.0], "two": [0.2]}, "share", "films"))
    heights = [sum(bar.get_height() for bar in group) for group in figure.axes[0].containers]
    assert heights == [3, 1]
    assert "one" in labels(figure) and "two" in labels(figure)


def test_over_epochs_has_a_panel_per_backbone_and_its_marks() -> None:
    curves = pd.DataFrame({"backbone": list("AAAB"), "seed": [0, 0, 1, 0], "epoch": [1, 2, 1, 1]})
    curves = curves.assign(value=[0.1, 0.2, 0.3, 0.4])
    figure = drawn(plots.over_epochs(curves, {"A": {"printed": 0.25}}, "recall"))
    first, second = figure.axes
    assert [ax.get_title() for ax in figure.axes] == ["A", "B"]
    assert len(first.lines) == 3 and len(second.lines) == 1
    assert list(first.lines[-1].get_ydata()) == [0.25, 0.25] and "printed" in labels(figure)
