"""Makes the stand-in language model: text, tokenizer, training and evaluation (a fixed recipe)."""
