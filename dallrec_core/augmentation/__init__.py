"""The three augmentations: interactions, attributes and summaries, written by a language model.

Each task has one module with one plan: `parts` divides training material into examples and held-out
cases, `instructions` turns cases into Alpaca records, `evaluate` measures a model on held-out
cases, and `augment` asks it (an `Asker`) for the new data. Only training data can reach a prompt
(`view`). `selection` decides which answers become edges, `contamination` probes what the model
recites, `truth` measures what it makes up, `features` makes item features of words, `exchange` is
the door for other tools.
"""

from dallrec_core.augmentation import (
    attributes,
    contamination,
    interactions,
    selection,
    summaries,
    truth,
)
from dallrec_core.augmentation.answers import Asker
from dallrec_core.augmentation.prompts import read_instructions, write_instructions
from dallrec_core.augmentation.view import TrainingView, Truth, load_data, load_truth

__all__ = [
    "Asker", "TrainingView", "Truth", "attributes", "contamination", "interactions", "load_data",
    "load_truth", "read_instructions", "selection", "summaries", "truth", "write_instructions",
]  # fmt: skip
