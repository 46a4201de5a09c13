"""Patches within one block of a file, in the CRS in which a dataset is asked for them."""

import math
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from rscontrast.datasets import STACDataset
from rscontrast.errors import InputError
from rscontrast.io.grid import Points, apply_affine, crs_wkt, transformer
from rscontrast.samplers.patches import ROUNDS, SLACK

SAME = 1e-6
"""Difference of two pixel sizes that is one of digits, as a share."""

POINTS = 64
"""Points that are thrown at the bounds of a ground to find one on it."""

type Pixels = NDArray[np.float64]
type Patch = tuple[slice, slice]


@dataclass(frozen=True)
class NativePatches:
    """Patches of a dataset as windows of a file."""

    images: STACDataset
    """The dataset."""
    grid: GeoBox
    """Native grid of the file."""
    size: tuple[int, int]
    """Patch (H, W), pixels of the dataset."""

    @property
    def window(self) -> tuple[int, int]:
        """Columns and rows of the file that a patch takes.

        Raises:
            InputError: the dataset has a grid of its own in another CRS.
        """
        if self.images.native:
            return self._native
        if self._wkts[0] != self._wkts[1]:
            allowed = "native grids (no crs, no res, no &), or one grid in the CRS of all items"
            raise InputError("dataset", f"items in {self.grid.crs}", allowed)
        (xres, yres), transform = self.images.res, self.grid.transform
        columns = int(np.ceil(self.size[1] * xres / abs(transform.a) - SLACK))
        return columns, int(np.ceil(self.size[0] * yres / abs(transform.e) - SLACK))

    @property
    def _native(self) -> tuple[int, int]:
        """Columns and rows of a patch that is read on the file's own lattice."""
        (rows, cols), transform = self.grid.shape, self.grid.transform
        latitude = (transform @ (cols / 2, rows / 2))[1]
        across, down = self.images.zoom(self.grid, self.images.res, latitude)

        def taken(pixels: int, zoom: float) -> int:
            # A lattice of other pixels is met at some part of one.
            return pixels if abs(zoom - 1) < SAME else math.ceil((pixels + 1) * zoom)

        return taken(self.size[1], across), taken(self.size[0], down)

    @property
    def _wkts(self) -> tuple[str, str]:
        """CRS of the dataset and of the file."""
        asked, own = self.images.crs, crs_wkt(self.grid)
        return (own if asked == self.grid.crs.proj else asked.to_wkt()), own  # type: ignore[union-attr]

    def pixels(self, ground: BaseGeometry) -> BaseGeometry:
        """Ground in columns and rows of the file."""
        asked, own = self._wkts

        def move(x: Pixels, y: Pixels) -> Points:
            xy = (x, y) if asked == own else transformer(asked, own).transform(x, y)
            return apply_affine(~self.grid.transform, *map(np.asarray, xy))

        return shapely.transform(ground, move, interleaved=False)

    def slices(self, corners: Pixels) -> list[Patch]:
        """Slices x and y of windows whose upper left corners (column, row) are given, [n, 2]."""
        asked, own = self._wkts
        xy = apply_affine(self.grid.transform, *(corners + np.array(self.window) / 2).T)
        x, y = xy if asked == own else transformer(own, asked).transform(*xy)
        half_x, half_y = (n * r / 2 for n, r in zip(self.size[::-1], self.images.res, strict=True))
        return [
            (slice(cx - half_x, cx + half_x), slice(cy - half_y, cy + half_y))
            for cx, cy in zip(x.tolist(), y.tolist(), strict=True)
        ]


def visit_block(
    native: NativePatches,
    ground: BaseGeometry,
    point: BaseGeometry,
    block: tuple[int, int],
    count: int,
    rng: np.random.Generator,
) -> list[Patch]:
    """Draw patches wholly inside the ground and the block that holds a point.

    Args:
        native: the patches and their file.
        ground: in the CRS of the dataset.
        point: in the CRS of the dataset.
        block: (H, W), pixels of the file.
        count: how many.
        rng: the source of chance.

    Returns:
        as many, or fewer where there is little room.
    """
    area, window = native.pixels(ground), np.array(native.window)
    side = np.array(block[::-1])
    at = shapely.get_coordinates(native.pixels(point))[0]
    low = (np.floor(at / side) * side).astype(np.int64)
    last = np.minimum(low + side, np.array(native.grid.shape[::-1])) - window
    if (low < 0).any() or (last < low).any():
        return []
    found = np.empty((0, 2), dtype=np.int64)
    shapely.prepare(area)
    for _ in range(ROUNDS):
        corners = rng.integers(low, last + 1, (2 * count, 2))
        boxes = shapely.box(*(corners + SLACK).T, *(corners + window - SLACK).T)
        found = np.concatenate([found, corners[shapely.covers(area, boxes)]])
        if len(found) >= count:
            break
    return native.slices(found[:count].astype(np.float64)) if len(found) else []


def random_point(area: BaseGeometry, rng: np.random.Generator) -> BaseGeometry | None:
    """A random point of an area; None if it is empty."""
    if not area.area > 0:
        return None
    low, high = np.array(area.bounds[:2]), np.array(area.bounds[2:])
    points = low + rng.random((POINTS, 2)) * (high - low)
    inside = points[shapely.contains_xy(area, *points.T)]
    return shapely.Point(inside[0]) if len(inside) else area.point_on_surface()
