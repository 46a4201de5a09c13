"""The losses of a family by name, by which a task chooses one."""

from torch import nn

from rscontrast.losses.debiased import DebiasedLoss, QueueDebiasedLoss
from rscontrast.losses.false import FALSELoss, QueueFALSELoss
from rscontrast.losses.false_negative_cancellation import (
    FalseNegativeAttraction,
    FalseNegativeElimination,
    QueueFalseNegativeAttraction,
    QueueFalseNegativeElimination,
)
from rscontrast.losses.glofnd import GloFNDLoss, QueueGloFNDLoss
from rscontrast.losses.info_nce import InfoNCE, QueueInfoNCE

BATCH: dict[str, type[nn.Module]] = {
    "info_nce": InfoNCE,
    "false": FALSELoss,
    "debiased": DebiasedLoss,
    "false_negative_attraction": FalseNegativeAttraction,
    "false_negative_elimination": FalseNegativeElimination,
    "glofnd": GloFNDLoss,
}
"""Losses over two views of a batch: ``forward(view1, view2, *, weight, labels)``."""

QUEUE: dict[str, type[nn.Module]] = {
    "info_nce": QueueInfoNCE,
    "false": QueueFALSELoss,
    "debiased": QueueDebiasedLoss,
    "false_negative_attraction": QueueFalseNegativeAttraction,
    "false_negative_elimination": QueueFalseNegativeElimination,
    "glofnd": QueueGloFNDLoss,
}
"""Losses over a queue: ``forward(query, key, queue, *, weight, labels, queue_labels)``."""
