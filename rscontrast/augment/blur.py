"""Gaussian blur, of one strength for each image, and the blur of a coarser sensor."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rscontrast.augment.draws import Draws, Probability, Range, interval, probability
from rscontrast.augment.operations import Operation, Params
from rscontrast.errors import InputError

REACH = 3.0
"""Standard deviations after which a Gaussian is cut off where nothing else limits it."""
TILE = 56
"""Rows that are blurred at once: of more, more weights are 0; of fewer, more rows come twice."""


def gaussian_blur(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Blur each image by its own Gaussian; what lies beyond the border does not count.

    Batched products with the band of weights around the diagonal, along the rows and down the
    columns: no loop over images, no padding, and little more than half the time of a grouped
    convolution of 23 taps at 224 pixels on a CPU. In float32 it is exact to rounding unless the
    precision of float32 matrix products was lowered.

    Args:
        images: [N, C, H, W].
        sigma: [N], pixels; 0 leaves the image bit for bit.
        radius: pixels after which the Gaussian is cut off.
    """
    down, along = (_weights(sigma, radius, side).to(images.dtype) for side in images.shape[-2:])
    columns = _mix(images.flatten(0, 1).mT, along, radius)
    return _mix(columns.mT, down, radius).view_as(images)


def _weights(sigma: Tensor, radius: int, side: int) -> Tensor:
    """Weights [N, side, side] of each pixel (last axis) in each blurred one; rows sum to 1."""
    reach = max(radius, side - 1)
    steps = torch.arange(-reach, reach + 1, device=sigma.device)
    # At 0 the Gaussian is a 1 among zeros, without a division by 0.
    tap = torch.exp(-0.5 * (steps / sigma.clamp(min=1e-3).unsqueeze(1)) ** 2)
    tap = tap * (steps.abs() <= radius)
    # Row i is the taps, moved by i: windows of them, from the last to the first.
    rows = tap[:, reach - side + 1 : reach + side].unfold(1, side, 1)
    return (rows / rows.sum(dim=-1, keepdim=True)).flip(1)


def _mix(planes: Tensor, weights: Tensor, radius: int) -> Tensor:
    """Make each row of ``planes`` [N * C, H, W] of those around it, by ``weights`` [N, H, H].

    Tile by tile, since beyond ``radius`` of a tile all weights are 0.
    """
    side, bands = planes.shape[1], len(planes) // max(1, len(weights))
    mixed = []
    for top in range(0, side, TILE):
        low, high = max(0, top - radius), min(side, top + TILE + radius)
        tile = weights[:, top : top + TILE, low:high].repeat_interleave(bands, dim=0)
        mixed.append(tile @ planes[:, low:high])
    return torch.cat(mixed, dim=1)


class _Blurred(Operation):
    """What has one standard deviation for each image."""

    still: ClassVar[Mapping[str, float]] = {"sigma": 0}

    @abstractmethod
    def radius(self, side: int) -> int:
        """Pixels after which the Gaussian is cut off, in images of ``side`` rows."""

    def apply(self, images: Tensor, params: Params) -> Tensor:
        """Blur; on a CPU only those that need it: elsewhere to count them waits for the device."""
        sigma, radius = params["sigma"], self.radius(images.shape[-2])
        if not images.is_cpu:
            return gaussian_blur(images, sigma, radius)
        chosen = sigma.nonzero().squeeze(1)
        return images.index_copy(0, chosen, gaussian_blur(images[chosen], sigma[chosen], radius))


@dataclass(frozen=True)
class Blur(_Blurred):
    """Gaussian blur, sigma ~ U(*sigma) pixels.

    Source: SimCLR (arXiv 2002.05709, appendix A), whose kernel is a tenth of the image's height;
    ``kernel`` None stands for those recipes that limit it by sigma alone (MoCo v2, SeCo, FALSE).
    """

    sigma: Range = (0.1, 2.0)
    p: Probability = 0.5
    kernel: float | None = 0.1

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        interval("sigma", self.sigma)
        probability("p", self.p)
        if self.kernel is not None and not 0 < self.kernel <= 1:
            raise InputError("kernel", self.kernel, "None, or a share (0-1] of the image's height")

    def radius(self, side: int) -> int:
        """Half of the kernel, at least 1; of 224 rows 11."""
        if self.kernel is None:
            return math.ceil(REACH * self.sigma[1])
        return max(1, int(self.kernel * side) // 2)

    def sample(self, draws: Draws) -> dict[str, Tensor]:
        """Draw ``sigma`` [N]."""
        return {"sigma": draws.uniform(*self.sigma)}


@dataclass(frozen=True)
class Coarsen(_Blurred):
    """Blur to the sharpness of a sensor whose pixels are r times as large, r ~ U(*ratio).

    A sensor whose modulation transfer at its Nyquist frequency is m has, if Gaussian, the point
    spread s = sqrt(-2 ln m) / pi of its pixels. The image has it already, of its own pixels; what
    is missing to r s is sqrt(r^2 - 1) s, for the variances of Gaussians add. Size is left as is.
    Source: the transform of a Gaussian; a reconstruction as an augmentation.
    """

    ratio: Range = (1.0, 4.0)
    nyquist: float = 0.2
    p: Probability = 0.3

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        interval("ratio", self.ratio, 1)
        probability("p", self.p)
        if not 0 < self.nyquist < 1:
            raise InputError("nyquist", self.nyquist, "a modulation above 0 and below 1")

    def radius(self, side: int) -> int:
        """Reach of the coarsest."""
        return math.ceil(REACH * float(self._sigma(torch.tensor(self.ratio[1]))))

    def sample(self, draws: Draws) -> dict[str, Tensor]:
        """Draw ``sigma`` [N]."""
        return {"sigma": self._sigma(draws.uniform(*self.ratio))}

    def _sigma(self, ratio: Tensor) -> Tensor:
        spread = math.sqrt(-2 * math.log(self.nyquist)) / math.pi
        return spread * (ratio**2 - 1).sqrt()
