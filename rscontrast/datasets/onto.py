"""Any dataset read on the grid of another one: labels and terrain on the grid of the imagery."""

import copy
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from odc.geo.geobox import GeoBox
from pyproj import CRS
from torchgeo.datasets import GeoDataset, VectorDataset
from torchgeo.datasets.utils import Sample

from rscontrast.errors import GridError
from rscontrast.io.grid import crs_wkt, same_crs
from rscontrast.types import IGNORE


@runtime_checkable
class ReadsAnyGrid(Protocol):
    """A dataset that reads on whatever grid it is given."""

    def onto(self, geobox: GeoBox, t: slice) -> Sample:
        """Read what lies under the grid at a time.

        Raises:
            IndexError: nothing does.
        """
        ...


@runtime_checkable
class ReadsDates(Protocol):
    """A dataset that reads several dates of one place at once."""

    def dates(self, x: slice, y: slice, times: Sequence[slice]) -> list[Sample]:
        """Read each date as ``dataset[x, y, t]`` does."""
        ...


class Onto:
    """A dataset as the grids of another one need it.

    TorchGeo's read on one grid, that of their ``crs``: so there is a copy for each CRS that is
    asked for, which warps files and burns vectors straight into that one.
    """

    def __init__(self, dataset: GeoDataset) -> None:
        """Take the dataset; it stays as it is."""
        self.dataset = dataset
        self._moved: dict[str, GeoDataset] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave the copies out: they are made anew where they are needed."""
        return self.__dict__ | {"_moved": {}}

    def read(self, geobox: GeoBox, t: slice) -> Sample:
        """Read what lies under a grid at a time; labels nobody made there and then are 255.

        Raises:
            IndexError: no image does.
            GridError: the grid is rotated, and the dataset is none of ours.
        """
        try:
            return self._read(geobox, t)
        except IndexError:
            if not self._labels:
                raise
            return {"mask": torch.full(tuple(geobox.shape), IGNORE)}

    @property
    def _labels(self) -> bool:
        """Whether these are labels: a pair that has none is no error."""
        return isinstance(self.dataset, VectorDataset) or not getattr(
            self.dataset, "is_image", True
        )

    def _read(self, geobox: GeoBox, t: slice) -> Sample:
        if isinstance(self.dataset, ReadsAnyGrid):
            return self.dataset.onto(geobox, t)
        a, b, c, d, e, f = geobox.transform[:6]
        if b or d:
            where = tuple(round(n, 5) for n in geobox.boundingbox.bbox)
            remedy = "give crs= or res= to read the imagery on one grid"
            raise GridError(f"grid of bounds {where}: rotated; TorchGeo's read upright: {remedy}")
        (height, width), dims = geobox.shape, [dim for dim, step in ((-1, a), (-2, -e)) if step < 0]
        x = slice(min(c, c + width * a), max(c, c + width * a), abs(a))
        y = slice(min(f, f + height * e), max(f, f + height * e), abs(e))
        sample = self._in_crs(crs_wkt(geobox))[x, y, t]
        return {key: _turned(key, value, dims) for key, value in sample.items()} if dims else sample

    def _in_crs(self, crs: str) -> GeoDataset:
        if crs not in self._moved:
            moved = self.dataset
            if not same_crs(moved.crs.to_wkt(), crs):
                # Deep, since TorchGeo changes the index of the copy in place.
                moved = copy.deepcopy(moved)
                moved.crs = CRS.from_wkt(crs)
            self._moved[crs] = moved
        return self._moved[crs]


def _turned(key: str, value: Any, dims: list[int]) -> Any:
    """What TorchGeo reads north-up, on a grid whose rows or columns run the other way."""
    return value.flip(dims) if key in ("image", "mask", "valid") else value
