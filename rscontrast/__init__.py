"""Temporal pairs from a STAC catalog, encoders from pairs, damage maps from encoders."""

__version__ = "0.1.0"
