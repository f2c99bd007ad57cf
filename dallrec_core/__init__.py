"""DALLRec, reproduced: language models write extra data for recommenders; does it help?

The rooms, from the bottom up: `datasets` and `prompts` (plain data and text), `llm` (text in, text
or probabilities out), `augmentation` (where the two meet), `recommenders`, `training`,
`evaluation`, `experiments` and `statistics` (graphs in, numbers out), then `stages`, `book` and
`cli`, which run the numbered notebooks. Importing the package loads nothing heavy.
"""

from __future__ import annotations

import os

# Torch reads this before its first tensor, and then asks Linux for large pages: a table of 38 MB
# is made anew in a fifth of the time.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

__version__ = "0.1.0"
