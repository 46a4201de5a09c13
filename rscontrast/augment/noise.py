"""Noise of the sensor: additive by signal-to-noise, multiplicative as radar's speckle."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rscontrast.augment.draws import Draws, Probability, Range, interval, probability
from rscontrast.augment.operations import Operation, Params, mean_spectrum
from rscontrast.errors import InputError


@dataclass(frozen=True)
class Noise(Operation):
    """Noise of a given signal-to-noise ratio: y_c = x_c + n |mean_c| / snr, n ~ N(0, 1).

    snr is log-uniform in ``snr`` for each band of each image; mean_c is that of the band over the
    image. The source is the definition of the ratio; the range is a reconstruction (Sentinel-2 was
    required to reach 50 to 174 at its reference radiance).
    """

    snr: Range = (20.0, 200.0)
    p: Probability = 0.3
    still: ClassVar[Mapping[str, float]] = {"relative": 0}

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        interval("snr", self.snr)
        if not self.snr[0] > 0:
            raise InputError("snr", self.snr, "ratios above 0")
        probability("p", self.p)

    def sample(self, draws: Draws) -> dict[str, Tensor]:
        """Draw ``relative`` [N, C], which is 1 / snr, and ``noise`` [N, C, H, W]."""
        relative = 1 / draws.log_uniform(*self.snr, draws.bands)
        return {"relative": relative, "noise": draws.normal(draws.bands, *draws.shape)}

    def apply(self, images: Tensor, params: Params) -> Tensor:
        """Add the noise."""
        spread = mean_spectrum(images).abs() * params["relative"]
        spread, noise = spread[:, :, None, None].to(images.dtype), params["noise"].to(images.dtype)
        return torch.addcmul(images, spread, noise)


@dataclass(frozen=True)
class Speckle(Operation):
    """Speckle of L looks in intensity: y = x s, s ~ Gamma(shape L, scale 1 / L), mean 1.

    L is a whole number, uniform in ``looks`` for each image. Of linear power, not of decibels.
    Source: Goodman (1976), fully developed speckle: the mean of L exponential variables.
    """

    looks: tuple[int, int] = (4, 16)
    p: Probability = 0.5
    still: ClassVar[Mapping[str, float]] = {"speckle": 1}

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        interval("looks", self.looks, 1)
        if any(look != int(look) for look in self.looks):
            raise InputError("looks", self.looks, "whole numbers, 1 or more")
        probability("p", self.p)

    def sample(self, draws: Draws) -> dict[str, Tensor]:
        """Draw ``speckle`` [N, C, H, W]."""
        least, most = self.looks
        looks = draws.uniform(least, most + 1).floor().clamp(max=most).view(-1, 1, 1, 1)
        size = (draws.count, draws.bands, *draws.shape)
        total, one = torch.zeros(size, device=draws.device), torch.empty(size, device=draws.device)
        for look in range(most):
            # Images of fewer looks leave the later ones out.
            total.addcmul_(one.exponential_(generator=draws.generator), (look < looks).float())
        return {"speckle": total / looks}

    def apply(self, images: Tensor, params: Params) -> Tensor:
        """Multiply."""
        return images * params["speckle"].to(images.dtype)
