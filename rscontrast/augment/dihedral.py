"""Symmetries of labelled patches."""

import torch
from torch import nn
from torchgeo.datasets.utils import Sample

from rscontrast.augment.device import precise
from rscontrast.augment.geometry import Geometry, draw
from rscontrast.augment.normalise import Normalise
from rscontrast.augment.replay import Seeds
from rscontrast.augment.spectral import Gain
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
        """Set the ranges.

        Args:
            contract: bands and their statistics.
            gain: see :class:`rscontrast.augment.SpectralJitter`; of each band half of it.
            offset: in reflectance.
            seed: of all draws, see :class:`rscontrast.augment.replay.Seeds`; None: torch's own.

        Raises:
            InputError: out of range.
        """
        super().__init__()
        self.jitter = Gain(gain, gain / 2, offset)
        self.seeds = Seeds(seed)
        self.normalise = Normalise(contract)

    @torch.no_grad()
    def forward(self, batch: Sample) -> Sample:
        """Turn ``image`` [B, 2, C, H, W], ``valid`` [B, 2, H, W] and ``mask`` [B, H, W] alike."""
        # What is unusable may be NaN, of which no sum is free.
        image = batch["image"].masked_fill(~batch["valid"].unsqueeze(2), 0)
        shape, generator = (image.shape[-2], image.shape[-1]), self.seeds.batch(image.device)
        matrix = draw(
            Geometry(shape, scale=(1, 1), ratio=(1, 1)), len(image), 1, shape,
            device=image.device, generator=generator,
        )  # fmt: skip
        warp = Warp(matrix, shape, shape)
        turned = warp.nearest(image.flatten(1, 2).unsqueeze(1), 0)
        usable = warp.nearest(batch["valid"].unsqueeze(1), outside=False).squeeze(1)
        labels = warp.nearest(batch["mask"][:, None, None])[:, 0, 0]
        dates = turned.reshape(-1, *image.shape[2:])
        drawn = self.jitter.draw(
            len(dates), dates.shape[1], shape, device=image.device, generator=generator
        )
        with precise(image.device):
            jittered = self.jitter.apply(dates, drawn).view_as(image)
        made = self.normalise(jittered, usable)
        return {**batch, "image": made, "valid": usable, "mask": labels.long()}
