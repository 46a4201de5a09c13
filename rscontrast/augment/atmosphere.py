"""Haze, thin cloud, shadow and the sun's angle: what lies between the ground and the sensor."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from rscontrast.augment.colour import diagonal
from rscontrast.augment.device import fixed
from rscontrast.augment.draws import (
    Draws,
    Probability,
    Range,
    interval,
    is_number,
    probability,
    within,
)
from rscontrast.augment.operations import Affine, Operation, Params
from rscontrast.errors import InputError

type Wavelengths = tuple[float, ...] | None
"""Of each band, micrometres; None: all bands alike."""

FIELD = 6
"""Cells along a side of the coarse field that clouds and shadows are shaped by."""

GRID = 48
"""Points along a side of the image at which the cover of a field is measured."""
RIM = 8.0
"""How much steeper the rim of a shadow is than that of a cloud."""
EXPONENT = 8.0
"""Greatest power of the wavelength; Rayleigh's is 4."""


@dataclass(frozen=True)
class Haze(Affine):
    """Uniform haze: y_c = x_c t_c + a (1 - t_c), t_c = exp(-d (l_c / 0.55)^-e).

    Optical depth d ~ U(*depth) at 0.55 micrometres, airlight a ~ U(*airlight) in reflectance, l_c
    the band's wavelength, e the Angstrom exponent (0: grey; 1.3: common aerosol).
    Source: Koschmieder's law as in He et al. (CVPR 2009, eq. 1); Angstrom (1929) for the exponent;
    the ranges are a reconstruction.
    """

    depth: Range = (0.0, 0.5)
    airlight: Range = (0.15, 0.35)
    exponent: float = 1.3
    wavelengths: Wavelengths = None
    p: Probability = 0.3
    still: ClassVar[Mapping[str, float]] = {"depth": 0}

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        interval("depth", self.depth)
        interval("airlight", self.airlight, 0, 1)
        probability("p", self.p)
        _check_spectrum(self.wavelengths, self.exponent)

    def sample(self, draws: Draws) -> dict[str, Tensor]:
        """Draw ``depth`` and ``airlight``, both [N]."""
        return {"depth": draws.uniform(*self.depth), "airlight": draws.uniform(*self.airlight)}

    def matrix(self, params: Params, mean: Tensor) -> Tensor:
        """Return a diagonal map."""
        relative = _relative_depth(self.wavelengths, self.exponent, mean)
        passed = torch.exp(-params["depth"].to(mean.dtype).unsqueeze(1) * relative)
        airlight = params["airlight"].to(mean.dtype).unsqueeze(1)
        return diagonal(passed, airlight * (1 - passed))


@dataclass(frozen=True)
class Sun(Affine):
    """Another height of the sun over flat ground: y_c = x_c E_c(z) / E_c(z0).

    E_c(z) = cos(z) exp(-d_c / cos(z)), zenith angle z ~ U(*zenith) degrees, z0 = ``reference``,
    d_c = ``depth`` (l_c / 0.55)^-``exponent``: a low sun is dimmer, and dimmest in the blue.
    Source: Lambert's cosine law and Beer's law; 4 is Rayleigh's exponent; the ranges are a
    reconstruction.
    """

    zenith: Range = (20.0, 60.0)
    reference: float = 40.0
    depth: float = 0.1
    exponent: float = 4.0
    wavelengths: Wavelengths = None
    p: Probability = 0.5
    still: ClassVar[Mapping[str, float]] = {"zenith": torch.nan}

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        interval("zenith", self.zenith, 0, 85)
        within("reference", self.reference, 0, 85)
        within("depth", self.depth)
        probability("p", self.p)
        _check_spectrum(self.wavelengths, self.exponent)

    def sample(self, draws: Draws) -> dict[str, Tensor]:
        """Draw ``zenith`` [N], degrees."""
        return {"zenith": draws.uniform(*self.zenith)}

    def matrix(self, params: Params, mean: Tensor) -> Tensor:
        """Return a diagonal map; a zenith of NaN changes nothing."""
        depth = self.depth * _relative_depth(self.wavelengths, self.exponent, mean)
        height = params["zenith"].to(mean.dtype).deg2rad().cos().unsqueeze(1)
        known = math.cos(math.radians(self.reference))
        gain = height / known * torch.exp(depth / known - depth / height)
        return diagonal(gain.nan_to_num(nan=1.0), torch.zeros_like(mean))


