"""DALLRec, reproduced: language models write extra data for recommenders; does it help?

The rooms, in the order in which data flow through them: `chain` (notebooks, artefacts), `data`,
`llm` (text in, text or probabilities out), `recommenders` (graph in, lists out), `augmentation`
(where the two meet), `experiment` (do the written data help?), `plots` and `book`. None imports a
later one. Importing the package loads nothing heavy.
"""

from __future__ import annotations

import os

# Torch reads this before its first tensor, and then asks Linux for large pages: a table of 38 MB
# is made anew in a fifth of the time.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

__version__ = "0.1.0"
