"""Brightness, contrast, saturation and grey for C bands, and solarisation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rscontrast.augment.colour import blend, compose, constant, diagonal, through
from rscontrast.augment.device import fixed
from rscontrast.augment.draws import Draws, Probability, probability, within
from rscontrast.augment.operations import Affine, Operation, Params
from rscontrast.errors import InputError


@dataclass(frozen=True)
class Grey:
    """What grey means for C bands: y_c = mean_c + std_c sum_k w_k (x_k - mean_k) / std_k.

    Without statistics y_c = sum_k w_k x_k, as of red, green and blue. With a sensor's, each band
    keeps the range that a network knows it by: a reconstruction, the same for bands alike.
    """

    weights: tuple[float, ...] | None = None
    """Share of each band, scaled to a sum of 1; None: all alike."""
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if self.weights is not None and not (min(self.weights) >= 0 and sum(self.weights) > 0):
            raise InputError("weights", self.weights, "None, or one of 0 or more for each band")
        if self.std is not None and not min(self.std) > 0:
            raise InputError("std", self.std, "None, or one above 0 for each band")

    def map(self, like: Tensor) -> Tensor:
        """Return the map [1, C, C + 1], of the bands, device and dtype of ``like`` [N, C]."""
        bands = like.shape[1]
        weights = self._each("weights", 1.0, like)
        mean, std = self._each("mean", 0.0, like), self._each("std", 1.0, like)
        row = weights / weights.sum() / std
        linear = std.unsqueeze(1) * row
        shift = mean - linear @ mean
        return torch.cat([linear, shift.unsqueeze(1)], dim=1).view(1, bands, bands + 1)

    def _each(self, name: str, default: float, like: Tensor) -> Tensor:
        value = getattr(self, name) or (default,) * like.shape[1]
        if len(value) != like.shape[1]:
            raise InputError(name, value, f"one for each of {like.shape[1]} bands")
        return fixed(tuple(value), like)


@dataclass(frozen=True)
class Jitter(Affine):
    """Colour jitter: four changes in an order that each image draws.

    - brightness: y = f x, f ~ U(max(0, 1 - b), 1 + b).
    - contrast: y_c = f x_c + (1 - f) mean_c, mean_c that of the band over the image at that step.
    - saturation: y_c = f x_c + (1 - f) grey_c; see :class:`Grey`.
    - hue: y_c = f_c x_c, f_c ~ U(1 - h, 1 + h) for each band.

    The first three are SimCLR's (arXiv 2002.05709, appendix A; the band's own mean in contrast is
    that of its released code), without clamping in between. The
    last is a reconstruction: hue is an angle among red, green and blue, which C bands do not have;
    what shifts it, the ratio of the bands, is drawn in its stead.
    """

    brightness: float = 0.8
    contrast: float = 0.8
    saturation: float = 0.8
    hue: float = 0.2
    p: Probability = 0.8
    grey: Grey = Grey()
    still: ClassVar[Mapping[str, float]] = {"factors": 1, "gains": 1}

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        for name in ("brightness", "contrast", "saturation"):
            within(name, getattr(self, name))
        within("hue", self.hue, 0, 1)
        probability("p", self.p)

    def sample(self, draws: Draws) -> dict[str, Tensor]:
        """Draw ``factors`` [N, 3], ``gains`` [N, C], and ``order`` [N, 4] of the four changes."""
        widths = (self.brightness, self.contrast, self.saturation)
        factors = [draws.uniform(max(0.0, 1 - width), 1 + width) for width in widths]
        return {
            "factors": torch.stack(factors, dim=1),
            "gains": draws.uniform(1 - self.hue, 1 + self.hue, draws.bands),
            "order": draws.unit(4).argsort(dim=1),
        }

    def matrix(self, params: Params, mean: Tensor) -> Tensor:
        """Compose the four, each image in its own order."""
        whole = diagonal(torch.ones_like(mean), torch.zeros_like(mean))
        for step in range(4):
            maps = torch.stack(self._maps(params, through(whole, mean)), dim=1)
            chosen = params["order"][:, step].view(-1, 1, 1, 1)
            chosen = chosen.expand(-1, 1, *maps.shape[2:])
            whole = compose(whole, maps.gather(1, chosen).squeeze(1))
        return whole

    def _maps(self, params: Params, mean: Tensor) -> list[Tensor]:
        brightness, contrast, saturation = params["factors"].to(mean.dtype).unbind(dim=1)
        none = torch.zeros_like(mean)
        return [
            diagonal(brightness.unsqueeze(1).expand_as(mean), none),
            blend(contrast, constant(mean)),
            blend(saturation, self.grey.map(mean)),
            diagonal(params["gains"].to(mean.dtype), none),
        ]


@dataclass(frozen=True)
class Grayscale(Affine):
    """Every band becomes the weighted sum of all; see :class:`Grey`.

    Source: SimCLR (arXiv 2002.05709, appendix A).
    """

    p: Probability = 0.2
    grey: Grey = Grey()
    still: ClassVar[Mapping[str, float]] = {"colour": 1}

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        probability("p", self.p)

    def sample(self, draws: Draws) -> dict[str, Tensor]:
        """Return ``colour`` [N]: the share of it that stays, 0 (or 1 where the coin says so)."""
        return {"colour": torch.zeros(draws.count, device=draws.device)}

    def matrix(self, params: Params, mean: Tensor) -> Tensor:
        """Blend the image with its grey."""
        return blend(params["colour"].to(mean.dtype), self.grey.map(mean))


@dataclass(frozen=True)
class Solarize(Operation):
    """Invert what is bright: y = top - x where x >= threshold * top, top the band's greatest.

    Source: BYOL (arXiv 2006.07733, appendix B) for images that fill 0 to 1, where top is 1. Its own
    top for each band of each image is a reconstruction: reflectance seldom comes near 1.
    """

    threshold: float = 0.5
    p: Probability = 0.2
    still: ClassVar[Mapping[str, float]] = {"threshold": torch.inf}

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        within("threshold", self.threshold, 0, 1)
        probability("p", self.p)

    def sample(self, draws: Draws) -> dict[str, Tensor]:
        """Return ``threshold`` [N]: the setting (or infinity where the coin says so)."""
        return {"threshold": torch.full((draws.count,), self.threshold, device=draws.device)}

    def apply(self, images: Tensor, params: Params) -> Tensor:
        """Invert the bright pixels of each band."""
        threshold = params["threshold"].to(images.dtype).view(-1, 1, 1, 1)
        top = images.amax(dim=(2, 3), keepdim=True)
        bright = (images >= threshold * top) & threshold.isfinite()
        return torch.where(bright, top - images, images)
