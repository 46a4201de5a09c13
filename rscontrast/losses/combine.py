"""One loss of several: the scales of a dense loss, or a loss and its add-on terms."""

from collections.abc import Mapping

import torch

from rscontrast.errors import InputError
from rscontrast.losses.output import LossOutput


def combine(
    outputs: Mapping[str, LossOutput], weights: Mapping[str, float] | None = None
) -> LossOutput:
    """Sum losses by their weights.

    A multi-scale dense loss is ``combine({"32": ..., "16": ..., "8": ...})`` of the losses at each
    stride, each with the positives of its own grid. Source: the abstract of arXiv 2211.10177; the
    equal weights are a reconstruction.

    Args:
        outputs: losses by name, 1 or more.
        weights: of each name; None: all 1.

    Returns:
        The sum, and each part's diagnostics under ``<name>_<diagnostic>``, its loss, not
        weighted, under ``<name>_loss``.

    Raises:
        InputError: no loss, or weights of other names.
    """
    if not outputs:
        raise InputError("outputs", {}, "1 or more losses")
    weights = dict.fromkeys(outputs, 1.0) if weights is None else weights
    if set(weights) != set(outputs):
        raise InputError("weights", sorted(weights), f"one for each of {sorted(outputs)}")
    loss = torch.stack([weights[name] * out.loss for name, out in outputs.items()]).sum()
    diagnostics = {}
    for name, out in outputs.items():
        diagnostics[f"{name}_loss"] = out.loss.detach()
        diagnostics |= {f"{name}_{key}": value for key, value in out.diagnostics.items()}
    return LossOutput(loss, diagnostics)
