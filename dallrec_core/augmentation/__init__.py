"""The three augmentations: interactions, attributes and summaries, written by a language model.

Each module follows one plan: ``parts`` divides training material into examples and held-out cases,
``instructions`` turns cases into Alpaca records, ``evaluate`` measures a model on held-out cases,
and ``augment`` asks it for the new data. Only training data can reach a prompt.
"""
