"""Scores: of maps against reference labels (NumPy only), and of embeddings."""
