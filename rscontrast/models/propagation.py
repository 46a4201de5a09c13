"""Pixel propagation: each cell becomes the mean of what resembles it (PixPro)."""

import math

import torch
from torch import Tensor, nn

from rscontrast.errors import InputError, whole
from rscontrast.losses.cells import unit


class PixelPropagation(nn.Module):
    r"""Smooth a feature map over its own similar cells.

    .. math:: y_i = normalise\Big( \sum_j \max(\cos(x_i, x_j), 0)^\gamma\,
              \frac{g(x_j)}{|g(x_j)|} \Big)

    with a 1 x 1 convolution g. Source: Xie et al. 2021, arXiv 2011.10043; gamma = 2,
    one layer and the normalised g as in the released code.
    """

    def __init__(self, channels: int, power: float = 2.0) -> None:
        """Build.

        Args:
            channels: D.
            power: gamma, 1 or more.

        Raises:
            InputError: out of range.
        """
        super().__init__()
        if not 1 <= power < math.inf:
            raise InputError("power", power, "a finite number of 1 or more")
        self.power = power
        self.transform = nn.Conv2d(whole("channels", channels), channels, kernel_size=1)

    def forward(self, features: Tensor, valid: Tensor | None = None) -> Tensor:
        """Propagate.

        Args:
            features: [N, D, h, w] x.
            valid: [N, h, w] bool: nothing comes from a cell that is not, whatever it holds, and
                it becomes 0. None: all are.

        Returns:
            [N, D, h, w] of unit length, float32 or finer.
        """
        if valid is not None:
            features = torch.where(valid.unsqueeze(1), features, 0)
        value = self.transform(features)
        with torch.autocast(features.device.type, enabled=False):
            cells = unit(features)
            # A cell that is not valid is 0 here: it is alike to none, and none to it.
            alike = (cells.transpose(1, 2) @ cells).relu().pow(self.power)
            spread = unit(value) @ alike
            made = unit(spread.view_as(value))
        return made.view_as(value)
