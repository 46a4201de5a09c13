"""A segmenter over pairs of a catalog: class and probability COGs, a STAC catalog, scores."""

from importlib import import_module
from typing import Any

_HOMES = {"evaluate": "rscontrast.mapping.score", "map_pairs": "rscontrast.mapping.pairwise"}

__all__ = ["evaluate", "map_pairs"]  # by __getattr__


def __getattr__(name: str) -> Any:
    # A plan is made without torch, so what predicts is imported when it is asked for.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
