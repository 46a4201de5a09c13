"""Figures and the report that a run leaves behind."""
