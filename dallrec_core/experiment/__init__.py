"""Did it help? Arms and controls, the grid of trainings, comparison, leakage.

`arms.prepare` reads what pages 01 to 05 of a run left and builds the arms; `grid.run_grid` trains
and scores; `comparison` judges; `bench.Bench` tries variants of what is added, and answers of a
chosen quality.
"""

from dallrec_core.experiment.arms import ARMS, CONTROLS, RECIPES, Arm, prepare
from dallrec_core.experiment.grid import run_grid, trainings
from dallrec_core.experiment.scores import Study

__all__ = ["ARMS", "CONTROLS", "RECIPES", "Arm", "Study", "prepare", "run_grid", "trainings"]
