"""Two dates of one place become two views: geometry by kornia, then the spectrum."""

import kornia.augmentation as K
import torch
from torch import Tensor, nn
from torchgeo.datasets.utils import Sample

from rscontrast.augment.normalise import Normalise
from rscontrast.augment.spectral import SpectralJitter
from rscontrast.errors import InputError
from rscontrast.types import SensorContract


class PairViews(nn.Module):
    """Batch in, two augmented, normalised views out; everything on the device of the batch.

    Overhead imagery has no up, so all eight symmetries of the square are equally likely.
    """

    def __init__(
        self,
        contract: SensorContract,
        size: int,
        *,
        min_scale: float = 0.3,
        same_geometry: bool = False,
        gain: float = 0.3,
        band_gain: float = 0.1,
        offset: float = 0.02,
        blur: float = 0.3,
        flatten: bool = False,
    ) -> None:
        """Set the recipe.

        Args:
            contract: bands and their statistics.
            size: side of a view, pixels.
            min_scale: least share (0-1] of the patch's area that a view shows.
            same_geometry: both dates get the same crop and symmetry.
            gain: see :class:`rscontrast.augment.SpectralJitter`, also the next two.
            band_gain: of each band.
            offset: in reflectance.
            blur: probability of a Gaussian blur, sigma U(0.1, 2) pixels.
            flatten: views as [B, 2C, H, W], the layout of TorchGeo's own tasks.

        Raises:
            InputError: out of range.
        """
        super().__init__()
        if not 0 < min_scale <= 1:
            raise InputError("min_scale", min_scale, "a share above 0 and up to 1")
        if not 0 <= blur <= 1:
            raise InputError("blur", blur, "a probability")
        self.same_geometry, self.flatten = same_geometry, flatten
        crop = K.RandomResizedCrop((size, size), scale=(min_scale, 1.0), ratio=(3 / 4, 4 / 3))
        self.geometry = K.AugmentationSequential(crop, *_dihedral(), data_keys=["input", "mask"])
        self.jitter = SpectralJitter(gain, band_gain, offset)
        kernel = max(3, size // 10 // 2 * 2 + 1)
        self.blur = K.RandomGaussianBlur((kernel, kernel), (0.1, 2.0), p=blur)
        self.normalise = Normalise(contract)

    @torch.no_grad()
    def forward(self, batch: Sample) -> Sample:
        """Make views.

        Args:
            batch: ``image`` [B, 2, C, H, W] reflectance, ``valid`` [B, 2, H, W] bool.

        Returns:
            the batch with ``image`` [B, 2, C, size, size], normalised, and its ``valid``.
        """
        # A crop and a blur mix neighbours: an unusable one counts as the mean, not as black.
        known = batch["valid"].unsqueeze(2)
        image = torch.where(known, batch["image"], self.normalise.mean.to(known.device))
        valid = known.to(image.dtype)
        together = (1, 2) if self.same_geometry else (0, 1)
        image, valid = self.geometry(image.flatten(*together), valid.flatten(*together))
        shape = (-1, 2, *image.shape[-2:])
        bands = batch["image"].shape[2]
        image = image.reshape(-1, bands, *image.shape[-2:])
        image = self.blur(self.jitter(image))
        usable = valid.reshape(shape) > 0.5
        views = self.normalise(image.unflatten(0, (-1, 2)), usable)
        views = views.flatten(1, 2) if self.flatten else views
        return {**batch, "image": views, "valid": usable}


class Dihedral(nn.Module):
    """One of the eight symmetries of the square for each pair and its labels, then normalised."""

    def __init__(
        self, contract: SensorContract, *, gain: float = 0.1, offset: float = 0.01
    ) -> None:
        """Take the statistics of ``contract``; ``gain`` and ``offset`` as in SpectralJitter."""
        super().__init__()
        keys = ["input", "mask", "mask"]
        self.geometry = K.AugmentationSequential(*_dihedral(), data_keys=keys)
        self.jitter = SpectralJitter(gain, gain / 2, offset)
        self.normalise = Normalise(contract)

    @torch.no_grad()
    def forward(self, batch: Sample) -> Sample:
        """Turn ``image`` [B, 2, C, H, W], ``valid`` [B, 2, H, W] and ``mask`` [B, H, W] alike."""
        image, dtype = batch["image"], batch["image"].dtype
        masks = (batch["valid"].to(dtype), batch["mask"].unsqueeze(1).to(dtype))
        turned, valid, mask = self.geometry(image.flatten(1, 2), *masks)
        jittered = self.jitter(turned.reshape(-1, *image.shape[2:])).unflatten(0, (-1, 2))
        usable = valid > 0.5
        labels = mask.squeeze(1).round().long()
        return {**batch, "image": self.normalise(jittered, usable), "valid": usable, "mask": labels}


def _dihedral() -> tuple[K.GeometricAugmentationBase2D, ...]:
    return (
        K.RandomHorizontalFlip(p=0.5),
        K.RandomVerticalFlip(p=0.5),
        K.RandomRotation90(times=(0, 1), p=1.0, resample="nearest"),
    )


def as_pair(image: Tensor, in_channels: int) -> Tensor:
    """Bring both layouts of a pair to one.

    Args:
        image: [B, 2, C, H, W] or [B, 2C, H, W].
        in_channels: C.

    Returns:
        [B, 2, C, H, W].

    Raises:
        InputError: another shape.
    """
    if image.ndim == 4 and image.shape[1] == 2 * in_channels:
        image = torch.unflatten(image, 1, (2, in_channels))
    if image.ndim != 5 or image.shape[1:3] != (2, in_channels):
        allowed = f"[B, 2, {in_channels}, H, W] or [B, {2 * in_channels}, H, W]"
        raise InputError("image", list(image.shape), allowed)
    return image
