"""A model over a catalog: a plan, jobs, a ledger, engines; maps, a STAC catalog, scores."""

from importlib import import_module
from typing import Any

_HOMES = {
    "evaluate": "rscontrast.mapping.score",
    "map_pairs": "rscontrast.mapping.pairwise",
    "plan_map": "rscontrast.mapping.running",
    "run": "rscontrast.mapping.running",
}

__all__ = ["evaluate", "map_pairs", "plan_map", "run"]  # by __getattr__


def __getattr__(name: str) -> Any:
    # A plan is made without torch, so what predicts is imported when it is asked for.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
