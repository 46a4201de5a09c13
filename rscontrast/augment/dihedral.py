"""Symmetries of labelled patches."""

import torch
from torch import Tensor, nn
from torchgeo.datasets.utils import Sample

from rscontrast.augment.geometry import Geometry, draw
from rscontrast.augment.normalise import Normalise
from rscontrast.augment.spectral import SpectralJitter
from rscontrast.augment.warp import Warp
from rscontrast.types import SensorContract


class Dihedral(nn.Module):
    """One of the symmetries of the patch for each pair and its labels, then normalised.

    They are eight of a square and four of another patch; pixels are moved, never mixed.
    """

    def __init__(
        self,
        contract: SensorContract,
        *,
        gain: float = 0.1,
        offset: float = 0.01,
        seed: int | None = None,
    ) -> None:
        """Take the statistics of ``contract``; ``gain`` and ``offset`` as in SpectralJitter."""
        super().__init__()
        self.jitter = SpectralJitter(gain, gain / 2, offset)
        self.normalise = Normalise(contract)

    @torch.no_grad()
    def forward(self, batch: Sample) -> Sample:
        """Turn ``image`` [B, 2, C, H, W], ``valid`` [B, 2, H, W] and ``mask`` [B, H, W] alike."""
        image = batch["image"]
        shape = (image.shape[-2], image.shape[-1])
        whole_patch = Geometry(shape, scale=(1, 1), ratio=(1, 1))
        warp = Warp(draw(whole_patch, len(image), 1, shape, device=image.device), shape, shape)
        turned = warp.nearest(image.flatten(1, 2).unsqueeze(1), 0).squeeze(1)
        usable = warp.nearest(batch["valid"].unsqueeze(1), outside=False).squeeze(1)
        labels = warp.nearest(batch["mask"][:, None, None])[:, 0, 0]
        jittered = self.jitter(turned.reshape(-1, *image.shape[2:])).unflatten(0, (-1, 2))
        image = self.normalise(jittered, usable)
        return {**batch, "image": image, "valid": usable, "mask": labels.long()}
