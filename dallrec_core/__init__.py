"""DALLRec, reproduced: language models write extra data for recommenders; does it help?

The rooms, from the bottom up: `datasets` and `prompts` (plain data and text), `llm` (text in, text
or probabilities out), `augmentation` (where the two meet), `recommenders`, `training`,
`evaluation`, `experiments` and `statistics` (graphs in, numbers out), then `stages`, `book` and
`cli`, which run the numbered notebooks. Importing the package loads nothing heavy.
"""

from __future__ import annotations

__version__ = "0.1.0"
