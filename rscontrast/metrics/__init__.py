"""Scores of maps against reference labels, in NumPy only."""
