"""The language-model wing: it takes text and gives back probabilities or text.

Nothing here knows recommender data. `models.load` opens a checkpoint, `scoring.p_yes` asks yes/no
questions, `generation.generate` lets it write, `cache.AnswerCache` keeps every answer, and
`finetune.finetune` trains a LoRA adapter on Alpaca examples. `served.connect` asks a model
that runs elsewhere, and `processes` shares the asking between processes.
"""
