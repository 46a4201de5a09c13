"""Reflectance into what a network sees: the last step before it."""

import torch
from torch import Tensor, nn

from rscontrast.types import SensorContract


class Normalise(nn.Module):
    """Subtract each band's mean, divide by its standard deviation; unusable pixels become 0."""

    mean: Tensor
    std: Tensor

    def __init__(self, contract: SensorContract) -> None:
        """Take the statistics of ``contract``."""
        super().__init__()
        for name in ("mean", "std"):
            value = torch.tensor(getattr(contract, name), dtype=torch.float32)
            self.register_buffer(name, value[:, None, None], persistent=False)

    def forward(self, image: Tensor, valid: Tensor) -> Tensor:
        """Normalise.

        Args:
            image: reflectance [..., C, H, W].
            valid: [..., H, W].
        """
        # A datamodule's modules are moved by nobody: the statistics go where the batch is.
        mean, std = self.mean.to(image.device), self.std.to(image.device)
        # In place: of a large batch new memory costs more than the arithmetic.
        return (image - mean).div_(std).mul_(valid.unsqueeze(-3))
