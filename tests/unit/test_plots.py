"""Figures: drawn, closed, and showing the numbers they were given where a reader looks for them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import product
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from dallrec_core import plots
from dallrec_core.experiment.arms import ARMS

matplotlib.use("Agg")
TRAIN = pd.DataFrame({"user": [0, 0, 0, 1, 2], "item": [0, 1, 2, 0, 0]})
LOG = pd.DataFrame({"task": list("aab"), "step": [1, 2, 1], "loss": [3.0, None, 1.0]})
LOG = LOG.assign(eval_loss=[None, 2.5, 0.5])
ENDS = pd.DataFrame({"measure": ["AUC"], "before": [0.6], "after": [0.8], "chance": [0.5]})
BINS = pd.DataFrame({"said": [0.2, 0.8], "liked": [0.4, 0.6], "n": 9})
BINS = BINS.assign(**{"from": [0.3, 0.5], "to": [0.6, 0.9]})
SIZES = pd.DataFrame({"examples": [0, 16, 1024], "auc": [0.5, 0.6, 0.7]})
FIELDS = pd.DataFrame({"field": ["genres"], "precision": [0.5], "recall": [0.25]})
KINDS = ["precision", "recall"]
CURVES = pd.DataFrame(
    [("MF-BPR", "base", 5, 0.1), ("MF-BPR", "base", 10, 0.3), ("MF-BPR", "random", 5, 0.2)]
    + [("MF-BPR", "random", 10, 0.15), ("NMF", "dallrec", 5, 0.9)],
    columns=["backbone", "arm", "epoch", "value"],
).assign(seed=0)
PAIRS = pd.DataFrame(
    product(("recall@20", "preference@20"), ("base", "popular"), ("NMF", "EASE")),
    columns=["metric", "over", "backbone"],
).assign(arm="dallrec", difference=[0.1, 0.1, -0.2, -0.2] * 2)
PAIRS = PAIRS.assign(low=PAIRS["difference"] - 0.05, high=PAIRS["difference"] + 0.05)
ARMED = PAIRS[:2].assign(over="base", arm=["random", "popular"])
DOSES = pd.DataFrame(product(("recall@20", "preference@20"), ("coin", "model"), (0.5, 0.7)))
DOSES = DOSES.set_axis(["metric", "who", "auc"], axis=1).assign(low=0.0, high=0.5)
DOSES = DOSES.assign(difference=[0.1, 0.2, 0.3, 0.4] * 2)
GROUPS = pd.DataFrame({"group": ["0-3", "4-9", "10"], "x": [0.02, 0.3, 1], "difference": 0.1})
GROUPS = GROUPS.assign(of="users", low=0.0, high=0.2)


SPREAD = {"one": [0.0, 0.5, 1.0], "two": [0.2]}
ADDED = pd.DataFrame({"user": [3], "item": [4]})
NOTHING = GROUPS.assign(difference=0.0, high=0.0)


def rows_of(figure: Figure) -> np.ndarray:
    """Both ends of each interval of a forest."""
    return np.array(sorted(tuple(line.get_xdata()) for line in figure.axes[-1].lines[:-1]))


def dots(figure: Figure) -> np.ndarray:
    places = [c.get_offsets() for c in figure.axes[0].collections]
    return np.array([place[0] for place in places if len(place)])


def bars(figure: Figure) -> list[float]:
    return [bar.get_height() for group in figure.axes[0].containers for bar in group]


def intervals(figure: Figure) -> np.ndarray:
    """Place, low and high of each point of the first line."""
    ends = figure.axes[0].containers[0].lines[2][0].get_segments()
    return np.array([(*low, high[1]) for low, high in ends])


def ticks(figure: Figure) -> list[str]:
    return [tick.get_text() for tick in figure.axes[0].get_xticklabels()]


def tallest(figure: Figure) -> float:
    return figure.axes[0].collections[0].get_paths()[0].vertices[:, 1].max()


Draw, Look = Callable[[], Figure], Callable[[Figure], Any]
DRAWN: list[tuple[Draw, str, Look, Any]] = [
    (lambda: plots.long_tail(TRAIN, 4, 5, "movie"), "movies, most active first", tallest, 3),
    (lambda: plots.loss_curves(LOG), "a; b; training; held out", lambda f: len(f.axes), 2),
    (lambda: plots.loss_curves(LOG[:0]), "no adapter was trained", dots, []),
    (lambda: plots.before_after(ENDS), "AUC; chance", dots, [[0, 0], [0.6, 0], [0.8, 0], [0.5, 0]]),
    (lambda: plots.edge_map(TRAIN, ADDED, 4, 5), "observed", dots, [[0.0, 0.0], [4.0, 3.0]]),
    (lambda: plots.bars(FIELDS, "field", KINDS, ""), "genres; recall", bars, [0.5, 0.25]),
    (lambda: plots.bars(FIELDS[:0], "field", KINDS, ""), "", bars, []),
    (
        lambda: plots.histogram(SPREAD, "share", "films", 0.7),
        "share; films; one; two; threshold", lambda f: sum(bars(f)), 4,
    ),
    (lambda: plots.histogram({"words": [3, 3, 1]}, "", ""), "words", bars, [0, 1, 0, 2]),
    (
        lambda: plots.reliability({"as said": BINS, "calibrated": BINS[1:]}),
        "as said; calibrated", intervals, [[0.2, 0.3, 0.6], [0.8, 0.5, 0.9]],
    ),
    (lambda: plots.learning_curve(SIZES, {"chance": 0.5}), "chance", ticks, ["0", "16", "1,024"]),
    # a dot where the weights were kept
    (lambda: plots.training_curve(CURVES, "MF-BPR"), "random", dots, [[10, 0.3], [5, 0.2]]),
    (
        lambda: plots.over_epochs(CURVES, {"NMF": {"printed": 0.25}}, "recall"),
        "MF-BPR; NMF; printed", lambda f: list(f.axes[1].lines[-1].get_ydata()), [0.25, 0.25],
    ),
    (
        lambda: plots.forest(PAIRS),
        "recall@20; preference@20; NMF over base; EASE over popular",
        rows_of, [[-0.25, -0.15]] * 2 + [[0.05, 0.15]] * 2,
    ),
    (lambda: plots.forest(ARMED), "NMF · random; EASE · popular", rows_of, [[0.05, 0.15]] * 2),
    (lambda: plots.forest(PAIRS[:0]), "", rows_of, []),
    (
        lambda: plots.gains(DOSES, "metric", "auc", "AUC", by="who"),
        "recall@20; preference@20; coin; model", intervals, [[0.5, 0, 0.5], [0.7, 0, 0.5]],
    ),
    (lambda: plots.gains(GROUPS, "of", "x", "", log=True), "", ticks, ["0.02", "0.3", "1"]),
    (lambda: plots.gains(NOTHING, "of", "group", "x"), "users; x", ticks, ["0-3", "4-9", "10"]),
]  # fmt: skip


@pytest.mark.parametrize(("draw", "words", "look", "expected"), DRAWN)
def test_figures_show_what_they_are_given(
    draw: Draw, words: str, look: Look, expected: Any
) -> None:
    plots.use_style()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = draw()
        assert not plt.get_fignums(), "the figure was left open and would be shown twice"
        figure.canvas.draw()
    assert set(words.split("; ")) - {""} <= {text.get_text() for text in figure.findobj(Text)}
    found = look(figure)
    assert np.allclose(found, expected) if isinstance(found, np.ndarray) else found == expected


def test_what_was_not_trained_or_compared_is_no_figure(capsys: pytest.CaptureFixture[str]) -> None:
    assert plots.training_curve(CURVES, "GRCN") is None
    assert "GRCN was not trained" in capsys.readouterr().out
    assert plots.gains(GROUPS[:0], "of", "group", "") is None


def test_every_arm_has_a_look_of_its_own() -> None:
    looks = [tuple(plots._line(arm).values()) for arm in ARMS]
    assert len(set(looks)) == len(ARMS) and ("black", "-") not in looks
