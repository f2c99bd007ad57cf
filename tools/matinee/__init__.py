"""How the embedded dataset was made: `python -m tools.matinee.make` writes the same bytes again."""
