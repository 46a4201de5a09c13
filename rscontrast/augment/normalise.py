"""Reflectance into what a network sees: the last step before it."""

import torch
from torch import Tensor, nn

from rscontrast.augment.device import fixed
from rscontrast.types import SensorContract


class Normalise(nn.Module):
    """Subtract each band's mean, divide by its standard deviation; unusable pixels become 0."""

    def __init__(self, contract: SensorContract) -> None:
        """Take the statistics of ``contract``."""
        super().__init__()
        self.mean, self.std = tuple(contract.mean), tuple(contract.std)

    def forward(self, image: Tensor, valid: Tensor) -> Tensor:
        """Normalise.

        Args:
            image: reflectance [..., C, H, W]; NaN too where it is not valid.
            valid: [..., H, W].
        """
        # A datamodule's modules are moved by nobody: the statistics go where the batch is.
        mean, std = (fixed(each, image, torch.float32)[:, None, None]
                     for each in (self.mean, self.std))  # fmt: skip
        # In place: of a large batch new memory costs more than the arithmetic.
        return (image - mean).div_(std).masked_fill_(~valid.unsqueeze(-3), 0)
