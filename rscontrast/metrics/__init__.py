"""Scores of maps against reference labels: of pixels, of outlines, of buildings, of confidence.

:mod:`~rscontrast.metrics.segmentation` and :mod:`~rscontrast.metrics.reliability` need NumPy only;
the others are torchmetrics, whose states are sums, so that ranks and batches add up.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "BoundaryIoU": "boundary",
    "BuildingCalibrationError": "calibration",
    "CalibrationError": "calibration",
    "ClassScores": "classes",
    "ObjectScores": "objects",
    "PixelSample": "temperature",
    "Reliability": "reliability",
    "XView2Score": "xview2",
    "fit_temperature": "temperature",
    "reliability_table": "reliability",
    "xview2_score": "xview2",
}

__all__ = list(_HOMES)  # by __getattr__


def __getattr__(name: str) -> Any:
    # A report reads scores without torch, so what needs it is imported when it is asked for.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
