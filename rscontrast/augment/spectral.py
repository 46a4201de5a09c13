"""Gains, offsets and lost bands: what calibration and illumination do to a spectrum."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from rscontrast.augment.colour import diagonal
from rscontrast.augment.draws import Draws, Probability, probability, within
from rscontrast.augment.operations import Affine, Params
from rscontrast.errors import InputError


@dataclass(frozen=True)
class Gain(Affine):
    """Illumination, atmosphere and sensor: y_c = x_c * gain * band_gain_c + offset + band_offset_c.

    gain ~ U(1 - g, 1 + g) and offset ~ U(-o, o) for the image, band_gain and band_offset likewise
    for each band. A reconstruction: the counterpart of colour jitter for bands without hue.
    """

    gain: float = 0.3
    band_gain: float = 0.1
    offset: float = 0.02
    band_offset: float = 0.0
    p: Probability = 1.0
    still: ClassVar[Mapping[str, float]] = {"gain": 1, "offset": 0}

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        for name in ("gain", "band_gain"):
            within(name, getattr(self, name), 0, 1)
            if getattr(self, name) == 1:
                raise InputError(name, 1, "0 to below 1")
        for name in ("offset", "band_offset"):
            within(name, getattr(self, name))
        probability("p", self.p)

    def sample(self, draws: Draws) -> dict[str, Tensor]:
        """Draw ``gain`` and ``offset``, both [N, C]."""

        def around(middle: float, image: float, band: float) -> tuple[Tensor, Tensor]:
            return (
                draws.uniform(middle - image, middle + image, 1),
                draws.uniform(middle - band, middle + band, draws.bands),
            )

        gain, band_gain = around(1, self.gain, self.band_gain)
        offset, band_offset = around(0, self.offset, self.band_offset)
        return {"gain": gain * band_gain, "offset": offset + band_offset}

    def matrix(self, params: Params, mean: Tensor) -> Tensor:
        """Return a diagonal map."""
        return diagonal(params["gain"].to(mean.dtype), params["offset"].to(mean.dtype))


@dataclass(frozen=True)
class BandDropout(Affine):
    """Each band is lost with probability ``share``: all its pixels become its mean.

    At least one band stays. A reconstruction; the mean, so that a lost band is near 0 after
    normalisation, which is what an unusable pixel is too.
    """

    share: float = 0.2
    p: Probability = 0.5
    still: ClassVar[Mapping[str, float]] = {"kept": 1}

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        within("share", self.share, 0, 1)
        probability("p", self.p)

    def sample(self, draws: Draws) -> dict[str, Tensor]:
        """Draw ``kept`` [N, C], 1 or 0."""
        unit = draws.unit(draws.bands)
        kept = (unit >= self.share) | (unit == unit.amax(dim=1, keepdim=True))
        return {"kept": kept.float()}

    def matrix(self, params: Params, mean: Tensor) -> Tensor:
        """Return a diagonal map."""
        kept = params["kept"].to(mean.dtype)
        return diagonal(kept, (1 - kept) * mean)


class SpectralJitter(nn.Module):
    """:class:`Gain` as a module, for a batch of images; nothing is clamped."""

    def __init__(self, gain: float = 0.3, band_gain: float = 0.1, offset: float = 0.02) -> None:
        """Set the ranges.

        Args:
            gain: g, 0 to below 1.
            band_gain: b, 0 to below 1.
            offset: o, in reflectance, 0 or more.

        Raises:
            InputError: out of range.
        """
        super().__init__()
        self.operation = Gain(gain, band_gain, offset)

    def forward(self, images: Tensor) -> Tensor:
        """Jitter [B, C, H, W]; each image draws its own numbers."""
        count, bands, height, width = images.shape
        params = self.operation.draw(count, bands, (height, width), device=images.device)
        return self.operation.apply(images, params)
