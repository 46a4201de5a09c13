"""The items of a STAC catalog as a TorchGeo dataset.

The index is made of the items' metadata; no raster is opened before the first patch is read, so
a dataset costs nothing to pickle and is safe to hand to worker processes.
"""

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Self

import geopandas as gpd
import numpy as np
import torch
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS
from rasterio.warp import calculate_default_transform
from torch import Tensor
from torchgeo.datasets import GeoDataset, IntersectionDataset, UnionDataset
from torchgeo.datasets.utils import GeoSlice, Sample

from rscontrast.datasets.lookup import Lookup
from rscontrast.errors import InputError
from rscontrast.io.grid import crs_wkt, ground_res, transformer
from rscontrast.io.read import ItemSource, item_source, read_mosaic
from rscontrast.stac.index import Grids, grids, index_items, layouts
from rscontrast.stac.provider import GENERIC, Provider

if TYPE_CHECKING:
    from rscontrast.datasets.labels import STACLabels

type Transform = Callable[[Sample], Sample]


class STACDataset(GeoDataset):
    """Imagery of STAC items: reflectance ``image`` [C, H, W] and ``valid`` [1, H, W].

    Without ``crs`` and ``res`` each patch is read on the *native* grid of its place: that of the
    earliest item at its centre. Dates of one place thus come on one grid whatever their own grids
    are, and several UTM zones live in one dataset without needless warping. ``crs`` of the
    dataset is then only the one in which patches are asked for. Giving ``crs`` or ``res``, or
    joining another dataset by ``&`` or ``|``, fixes one grid for all patches.
    """

    def __init__(
        self,
        items: gpd.GeoDataFrame,
        *,
        bands: Sequence[str],
        crs: CRS | str | None = None,
        res: float | tuple[float, float] | None = None,
        masks: bool = True,
        provider: Provider = GENERIC,
        transforms: Transform | None = None,
    ) -> None:
        """Index the items.

        Args:
            items: as :func:`rscontrast.stac.search` returns them.
            bands: asset keys, band names or common names; the channel order.
            crs: of the one grid; default: native grids, asked for in the CRS of most items.
            res: pixel size (x, y) of the one grid, in units of ``crs``.
            masks: whether cloud masks among the assets count in ``valid``.
            provider: where bands lie in the assets.
            transforms: applied to each sample.

        Raises:
            InputError: no band is asked for.
            BandError: an item lacks a band; of those with the same assets in one collection, one
                is looked at.
            AssetError: an item says nothing of its grid and its file cannot be opened.
        """
        if not bands or isinstance(bands, str):
            raise InputError("bands", bands, "a list of 1 or more band names")
        self.bands, self.provider, self.transforms = tuple(bands), provider, transforms
        self.items = items.reset_index(drop=True)
        self.masks, self._sources = masks, dict[int, ItemSource]()
        # One of each kind shows whether the bands are there; the others are looked at when read.
        for first in layouts(self.items)[1]:
            self._source(int(first))
        self.geoboxes = grids(self.items, self.bands[0], provider)
        self.native = crs is None and res is None
        target = CRS.from_user_input(self.geoboxes.most() if crs is None else crs)
        self._res = _pair(res) if res else _resolution(self.geoboxes, target)
        self._set_index(index_items(self.items, self.geoboxes, target))

    def _source(self, item: int) -> ItemSource:
        if item not in self._sources:
            row = self.items.iloc[item].to_dict()
            self._sources[item] = item_source(row, self.bands, self.provider, masks=self.masks)
        return self._sources[item]

    def _set_index(self, index: gpd.GeoDataFrame) -> None:
        self.index, self._lookup = index, Lookup(index)
        self._items = index["item"].to_numpy()

    @property
    def crs(self) -> CRS:
        """CRS in which patches are asked for."""
        crs: CRS = self.index.crs
        return crs

    @crs.setter
    def crs(self, new_crs: CRS) -> None:
        self._set_index(self.index.to_crs(new_crs))
        self.native = False

    @property
    def res(self) -> tuple[float, float]:
        """Pixel size (x, y) in units of :attr:`crs`."""
        return self._res

    @res.setter
    def res(self, new_res: float | tuple[float, float]) -> None:
        self._res, self.native = _pair(new_res), False

    def on_grid(self) -> Self:
        """Return a copy that reads every patch on the one grid of ``crs`` and ``res``."""
        fixed = copy.copy(self)
        fixed.native = False
        return fixed

    def __and__(self, other: GeoDataset) -> IntersectionDataset:
        """Join with a dataset of the same places; both are read on this one's grid."""
        return IntersectionDataset(self.on_grid(), other)

    def __or__(self, other: GeoDataset) -> UnionDataset:
        """Add a dataset; both are read on this one's grid."""
        return UnionDataset(self.on_grid(), other)

    def __getitem__(self, index: GeoSlice) -> Sample:
        """Read one patch.

        Args:
            index: slices [x, y, t] in ``crs``; dates within t are mosaicked, the earliest
                usable pixel first, so ask for one acquisition.

        Returns:
            ``image`` float32 [C, H, W] reflectance, 0 without data; ``valid`` bool [1, H, W];
            ``bounds`` and ``transform`` float64 (x and y of the patch as asked for; the affine
            of the grid as read).

        Raises:
            IndexError: no item lies there.
            AssetError: a file cannot be read.
        """
        x, y, t = self._disambiguate_slice(index)
        found = find(self._lookup, x, y, t, "item")
        geobox = self.geobox(x, y)
        sources = [self._source(int(item)) for item in self._items[found]]
        image, valid = read_mosaic(sources, geobox)
        sample = {
            "image": torch.from_numpy(image),
            "valid": torch.from_numpy(valid)[None],
            **place(x, y, t, geobox),
        }
        return sample if self.transforms is None else self.transforms(sample)

    def geobox(self, x: slice, y: slice) -> GeoBox:
        """Grid of the patch that ``x`` and ``y`` (in ``crs``, with steps) ask for."""
        shape = (round((y.stop - y.start) / abs(y.step)), round((x.stop - x.start) / abs(x.step)))
        if not self.native:
            corner = Affine.translation(x.start, y.stop)
            return GeoBox(shape, corner @ Affine.scale(abs(x.step), -abs(y.step)), self.crs)
        cx, cy = (x.start + x.stop) / 2, (y.start + y.stop) / 2
        near = self._lookup.find(slice(cx, cx), slice(cy, cy))
        near = near if near.size else find(self._lookup, x, y, None, "item")
        anchor = self.geoboxes[self._items[near[0]]]
        zoom = Affine.scale(abs(x.step) / self._res[0], abs(y.step) / self._res[1])
        lattice = anchor.transform @ zoom
        col, row = ~lattice @ _transform_point(cx, cy, self.crs, anchor.crs)
        corner = Affine.translation(round(col - shape[1] / 2), round(row - shape[0] / 2))
        return GeoBox(shape, lattice @ corner, anchor.crs)

    def labels(self, asset: str) -> "STACLabels":
        """Labels of the same items, read on the same grid as the imagery.

        Args:
            asset: key of the label raster; items without it carry no labels.

        Raises:
            BandError: no item has it.
            AssetError: a label raster cannot be opened.
            GridError: a label raster lies beside the imagery of its item.
        """
        from rscontrast.datasets.labels import STACLabels

        return STACLabels(self, asset)

    @property
    def ground_res(self) -> float:
        """Pixel size on the ground, metres: of the one grid, or the median of the native ones."""
        if not self.native:
            x, y, _ = self.bounds
            return ground_res(self.geobox(x, y))
        few, which = self.geoboxes.distinct()
        return float(np.median(np.array([ground_res(geobox) for geobox in few])[which]))


