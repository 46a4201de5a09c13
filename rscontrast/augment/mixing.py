"""Views of two patches mixed cell by cell: what de-coupling is trained on."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rscontrast.augment.cutout import RegionCutout, spread
from rscontrast.augment.draws import Draws, Range, interval, probability


class Mixed(NamedTuple):
    """Views of which a part is another patch's."""

    images: Tensor
    """[N, C, H, W]."""
    kept: Tensor
    """[N, h, w] bool: cells that are still of the view's own patch."""


@dataclass(frozen=True)
class RegionMix:
    """Region collaborative cutout on the grid of cells, filled from the image before in the batch.

    Source: the follow-up to arXiv 2303.16947 (ICLR 2024, "Mind Your Augmentation"), with its
    released settings. Reconstruction: a view of which nothing is cut has no complement, which
    would be all of another patch.
    """

    share: Range = (0.2, 0.6)
    """Range of the share that is cut of each of nine regions."""
    p: float = 0.5
    """Probability that anything is cut of a view."""
    complement: float = 0.5
    """Probability that the rest is replaced instead of what was cut."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        interval("share", self.share, 0, 1)
        probability("p", self.p)
        probability("complement", self.complement)

    @torch.no_grad()
    def __call__(
        self, images: Tensor, cells: tuple[int, int], generator: torch.Generator | None = None
    ) -> Mixed:
        """Mix.

        Args:
            images: [N, C, H, W], neighbours of different patches.
            cells: (h, w) of the feature map: whole cells are replaced.
            generator: of the images' device; None: torch's own.
        """
        count, bands, height, width = images.shape
        cutout = RegionCutout(self.share, max(3, *cells), "swap", self.p)
        drawn = cutout.draw(
            count, bands, (height, width), device=images.device, generator=generator
        )
        cut = spread(drawn["cut"], cells)
        draws = Draws(count, bands, (height, width), images.device, generator)
        swapped = draws.coin(self.complement) & cut.flatten(1).any(1)
        cut = cut ^ swapped[:, None, None]
        # The image before, by turns: neighbours are different patches, other ones may not be.
        donor = -torch.ones_like(drawn["donor"])
        return Mixed(cutout.apply(images, {"cut": cut, "donor": donor}), ~cut)
