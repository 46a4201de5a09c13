"""Augmentations of reflectance that hold for any number of bands."""

import torch
from torch import Tensor, nn

from rscontrast.errors import InputError


class SpectralJitter(nn.Module):
    """Illumination, atmosphere and sensor: x * gain * band_gain + offset, drawn for each image.

    gain ~ U(1 - g, 1 + g) and offset ~ U(-o, o) for the image, band_gain ~ U(1 - b, 1 + b) for
    each band. A reconstruction: the counterpart of colour jitter for bands without hue.
    """

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
        for name, value in (("gain", gain), ("band_gain", band_gain)):
            if not 0 <= value < 1:
                raise InputError(name, value, "0 to below 1")
        if not offset >= 0:
            raise InputError("offset", offset, "0 or more, in reflectance")
        self.gain, self.band_gain, self.offset = gain, band_gain, offset

    def forward(self, images: Tensor) -> Tensor:
        """Jitter [B, C, H, W]; each image draws its own numbers."""
        count, bands = images.shape[:2]

        def draw(channels: int, width: float) -> Tensor:
            unit = torch.rand(count, channels, 1, 1, device=images.device, dtype=images.dtype)
            return width * (2 * unit - 1)

        gain = (1 + draw(1, self.gain)) * (1 + draw(bands, self.band_gain))
        return images * gain + draw(1, self.offset)