@dataclass(frozen=True)
class ThinCloud(Operation):
    """Thin cloud over part of the image: y_c = x_c (1 - o) + b o, o the opacity of the pixel.

    o = opacity * m, m from 0 to 1 a smooth field that is above 0 on ``cover`` of the image;
    opacity ~ U(*opacity), cover ~ U(*cover), brightness b ~ U(*brightness) in reflectance, the
    same in all bands: droplets are larger than the wavelengths. A reconstruction.
    """

    opacity: Range = (0.1, 0.6)
    cover: Range = (0.2, 0.8)
    brightness: Range = (0.4, 0.8)
    p: Probability = 0.2
    still: ClassVar[Mapping[str, float]] = {"opacity": 0}

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        for name in ("opacity", "cover", "brightness"):
            interval(name, getattr(self, name), 0, 1)
        probability("p", self.p)

    def sample(self, draws: Draws) -> dict[str, Tensor]:
        """Draw ``opacity``, ``cover`` and ``brightness`` [N], and ``field`` [N, 1, F, F]."""
        drawn = {name: draws.uniform(*getattr(self, name)) for name in ("opacity", "cover")}
        drawn["brightness"] = draws.uniform(*self.brightness)
        return {**drawn, "field": draws.unit(1, FIELD, FIELD)}

    def apply(self, images: Tensor, params: Params) -> Tensor:
        """Blend with the cloud."""
        opacity, brightness = (_column(params[name]) for name in ("opacity", "brightness"))
        field = patches(params["field"], params["cover"], images.shape[-2:])
        cloud = opacity * field.clamp(min=0)
        return torch.lerp(images, brightness.to(images.dtype), cloud.to(images.dtype))


@dataclass(frozen=True)
class Shadow(Operation):
    """Shadow over part of the image: y_c = x_c (1 - m (1 - d_c)), d_c the diffuse share of light.

    m is 0 in the light and 1 in the shadow, which covers ``cover`` ~ U(*cover) of the image to the
    middle of its narrow rim; d_c = diffuse^((l_c / 0.55)^``exponent``), diffuse ~ U(*diffuse):
    shadow is lit by the sky, thus bluish. A reconstruction.
    """

    diffuse: Range = (0.2, 0.6)
    cover: Range = (0.05, 0.4)
    exponent: float = 1.0
    wavelengths: Wavelengths = None
    p: Probability = 0.2
    still: ClassVar[Mapping[str, float]] = {"diffuse": 1}

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        interval("diffuse", self.diffuse, 0, 1)
        interval("cover", self.cover, 0, 1)
        probability("p", self.p)
        _check_spectrum(self.wavelengths, self.exponent)

    def sample(self, draws: Draws) -> dict[str, Tensor]:
        """Draw ``diffuse`` and ``cover`` [N], and ``field`` [N, 1, F, F]."""
        drawn = {"diffuse": draws.uniform(*self.diffuse), "cover": draws.uniform(*self.cover)}
        return {**drawn, "field": draws.unit(1, FIELD, FIELD)}

    def apply(self, images: Tensor, params: Params) -> Tensor:
        """Dim the shadow."""
        spread = images.new_ones(images.shape[:2], dtype=torch.float32)
        relative = _relative_depth(self.wavelengths, -self.exponent, spread)
        diffuse = params["diffuse"].unsqueeze(1) ** relative
        field = patches(params["field"], params["cover"], images.shape[-2:])
        shade = (RIM * field + 0.5).clamp(0, 1)
        loss = shade * (1 - diffuse)[:, :, None, None]
        return images * (1 - loss).to(images.dtype)


def patches(field: Tensor, cover: Tensor, shape: Sequence[int]) -> Tensor:
    """Shape a coarse field of U(0, 1) into smooth patches.

    Args:
        field: [N, 1, F, F].
        cover: [N], the share of the image on which the result is above 0.
        shape: (H, W).

    Returns:
        [N, 1, H, W], up to 1; below 0 everywhere where ``cover`` is 0.
    """
    # Ranks instead of values: so all fields reach about as high.
    rank = field.flatten(1).argsort(dim=1).argsort(dim=1).view_as(field)
    height = (rank + 0.5) / rank[0].numel()
    # The level that the wanted share is above: of few points, for all would have to be sorted.
    points = _smooth(height, (GRID, GRID)).flatten(1).sort(dim=1, descending=True).values
    below = (cover * (points.shape[1] - 1)).long().unsqueeze(1)
    level = points.gather(1, below).masked_fill_(cover.unsqueeze(1) <= 0, 2)
    span = (points[:, :1] - level).clamp(min=1e-3)
    return ((_smooth(height, shape) - _column(level)) / _column(span)).clamp(max=1)


def _smooth(height: Tensor, shape: Sequence[int]) -> Tensor:
    return interpolate(height, tuple(shape), mode="bicubic", align_corners=False)


def _relative_depth(wavelengths: Wavelengths, exponent: float, like: Tensor) -> Tensor:
    """Optical depth [C] relative to that at 0.55 micrometres, by Angstrom's law."""
    bands = like.shape[1]
    if wavelengths is None:
        return like.new_ones(bands)
    if len(wavelengths) != bands:
        raise InputError("wavelengths", wavelengths, f"one for each of {bands} bands")
    return (fixed(wavelengths, like) / 0.55) ** -exponent


def _check_spectrum(wavelengths: Wavelengths, exponent: float) -> None:
    within("exponent", exponent, -EXPONENT, EXPONENT)
    if wavelengths is None:
        return
    numbers = isinstance(wavelengths, tuple | list) and all(map(is_number, wavelengths))
    if not numbers or not min(wavelengths, default=-1) > 0:
        raise InputError("wavelengths", wavelengths, "None, or micrometres above 0 for each band")


def _column(value: Tensor) -> Tensor:
    return value.view(-1, 1, 1, 1)
