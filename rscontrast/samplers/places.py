"""Patches over scattered places.

TorchGeo's spatial samplers work in the bounding box of all places: the random one rejects nearly
every point between two continents (measured: 40 patches over nine cities took 5 s), the gridded
one walks the empty cells between them. These two take the places one by one.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from torchgeo.datasets import GeoDataset
from torchgeo.samplers import GriddedPatchSampler, RandomPatchSampler

from rscontrast.errors import InputError


class RandomPlaceSampler(RandomPatchSampler):
    """RandomPatchSampler, same arguments and same distribution, at a cost free of distances."""

    def __init__(
        self, dataset: GeoDataset, *, size: float | tuple[float, float], **options: Any
    ) -> None:
        """Take the arguments of RandomPatchSampler, whose sizes cannot be numbers of NumPy."""
        sides = size if isinstance(size, Sequence) else (size, size)
        super().__init__(dataset, size=(sides[0], sides[1]), **options)

    def __iter__(self) -> Iterator[tuple[slice, slice]]:
        """Yield [xmin:xmax, ymin:ymax] of each patch, on the pixel grid of the first corner.

        Raises:
            InputError: no place holds a whole patch.
        """
        places = self.series.explode(index_parts=False, ignore_index=True)
        area = shapely.area(places.to_numpy())
        if not area.sum() > 0:
            raise InputError("size", self.size, f"patches that fit {self.geometry.bounds}")
        counts = self.generator.multinomial(len(self), area / area.sum())
        drawn = counts > 0
        points = gpd.GeoSeries(places[drawn]).sample_points(counts[drawn], rng=self.generator)
        xy = shapely.get_coordinates(points.to_numpy())
        size, res = np.array(self.size[::-1]), np.array(self.res)
        origin = np.array(self.bounds[:2])
        corners = origin + np.round((xy - size / 2 - origin) / res) * res
        for x, y in self.generator.permutation(corners).tolist():
            yield slice(x, x + self.size[1]), slice(y, y + self.size[0])


class GriddedPlaceSampler(GriddedPatchSampler):
    """GriddedPatchSampler, same arguments, with a grid of its own for each place."""

    def __iter__(self) -> Iterator[tuple[slice, slice]]:
        """Yield [xmin:xmax, ymin:ymax] of each cell, place by place."""
        for place in shapely.get_parts(self.geometry):
            one = copy.copy(self)
            one.geometry, one.bounds = place, place.bounds
            yield from GriddedPatchSampler.__iter__(one)
