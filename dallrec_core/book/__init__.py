"""The book: executed notebooks and prose, built by Jupyter Book and checked."""