def find(lookup: Lookup, x: slice, y: slice, t: slice | None, what: str) -> NDArray[np.intp]:
    """Rows of an index at a place and time.

    Raises:
        IndexError: there is none; names ``what`` was looked for.
    """
    found = lookup.find(x, y, t)
    if not found.size:
        raise IndexError(f"no {what} at x {x}, y {y}, t {t}")
    return found


def _resolution(boxes: Grids, crs: CRS) -> tuple[float, float]:
    """Pixel size of the first item in ``crs``; where none is, of the first one warped to it."""
    same = [n for n, name in enumerate(boxes.names) if CRS.from_user_input(name) == crs]
    rows = np.flatnonzero(np.isin(boxes.crs, same))
    if rows.size:
        transform = boxes[int(rows[0])].transform
        return abs(transform.a), abs(transform.e)
    (height, width), bounds = boxes[0].shape, tuple(boxes[0].boundingbox)
    warped = calculate_default_transform(crs_wkt(boxes[0]), crs.to_wkt(), width, height, *bounds)[0]
    return abs(warped.a), abs(warped.e)


def _transform_point(x: float, y: float, source: CRS, target: object) -> tuple[float, float]:
    return transformer(source.to_wkt(), str(target)).transform(x, y)


def place(x: slice, y: slice, t: slice, geobox: GeoBox) -> dict[str, Tensor]:
    """Where a sample was asked for, ``bounds`` [9], and the affine it was read on, [9]."""
    times = (t.start.timestamp(), t.stop.timestamp(), t.step or 1)
    bounds = (x.start, x.stop, x.step, y.start, y.stop, y.step, *times)
    # float64: metres of a UTM zone do not fit float32 to the pixel.
    return {
        "bounds": torch.tensor(bounds, dtype=torch.float64),
        "transform": torch.tensor(tuple(geobox.transform), dtype=torch.float64),
    }


def _pair(res: float | tuple[float, float]) -> tuple[float, float]:
    x, y = (res, res) if isinstance(res, int | float) else res
    return float(x), float(y)
