"""The temperature of a segmenter, from the pixels of a validation that may be spread over ranks."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from rscontrast.metrics import PixelSample, fit_temperature

PIXELS = 50_000
"""Pixels that the temperature is fitted on."""


class Calibration:
    """Pixels of an epoch of validation, and the temperature that suits them."""

    def __init__(self) -> None:
        """Start empty."""
        self.reset()

    def reset(self) -> None:
        """Forget all pixels."""
        world = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        self.world, self.sample = world, PixelSample(max(1, PIXELS // world))

    def add(self, logits: Tensor, mask: Tensor) -> None:
        """Take what is drawn of a batch: logits [B, C, H, W], classes [B, H, W]."""
        self.sample.add(logits.float(), mask)

    def temperature(self, probabilities: Callable[[Tensor], Tensor]) -> float | None:
        """Fit, the same on every rank; None where no pixel has a label."""
        parts: list[Any] = [(self.sample.logits, self.sample.mask)]
        if self.world > 1:
            parts = [None] * self.world
            dist.all_gather_object(parts, (self.sample.logits, self.sample.mask))
        some = [part for part in parts if len(part[1])]
        if not some:
            return None
        logits, mask = (torch.cat(column) for column in zip(*some, strict=True))
        found: float = fit_temperature(logits, mask, probabilities=probabilities)
        return found
