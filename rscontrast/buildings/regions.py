"""Regions of one class, joined across tiles, with corners that neighbours share."""

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import shapes
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry
from skimage.measure import label

from rscontrast.mapping.native import Tile

NOTHING = -1
"""Class of pixels that are in no region."""

type Ints = NDArray[np.int64]
type Polygons = NDArray[np.object_]


class Regions:
    """Regions of a map that comes tile by tile, row of tiles by row of tiles.

    Of the map only the last pixel row above and the last pixel column to the left are kept; a
    region that reaches over them is joined by union-find. The tiles' polygons are in whole pixels,
    so that their union is exact.
    """

    def __init__(self, width: int) -> None:
        """Start a map of a width, pixels."""
        self.width, self.count = width, 0
        self.above, self.last = (_edge(width) for _ in range(2))
        self.left = _edge(0)
        self.parts: list[BaseGeometry] = []
        self.ids: list[int] = []
        self.classes: list[Ints] = []
        self.joins: list[Ints] = []
        self.junctions: list[Ints] = []

    def add(self, classes: NDArray[np.int32], tile: Tile) -> None:
        """Take the next tile: classes [h, w], -1 for what is in no region."""
        if tile.col == 0:
            self.above, self.last = self.last, _edge(self.width)
            self.left = _edge(tile.height)
        # scikit-image has no types.
        found = label(classes - NOTHING, background=0, connectivity=1)  # type: ignore[no-untyped-call]
        ids = np.where(found > 0, found + self.count, 0).astype(np.int32)
        self._trace(classes, ids, tile)
        across = slice(tile.col, tile.col + tile.width)
        self._join(self.above[:, across], np.stack([classes[0], ids[0]]))
        self._join(self.left, np.stack([classes[:, 0], ids[:, 0]]))
        self._find_junctions(classes, tile)
        self.last[:, across] = classes[-1], ids[-1]
        self.left = np.stack([classes[:, -1], ids[:, -1]]).astype(np.int64)

    def _trace(self, classes: NDArray[np.int32], ids: NDArray[np.int32], tile: Tile) -> None:
        count = int(ids.max(initial=self.count)) - self.count
        place = Affine.translation(tile.col, tile.row)
        for outline, number in shapes(ids, mask=ids > 0, connectivity=4, transform=place):
            self.parts.append(shape(outline))
            self.ids.append(int(number) - 1)
        of = np.zeros(count, dtype=np.int64)
        of[ids[ids > 0] - self.count - 1] = classes[ids > 0]
        self.classes.append(of)
        self.count += count

    def _join(self, before: Ints, after: Ints) -> None:
        """Edges [2, n] of classes and ids on the two sides of a border."""
        same = (before[0] == after[0]) & (after[0] != NOTHING)
        self.joins.append(np.stack([before[1, same], after[1, same]]) - 1)

    def _find_junctions(self, classes: NDArray[np.int32], tile: Tile) -> None:
        """Find corners of pixels in which three outlines or more meet.

        There a neighbour whose own outline goes straight on needs a vertex, for edges to match.
        """
        around = np.full((tile.height + 1, tile.width + 1), NOTHING, dtype=np.int64)
        around[1:, 1:] = classes
        around[0, 1:] = self.above[0, tile.col : tile.col + tile.width]
        around[1:, 0] = self.left[0]
        if tile.col:
            around[0, 0] = self.above[0, tile.col - 1]
        beside, below = around[:, 1:] != around[:, :-1], around[1:] != around[:-1]
        arms = (beside[1:] + 0) + beside[:-1] + below[:, 1:] + below[:, :-1]
        rows, cols = np.nonzero(arms > 2)
        self.junctions.append((rows + tile.row) * (self.width + 1) + cols + tile.col)

    def polygons(self) -> tuple[Polygons, Ints]:
        """Polygons in pixels (column, row), and their classes, by their first pixel.

        What two regions share has the same vertices in both.
        """
        if not self.parts:
            return np.array([], dtype=object), np.array([], dtype=np.int64)
        group = self._groups()
        order = np.argsort(group, kind="stable")
        parts = np.array(self.parts, dtype=object)[order]
        starts = np.flatnonzero(np.diff(group[order], prepend=-1))
        whole = [
            some[0] if len(some) == 1 else shapely.union_all(some)
            for some in np.split(parts, starts[1:])
        ]
        junctions = np.unique(np.concatenate([*self.junctions, [NOTHING]]))  # never empty
        drawn = np.array([self._cornered(polygon, junctions) for polygon in whole], dtype=object)
        classes = np.concatenate(self.classes)[np.array(self.ids)[order][starts]]
        first = np.array([_first_pixel(polygon) for polygon in drawn])
        rows = np.lexsort(first.T)
        return shapely.normalize(drawn[rows]), classes[rows]

    def _groups(self) -> Ints:
        """Number of the region that each part is of."""
        pairs = np.unique(np.concatenate(self.joins, axis=1), axis=1)
        graph = coo_array((np.ones(pairs.shape[1], bool), tuple(pairs)), (self.count, self.count))
        regions: Ints = connected_components(graph, directed=False)[1]
        of_parts: Ints = regions[np.array(self.ids)]
        return of_parts

    def _cornered(self, polygon: BaseGeometry, junctions: Ints) -> BaseGeometry:
        rings = [polygon.exterior, *polygon.interiors]
        outer, *holes = (self._corners(shapely.get_coordinates(r), junctions) for r in rings)
        return shapely.Polygon(outer, holes)

    def _corners(self, ring: NDArray[np.float64], junctions: Ints) -> Ints:
        """Vertices of a closed ring: where it turns, and junctions that it goes straight through.

        Where a tile ended it has others, or lacks some.
        """
        ends = np.rint(ring).astype(np.int64)
        steps = np.diff(ends, axis=0)
        lengths = np.abs(steps).sum(axis=1)
        units = np.sign(steps).repeat(lengths, axis=0)
        points = ends[0] + np.cumsum(units, axis=0) - units
        turns = (units != np.roll(units, 1, axis=0)).any(axis=1)
        codes = points[:, 1] * (self.width + 1) + points[:, 0]
        # A search in what is sorted already: `isin` would sort all junctions for each ring.
        nearest = junctions[np.searchsorted(junctions, codes).clip(max=len(junctions) - 1)]
        corners: Ints = points[turns | (nearest == codes)]
        return corners


def _edge(length: int) -> Ints:
    """Classes and ids [2, n] of pixels beyond the map."""
    return np.stack([np.full(length, NOTHING), np.zeros(length, int)]).astype(np.int64)


def _first_pixel(polygon: BaseGeometry) -> tuple[float, float]:
    """Column and row of the uppermost pixel, the leftmost of several: of no other region."""
    points = shapely.get_coordinates(polygon.exterior)
    row = points[:, 1].min()
    return float(points[points[:, 1] == row, 0].min()), float(row)
