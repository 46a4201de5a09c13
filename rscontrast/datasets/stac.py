"""The items of a STAC catalog as a TorchGeo dataset.

The index is made of the items' metadata; no raster is opened before the first patch is read, so
a dataset costs nothing to pickle and is safe to hand to worker processes.
"""

import copy
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import torch
from odc.geo.geobox import GeoBox
from pyproj import CRS
from shapely.geometry.base import BaseGeometry
from torchgeo.datasets import GeoDataset, IntersectionDataset, UnionDataset
from torchgeo.datasets.utils import GeoSlice, Sample

from rscontrast.datasets.bounds import KnownBounds
from rscontrast.datasets.located import LocatedItems
from rscontrast.datasets.place import (
    LONLAT,
    asked_in,
    both,
    resolution,
    step_metres,
    told,
)
from rscontrast.errors import InputError, choose
from rscontrast.io.read import MOSAICS, ItemSource, block_shape, item_source, read_dates
from rscontrast.stac.index import grids, layouts
from rscontrast.stac.provider import GENERIC, Provider, read_provider

if TYPE_CHECKING:
    from rscontrast.datasets.labels import STACLabels

type Transform = Callable[[Sample], Sample]

SOURCES = 4096
"""Items of which it is remembered what to read; the one unused the longest is forgotten."""


