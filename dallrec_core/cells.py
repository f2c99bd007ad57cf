"""A cell of the grid - one training - and what identifies its result.

The key of a cell holds everything that could change its result and nothing else. So an arm that
differs from another only in what a backbone does not read (item features for a collaborative
filter, No answers where no share of negatives is drawn from them) shares the other's training.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path

import torch

from dallrec_core import recommenders, training
from dallrec_core.errors import UserError
from dallrec_core.study import Arm
from dallrec_core.training import SETTINGS, TrainSettings

DEPTH = 100
"""Length of the ranked lists that a cell stores."""


@dataclass(frozen=True)
class Cell:
    """One training."""

    backbone: str
    "A name `recommenders.build` knows."
    arm: str
    "Name of the arm."
    seed: int
    "Of initial values and sampling."
    settings: TrainSettings = field(default_factory=TrainSettings)
    "How to train."

    @property
    def run(self) -> str:
        """Return the cell's name in tables and messages."""
        return f"{self.backbone}/{self.arm}/{self.seed}"


def cells(
    backbones: Sequence[str],
    arms: Iterable[str],
    seeds: Sequence[int],
    settings: Mapping[str, TrainSettings] | None = None,
    *,
    epochs: int = 0,
    hard_negatives: float = 0.0,
) -> list[Cell]:
    """List the cells of a full grid; models in closed form get the first seed only.

    Args:
        backbones: names that `recommenders.build` knows.
        arms: names of the arms.
        seeds: of initial values and sampling.
        settings: how to train, by backbone, instead of `training.SETTINGS`.
        epochs: most epochs, instead of the settings' own; 0 keeps those.
        hard_negatives: share of negatives drawn from the arm's `negatives`, instead of the
            settings' own; 0 keeps that. Arms without such pairs are trained as if it were 0.

    Raises:
        UserError: for an unknown backbone, no seed, or a share outside [0, 1].
    """
    if not seeds:
        raise UserError("no seed was given; at least one is needed")
    if not 0 <= hard_negatives <= 1:
        raise UserError(f"hard_negatives is {hard_negatives}; it must lie between 0 and 1")
    share, known = hard_negatives, SETTINGS | dict(settings or {})
    return [
        Cell(backbone, arm, seed, _changed(known.get(backbone, TrainSettings()), epochs, share))
        for backbone in backbones
        for arm in arms
        for seed in (seeds[:1] if recommenders.model_class(backbone).closed_form else seeds)
    ]


def _changed(settings: TrainSettings, epochs: int, share: float) -> TrainSettings:
    if share:
        settings = replace(settings, hard_negative_share=share)
    if epochs:
        settings = replace(settings, epochs=epochs, eval_every=min(settings.eval_every, epochs))
    return settings


def reduced(cell: Cell, arm: Arm) -> tuple[Cell, Arm]:
    """Return a cell and its arm without what its backbone does not read."""
    model, share = recommenders.model_class(cell.backbone), cell.settings.hard_negative_share
    if not model.uses_features and arm.features is not None:
        arm = replace(arm, features=None)
    given = arm.negatives is not None and len(arm.negatives) > 0
    if model.closed_form or not (given and share):
        arm = replace(arm, negatives=None)
        if share:
            cell = replace(cell, settings=replace(cell.settings, hard_negative_share=0.0))
    return cell, arm


def key(cell: Cell, study: str, arm: str) -> str:
    """Return the content key of a cell: 32 hexadecimal digits.

    Args:
        cell: from `reduced`; the name of its arm does not count.
        study: digest of the study.
        arm: digest of the arm, from `reduced` too.
    """
    parts = [cell.backbone, cell.seed, asdict(cell.settings), study, arm]
    text = json.dumps([*parts, _code(cell.backbone), DEPTH, torch.__version__], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@cache
def _code(backbone: str) -> str:
    """Return a digest of the code that trains and ranks, so that changed code trains again."""
    digest = hashlib.sha256()
    root = Path(recommenders.__file__).parent
    files = [*sorted(root.glob("*.py")), Path(training.__file__)]
    if ":" in backbone:  # from a file of the user's own
        files.append(Path(inspect.getfile(recommenders.model_class(backbone))))
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()
