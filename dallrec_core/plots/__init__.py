"""The book's figures in one style: colour-blind-safe, legible on a phone and on a dark page.

Every function takes plain tables, returns a closed `Figure` (so that a notebook shows it once, as
the value of its cell), and leaves numbers to the caller: nothing is computed here beyond what a
drawing needs.
"""

from dallrec_core.plots.data import (
    answer_histogram,
    bars,
    before_after,
    edge_map,
    histogram,
    learning_curve,
    long_tail,
    loss_curves,
    reliability,
    spread,
)  # fmt: skip
from dallrec_core.plots.results import forest, gains, headline, over_epochs, training_curve
from dallrec_core.plots.style import COLOURS, use_style

__all__ = [
    "COLOURS", "answer_histogram", "bars", "before_after", "edge_map", "forest", "gains",
    "headline", "histogram", "learning_curve", "long_tail", "loss_curves", "over_epochs",
    "reliability", "spread", "training_curve", "use_style",
]  # fmt: skip