class STACDataset(LocatedItems):
    """Imagery of STAC items: reflectance ``image`` [C, H, W] and ``valid`` [1, H, W].

    Without ``crs`` and ``res`` each patch is read on the *native* grid of its place: that of the
    earliest item at its centre, in pixels as large on the ground as the steps asked for: a patch
    covers what was asked for also where items have other pixels than ``res``. Dates of one place
    thus come on one grid whatever their own grids are, and several UTM zones live in one dataset
    without needless warping. ``crs`` of the
    dataset is then only the one in which patches are asked for. Giving ``crs`` or ``res``, or
    joining another dataset by ``&`` or ``|``, fixes one grid for all patches.

    Where ``crs`` is in degrees, a step of ``res`` is the pixel of the first item, in metres,
    everywhere: native pixels stay what they are while degrees shrink towards the poles, and a patch
    lies around the centre of what was asked for.
    """

    thread_safe = True
    """Many threads may read samples at once."""

    def __init__(
        self,
        items: gpd.GeoDataFrame,
        *,
        bands: Sequence[str],
        crs: CRS | str | None = None,
        res: float | tuple[float, float] | None = None,
        provider: Provider | str | None = None,
        masks: bool = True,
        footprints: bool = True,
        mosaic: str = "first",
        raw: bool = False,
        transforms: Transform | None = None,
    ) -> None:
        """Index the items.

        Args:
            items: as :func:`rscontrast.stac.search` returns them.
            bands: asset keys, band names or common names; the channel order.
            crs: of the one grid; default: native grids, asked for in the CRS of most items, or in
                degrees where that one does not reach to all items.
            res: pixel size (x, y) of the one grid, in units of ``crs``.
            provider: where bands lie in the assets, see
                :func:`rscontrast.stac.provider.read_provider`; default: the generic one.
            masks: whether cloud masks among the assets count in ``valid``.
            footprints: whether the items' geometries count in ``valid``.
            mosaic: which of the usable pixels of a date stays where its scenes overlap: that of
                the "first" or "last" scene in time, or their "mean".
            raw: numbers as the files hold them (still float32) in place of reflectance.
            transforms: applied to each sample.

        Raises:
            InputError: no item, no band is asked for, or a value is not allowed.
            BandError: an item lacks a band; of those with the same assets in one collection, one
                is looked at.
            AssetError: an item says nothing of its grid and its file cannot be opened.
            GridError: an item has no place in ``crs``, or on the earth.
        """
        if not bands or isinstance(bands, str):
            raise InputError("bands", bands, "a list of 1 or more band names")
        if not len(items):
            raise InputError("items", "an empty frame", "1 or more items")
        size = None if res is None else both(res)
        self.bands, self.transforms = tuple(bands), transforms
        self.provider = GENERIC if provider is None else read_provider(provider)
        self.mosaic = choose("mosaic", mosaic, MOSAICS)
        self.masks, self.footprints, self.raw = masks, footprints, raw
        # Footprints are read in degrees.
        items = items if items.crs is None else items.to_crs(LONLAT)
        self.items = items.reset_index(drop=True)
        self._source = self._remembered()
        # One of each kind shows whether the bands are there; the others are looked at when read.
        for first in layouts(self.items)[1]:
            self._source(int(first))
        self.geoboxes = grids(self.items, self.bands[0], self.provider)
        self.native = crs is None and res is None
        boxes = self.geoboxes
        self.index = asked_in(self.items, boxes, crs)
        self._res = resolution(boxes, self.crs) if size is None else size
        self.step_metres = step_metres(boxes, self.crs, self._res)

    def _remembered(self) -> Callable[[int], ItemSource]:
        items, bands, provider = self.items, self.bands, self.provider
        options = {"masks": self.masks, "footprint": self.footprints, "raw": self.raw}

        # Makes the same thing in every thread, and keeps one of them.
        @lru_cache(maxsize=SOURCES)
        def source(item: int) -> ItemSource:
            return item_source(items.iloc[item].to_dict(), bands, provider, **options)

        return source

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is found anew from the items."""
        return {key: value for key, value in super().__getstate__().items() if key != "_source"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Find it anew."""
        super().__setstate__(state)
        self._source = self._remembered()

    def __and__(self, other: GeoDataset) -> IntersectionDataset:
        """Join with a dataset of the same places; both are read on this one's grid."""
        return IntersectionDataset(self.on_grid(), _own_copy(other))

    def __or__(self, other: GeoDataset) -> UnionDataset:
        """Add a dataset; both are read on this one's grid."""
        return UnionDataset(self.on_grid(), _own_copy(other))

    def __getitem__(self, index: GeoSlice) -> Sample:
        """Read one patch.

        Args:
            index: slices [x, y, t] in ``crs``; dates within t are mosaicked, so ask for one
                acquisition.

        Returns:
            ``image`` float32 [C, H, W] reflectance, 0 without data; ``valid`` bool [1, H, W];
            ``bounds`` and ``transform`` float64 (x and y of the patch as asked for; the affine
            of the grid as read).

        Raises:
            IndexError: no item lies there.
            AssetError: a file cannot be read.
        """
        x, y, t = self._disambiguate_slice(index)
        return self.dates(x, y, [t])[0]

    def dates(self, x: slice, y: slice, times: Sequence[slice]) -> list[Sample]:
        """Read several dates of one place, all at once.

        Args:
            x: start, stop and step.
            y: start, stop and step.
            times: of each date.

        Returns:
            for each of the times what ``dataset[x, y, t]`` gives.

        Raises:
            IndexError: no item lies there at one of the times.
            AssetError: a file cannot be read.
        """
        geobox = self.geobox(x, y)
        patches = self._patches(geobox, self.outline(x, y, geobox), times)
        samples = [patch | told(x, y, t, geobox) for patch, t in zip(patches, times, strict=True)]
        return samples if self.transforms is None else [self.transforms(s) for s in samples]

    def onto(self, geobox: GeoBox, t: slice) -> Sample:
        """Read what lies under any grid: ``image`` and ``valid``, as ``dataset[x, y, t]`` does.

        Raises:
            IndexError: no item lies there.
            AssetError: a file cannot be read.
        """
        sample: Sample = self._patches(geobox, self.footprint(geobox), [t])[0]
        return sample if self.transforms is None else self.transforms(sample)

    def _patches(
        self, geobox: GeoBox, outline: BaseGeometry, times: Sequence[slice]
    ) -> list[Sample]:
        dates = [[self._source(item) for item in self.at(outline, t)] for t in times]
        return [
            {"image": torch.from_numpy(image), "valid": torch.from_numpy(valid)[None]}
            for image, valid in read_dates(dates, geobox, mosaic=self.mosaic)
        ]

    def block_shape(self, item: int) -> tuple[int, int]:
        """Rows and columns of a block of the file of an item's first band, which is opened.

        Args:
            item: row in ``items``.

        Raises:
            AssetError: it cannot be opened.
        """
        return block_shape(self._source(item).bands[0])

    def labels(self, asset: str) -> "STACLabels":
        """Labels of the same items, read on the same grid as the imagery.

        Args:
            asset: key of the label raster; items without it carry no labels.

        Raises:
            BandError: no item has it.
        """
        from rscontrast.datasets.labels import STACLabels

        return STACLabels(self, asset)


def _own_copy(other: GeoDataset) -> GeoDataset:
    """What TorchGeo may move to another grid: a copy of ours; its own it moves as ever."""
    return copy.copy(other) if isinstance(other, KnownBounds) else other
