"""Temporal pairs from a STAC catalog, encoders from pairs, damage maps from encoders.

The stages of the job, each usable alone: ``search``, ``pair_items``, ``cache``, ``pretrain``,
``embed``, ``finetune``, ``evaluate``, ``map_pairs``. Each is imported when it is first used: a
search needs no torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_STAGES = {
    "search": "rscontrast.stac",
    "pair_items": "rscontrast.stac",
    "pair_quality": "rscontrast.io.quality",
    "split_by_place": "rscontrast.stac",
    "cache": "rscontrast.caching",
    "pretrain": "rscontrast.stages",
    "embed": "rscontrast.embedding",
    "finetune": "rscontrast.stages",
    "evaluate": "rscontrast.mapping",
    "map_pairs": "rscontrast.mapping",
}

__all__ = ["__version__", *_STAGES]  # noqa: PLE0604  # the keys are strings


def __getattr__(name: str) -> Any:
    if name not in _STAGES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_STAGES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
