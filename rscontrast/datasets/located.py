"""Items on their native grids: where a patch lies, and which of them lie there."""

import copy
from typing import Any, Self

import geopandas as gpd
import numpy as np
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS
from shapely.geometry.base import BaseGeometry

from rscontrast.datasets.bounds import KnownBounds
from rscontrast.datasets.lookup import Lookup
from rscontrast.datasets.place import (
    both,
    known_crs,
    metres,
    patch_shape,
    pixel,
    require_finite,
    upright,
)
from rscontrast.datasets.seam import cut_outline, move_index
from rscontrast.io.grid import crs_wkt, footprint, ground_res, same_crs, transformer
from rscontrast.stac.index import Grids


class LocatedItems(KnownBounds):
    """The part of a dataset of items that knows places: index, CRS and grids."""

    geoboxes: Grids
    """Native grid of each item."""
    native: bool
    """Whether patches are read on native grids, and not on the one of ``crs`` and ``res``."""
    step_metres: tuple[float, float]
    """Metres that a step of one unit of ``crs`` asks for on native grids, along x and y."""

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is found anew from the index."""
        left_out = ("_lookup", "_rows", "_wkt", "_known")
        return {key: value for key, value in self.__dict__.items() if key not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Find it anew."""
        self.__dict__.update(state)
        self.index = self._index

    @property
    def index(self) -> gpd.GeoDataFrame:
        """Outlines of the items on their times, and in ``item`` their rows in ``items``."""
        return self._index

    @index.setter
    def index(self, index: gpd.GeoDataFrame) -> None:
        index = self._named(index)
        require_finite(index)
        self._index, self._lookup = index, Lookup(index)
        self._rows, self._wkt = index["item"].to_numpy(), index.crs.to_wkt()

    def _named(self, index: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
        """An index by time and with names: of TorchGeo's splits some shuffle, one numbers."""
        if "item" not in index:
            names = dict(enumerate(column for column in self._index if column != "geometry"))
            index = index[[*names, "geometry"]].rename(columns=names).astype({"item": np.intp})
        if not index.index.left.is_monotonic_increasing:
            index = index.take(np.argsort(index.index.left.to_numpy(), kind="stable"))
        return index

    @property
    def crs(self) -> CRS:
        """CRS in which patches are asked for."""
        crs: CRS = self._index.crs
        return crs

    @crs.setter
    def crs(self, new_crs: CRS) -> None:
        self.index = move_index(self._index, known_crs(new_crs))
        self.native = False

    @property
    def res(self) -> tuple[float, float]:
        """Pixel size (x, y) in units of :attr:`crs`."""
        return self._res

    @res.setter
    def res(self, new_res: float | tuple[float, float]) -> None:
        self._res, self.native = both(new_res), False

    def on_grid(self) -> Self:
        """Return a copy that reads every patch on the one grid of ``crs`` and ``res``."""
        fixed = copy.copy(self)
        fixed.native = False
        return fixed

    def geobox(self, x: slice, y: slice) -> GeoBox:
        """Grid of the patch that ``x`` and ``y`` (in ``crs``, with steps) ask for.

        Natively: of as many pixels as there are steps, each as large on the ground as a step, on
        the lattice of the earliest item at the centre. So patches of items of another resolution
        cover the same ground.
        """
        if not self.native:
            return upright(x, y, self.crs)
        shape, (cx, cy) = patch_shape(x, y), ((x.start + x.stop) / 2, (y.start + y.stop) / 2)
        near = self._lookup.meeting(shapely.Point(cx, cy))
        item = int(self._rows[near[0]]) if near.size else self.at(_box(x, y), None)[0]
        anchor = self.geoboxes[item]
        centre = transformer(self._wkt, crs_wkt(anchor)).transform(cx, cy)
        zoom = self.zoom(anchor, (x.step, y.step), centre[1])
        lattice = anchor.transform @ Affine.scale(*zoom)
        col, row = ~lattice @ centre
        corner = Affine.translation(round(col - shape[1] / 2), round(row - shape[0] / 2))
        return GeoBox(shape, lattice @ corner, anchor.crs)

    def zoom(
        self, anchor: GeoBox, step: tuple[float, float], latitude: float
    ) -> tuple[float, float]:
        """Pixels of a native grid that a step takes, along x and y.

        Args:
            anchor: the grid.
            step: x and y, in units of ``crs``.
            latitude: of the place, where the grid is in degrees.
        """
        wkt = crs_wkt(anchor)
        if same_crs(self._wkt, wkt):  # of a few items one may be in degrees like ``crs``
            asked = own = (1.0, 1.0)
        else:
            asked, own = self.step_metres, metres(wkt, latitude)
        x, y = (
            abs(side) * there / (size * here)
            for side, there, size, here in zip(step, asked, pixel(anchor), own, strict=True)
        )
        return x, y

    def outline(self, x: slice, y: slice, geobox: GeoBox) -> BaseGeometry:
        """Outline of a patch in ``crs``: as it is read, since a grid of another zone is turned."""
        if not self.native or same_crs(self._wkt, crs_wkt(geobox)):
            return _box(x, y)
        return self.footprint(geobox)

    def footprint(self, geobox: GeoBox) -> BaseGeometry:
        """Outline of any grid in ``crs``, cut where that ends at the antimeridian."""
        own = crs_wkt(geobox)
        return cut_outline(footprint(geobox, self._wkt), geobox.extent.geom, own, self._wkt)

    def at(self, outline: BaseGeometry, t: slice | None) -> list[int]:
        """Items, by time, that meet an outline in ``crs``.

        Raises:
            IndexError: there is none.
        """
        found = self._rows[self._lookup.meeting(outline, t)]
        if not found.size:
            bounds = tuple(round(n, 5) for n in outline.bounds)
            raise IndexError(f"no item at {bounds}, t {t}")
        return list(dict.fromkeys(found.tolist()))  # a split may have cut an item in several rows

    @property
    def ground_res(self) -> float:
        """Pixel size on the ground, metres: of the one grid, or the median of the native ones."""
        if not self.native:
            x, y, _ = self.bounds
            return ground_res(self.geobox(x, y))
        few, which = self.geoboxes.distinct()
        return float(np.median(np.array([ground_res(geobox) for geobox in few])[which]))


def _box(x: slice, y: slice) -> BaseGeometry:
    return shapely.box(x.start, y.start, x.stop, y.stop)
