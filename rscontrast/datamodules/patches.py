"""Each patch of each place at each of its dates, once: what is predicted on."""

import geopandas as gpd
import numpy as np
import torch
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchgeo.datasets.utils import Sample

from rscontrast.augment import Normalise
from rscontrast.datasets import STACDataset
from rscontrast.io.grid import apply_affine, crs_wkt, transformer
from rscontrast.samplers import GriddedPlaceSampler, TemporalPairSampler
from rscontrast.types import SensorContract

POINTS = 4
"""Points of each side of an outline: sides that are straight on a grid bend in degrees."""


class DatedPatches(Dataset[Sample]):
    """The patches of a grid over the ground of pairs, at each date of these, in a fixed order.

    A sample has ``image`` [C, H, W] reflectance and ``valid`` [1, H, W]; ``dates`` [1], unix
    seconds; ``transform`` and ``bounds`` as in any GeoDataset; and ``outline`` [K, 2] float64,
    longitude and latitude around the patch as it is read, whatever the CRS of its grid. Across
    the antimeridian longitudes run on (179, 181); around a pole there is no such outline.
    """

    thread_safe = True
    """Many threads may read samples at once."""

    def __init__(
        self, images: STACDataset, pairs: gpd.GeoDataFrame, size: int, tolerance: str
    ) -> None:
        """List the patches.

        Args:
            images: the items of the pairs.
            pairs: whose dates and ground count.
            size: side of a patch, pixels.
            tolerance: as the pairs were made with.

        Raises:
            InputError: the tables do not fit each other, or the patch does not fit the places.
        """
        self.images = images
        pairings = TemporalPairSampler(images, pairs=pairs, tolerance=tolerance, generator=0)
        self.draws: list[tuple[slice, slice, slice]] = []
        for x, y in GriddedPlaceSampler(images, size=size, roi=pairings.roi):
            times = {t for *_, both in pairings._iter_subset((x, y)) for t in both}
            # With steps, which a grid leaves open.
            patch = [
                slice(side.start, side.stop, step)
                for side, step in zip((x, y), images.res, strict=True)
            ]
            in_time = sorted(times, key=lambda t: (t.start, t.stop))
            self.draws += [(patch[0], patch[1], t) for t in in_time]

    def __len__(self) -> int:
        """Patches and dates."""
        return len(self.draws)

    def __getitem__(self, index: int) -> Sample:
        """Read one.

        Raises:
            AssetError: a file cannot be read.
        """
        x, y, t = self.draws[index]
        sample: Sample = self.images[x, y, t]
        return sample | {
            "outline": torch.from_numpy(outline(self.images.geobox(x, y))),
            "dates": torch.tensor([t.start.timestamp()], dtype=torch.float64),
        }


def outline(geobox: GeoBox) -> NDArray[np.float64]:
    """Longitude and latitude around a grid, closed, [4 * POINTS + 1, 2]; they do not jump."""
    height, width = geobox.shape
    way = np.arange(POINTS) / POINTS
    none, all_of = np.zeros(POINTS), np.ones(POINTS)
    cols = width * np.concatenate([way, all_of, 1 - way, none, [0]])
    rows = height * np.concatenate([none, way, all_of, 1 - way, [0]])
    x, y = apply_affine(geobox.transform, cols, rows)
    lon, lat = transformer(crs_wkt(geobox), "EPSG:4326").transform(x, y)
    jump = 360 * np.round((lon - lon[0]) / 360)
    return np.column_stack([lon - jump, lat])


class NormalisePatches(nn.Module):
    """Normalise a batch of one date, and nothing else."""

    def __init__(self, contract: SensorContract) -> None:
        """Take the statistics of ``contract``."""
        super().__init__()
        self.normalise = Normalise(contract)

    def forward(self, batch: Sample) -> Sample:
        """Normalise ``image`` [B, C, H, W] by its ``valid`` [B, 1, H, W]."""
        valid: Tensor = batch["valid"].all(dim=1)
        return {**batch, "image": self.normalise(batch["image"], valid)}


class NormalisePairs(nn.Module):
    """Normalise a batch of pairs, and nothing else."""

    def __init__(self, contract: SensorContract) -> None:
        """Take the statistics of ``contract``."""
        super().__init__()
        self.normalise = Normalise(contract)

    def forward(self, batch: Sample) -> Sample:
        """Normalise ``image`` [B, 2, C, H, W] by its ``valid`` [B, 2, H, W]."""
        return {**batch, "image": self.normalise(batch["image"], batch["valid"])}
