"""The language-model wing: it takes text and gives back probabilities or text.

Nothing here knows recommender data. `load` opens a checkpoint (`open_model` also one that is
served), `p_yes` asks yes/no questions, `generate` lets it write, `AnswerCache` keeps every answer,
`Ledger` counts what it cost, and `finetune` trains a LoRA adapter on Alpaca examples.
"""

from dallrec_core.llm.cache import AnswerCache
from dallrec_core.llm.ledger import Ledger, ledger_table
from dallrec_core.llm.load import LanguageModel, open_model, render
from dallrec_core.llm.score import first_tokens

__all__ = [
    "AnswerCache", "LanguageModel", "Ledger", "first_tokens", "ledger_table", "open_model",
    "render",
]  # fmt: skip
