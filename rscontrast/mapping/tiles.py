"""Where tiles lie: one endless lattice of them in each UTM zone, or in the user's CRS.

Tile (col, row) of a lattice reaches from ``anchor + (col, row) * tile_size * res`` to the right
and upwards, so that any run, whatever its area, gives the same tiles. A place belongs to the UTM
zone of its longitude, ``west <= longitude < east`` in strips of six degrees (without the
exceptions of Norway and Svalbard), and to the hemisphere of its latitude. The tiles that lie
across the border of a zone are in both zones' lattices, and each is cut at the border: what is
left of them are disjoint pieces that leave no gap, to the precision of a cut, a few centimetres.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo import CRSError
from odc.geo.crs import CRS as GridCRS  # noqa: N811
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from rscontrast.errors import GridError, InputError, positive, whole
from rscontrast.io.grid import same_crs, transformer
from rscontrast.stac.conditions.sphere import wrap
from rscontrast.types import Bounds

SOUTH, NORTH = -80.0, 84.0
"""Latitudes where UTM ends."""
FINE = 0.01
"""Degrees between the points of an edge that bends: its chords are off by centimetres."""
NEAR = 3.0
"""Degrees around a zone within which imagery is brought into its CRS."""

type Shapes = NDArray[np.object_]


@dataclass(frozen=True)
class Tile:
    """One tile of a lattice."""

    id: str
    """File-safe and unique."""
    geobox: GeoBox
    """Its pixels."""
    aoi: BaseGeometry | None
    """What is mapped of it, in its CRS; None: all."""
    ground: BaseGeometry
    """The same in degrees."""


@dataclass(frozen=True)
class Lattice:
    """The tiles of one CRS."""

    name: str
    """Begins the ids of its tiles."""
    crs: str
    """As pyproj reads it."""
    res: float
    """Side of a pixel, units of the CRS."""
    tile_size: int
    """Side of a tile, pixels."""
    anchor: tuple[float, float] = (0.0, 0.0)
    """Lower left corner of tile (0, 0)."""
    strip: Bounds | None = None
    """Degrees whose ground is this lattice's; None: all."""

    def __post_init__(self) -> None:
        """Refuse what makes no grid.

        Raises:
            InputError: an unknown CRS, a size out of range.
        """
        positive("res", self.res)
        whole("tile_size", self.tile_size)
        try:
            GridCRS(self.crs)
        except CRSError as error:
            raise InputError("crs", self.crs, "a CRS, such as EPSG:3857") from error

    @property
    def side(self) -> float:
        """Side of a tile, units of the CRS."""
        return self.tile_size * self.res

    def geobox(self, col: int, row: int) -> GeoBox:
        """Grid of a tile."""
        left = self.anchor[0] + col * self.side
        top = self.anchor[1] + (row + 1) * self.side
        transform = Affine(self.res, 0.0, left, 0.0, -self.res, top)
        return GeoBox((self.tile_size, self.tile_size), transform, self.crs)

    def tiles(self, extent: BaseGeometry, aoi: BaseGeometry | None) -> list[Tile]:
        """List the tiles on an extent.

        Args:
            extent: in degrees.
            aoi: in degrees; tiles that reach beyond it are cut. None: only zones cut.

        Raises:
            GridError: the extent has no place in the CRS.
        """
        area = self.ground(extent)
        if area.is_empty or area.area == 0:
            return []
        cols, rows = self._numbers(area)
        boxes = self._boxes(cols, rows)
        limit = self._limit if aoi is None else self.ground(aoi)
        shapely.prepare(limit)
        within = np.full(len(boxes), True) if limit is None else shapely.covers(limit, boxes)
        cut = boxes.copy()
        if limit is not None:
            cut[~within] = shapely.intersection(boxes[~within], limit)
        kept = np.flatnonzero(shapely.area(cut) > 0)
        return [
            Tile(
                f"{self.name}_{cols[n]:04d}_{rows[n]:04d}",
                self.geobox(int(cols[n]), int(rows[n])),
                None if within[n] else _polygons(cut[n]),
                self.degrees(_polygons(cut[n])),
            )
            for n in kept
        ]

    def ground(self, area: BaseGeometry) -> BaseGeometry:
        """What of an area in degrees is this lattice's, in its CRS; edges bend.

        Raises:
            GridError: the area has no place in the CRS.
        """
        part = area if self.strip is None else shapely.intersection(area, shapely.box(*self.strip))
        part = _polygons(part)
        if part.is_empty:
            return part
        moved = shapely.transform(shapely.segmentize(part, FINE), self._move, interleaved=False)
        if not np.isfinite(shapely.get_coordinates(moved)).all():
            raise GridError(f"{area.bounds} has no place in {self.crs}; choose another crs")
        return _polygons(shapely.make_valid(moved))

    def footprints(self, shapes: Shapes) -> Shapes:
        """Bring outlines in degrees into the CRS; None where they lie far away.

        Their corners are moved: the edges of a scene are straight in metres, not in degrees.
        """
        out = np.full(len(shapes), None, dtype=object)
        near = np.arange(len(shapes))
        if self.strip is not None:
            west, south, east, north = self.strip
            window = wrap(shapely.box(west - NEAR, south - NEAR, east + NEAR, north + NEAR))
            shapely.prepare(window)
            near = np.flatnonzero(shapely.intersects(window, shapes))
            far = ~shapely.covers(window, shapes[near])
            shapes = shapes.copy()
            shapes[near[far]] = shapely.intersection(shapes[near[far]], window)
        out[near] = shapely.transform(shapely.force_2d(shapes[near]), self._move, interleaved=False)
        valid: Shapes = shapely.make_valid(out)
        return valid

    def degrees(self, area: BaseGeometry) -> BaseGeometry:
        """An area of this lattice in degrees, in one piece beside the antimeridian too."""
        dense = shapely.segmentize(area, self.side / 16)
        back = transformer(self.crs, "EPSG:4326").transform
        middle = 0.0 if self.strip is None else (self.strip[0] + self.strip[2]) / 2

        def moved(x: NDArray[np.float64], y: NDArray[np.float64]) -> list[NDArray[np.float64]]:
            longitude, latitude = back(x, y)
            turned = longitude if self.strip is None else _near(longitude, middle)
            return [np.clip(turned, -180, 180), latitude]

        there: BaseGeometry = shapely.transform(dense, moved, interleaved=False)
        return there

    @property
    def _move(self) -> Callable[..., tuple[NDArray[np.float64], NDArray[np.float64]]]:
        move: Callable[..., tuple[NDArray[np.float64], NDArray[np.float64]]] = transformer(
            "EPSG:4326", self.crs
        ).transform
        return move

    @cached_property
    def _limit(self) -> BaseGeometry | None:
        return None if self.strip is None else self.ground(shapely.box(*self.strip))

    def _numbers(self, area: BaseGeometry) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Columns and rows of the tiles that meet an area, row by row from the south."""
        xmin, ymin, xmax, ymax = np.array(area.bounds) - np.array(self.anchor * 2)
        low = np.floor(np.array([xmin, ymin]) / self.side).astype(int)
        high = np.ceil(np.array([xmax, ymax]) / self.side).astype(int)
        rows, cols = np.mgrid[low[1] : high[1], low[0] : high[0]]
        cols, rows = cols.ravel(), rows.ravel()
        shapely.prepare(area)
        meet = shapely.intersects(area, self._boxes(cols, rows))
        meet &= ~shapely.touches(area, self._boxes(cols, rows))
        return cols[meet], rows[meet]

    def _boxes(self, cols: NDArray[np.int64], rows: NDArray[np.int64]) -> Shapes:
        x, y = self.anchor[0] + cols * self.side, self.anchor[1] + rows * self.side
        boxes: Shapes = np.asarray(shapely.box(x, y, x + self.side, y + self.side), dtype=object)
        return boxes


def utm(area: BaseGeometry, res: float, tile_size: int) -> Iterator[Lattice]:
    """Lattices of the UTM zones that an area in degrees meets, from west to east.

    Raises:
        GridError: the area reaches beyond 84 N or 80 S, where UTM ends.
    """
    _, low, _, high = area.bounds
    if low < SOUTH or high > NORTH:
        text = f"latitudes {low:.2f} to {high:.2f}: UTM ends at 80 S and 84 N"
        raise GridError(f"{text}; cut the aoi there, or give a crs (polar: EPSG:5041, EPSG:5042)")
    for zone in range(60):
        for code, south, north in ((32601, 0.0, NORTH), (32701, SOUTH, 0.0)):
            strip = (-180.0 + 6 * zone, south, -174.0 + 6 * zone, north)
            if shapely.intersection(area, shapely.box(*strip)).area > 0:
                crs = code + zone
                yield Lattice(str(crs), f"EPSG:{crs}", res, tile_size, strip=strip)


def user_lattice(crs: str, res: float, tile_size: int, anchor: tuple[float, float]) -> Lattice:
    """Lattice of a CRS of the user's, not cut into zones.

    Raises:
        InputError: an unknown CRS, a size out of range.
    """
    lattice = Lattice("grid", crs, res, tile_size, anchor)
    code = GridCRS(crs).to_epsg()
    named = code is not None and same_crs(f"EPSG:{code}", crs)
    return Lattice(str(code), f"EPSG:{code}", res, tile_size, anchor) if named else lattice


def _near(longitude: NDArray[np.float64], middle: float) -> NDArray[np.float64]:
    return (longitude - middle + 180) % 360 - 180 + middle


def _polygons(area: BaseGeometry) -> BaseGeometry:
    """Without the lines and points that a cut can leave."""
    if area.geom_type in ("Polygon", "MultiPolygon"):
        return area
    parts = shapely.get_parts(shapely.get_parts(area))
    return shapely.union_all([p for p in parts if p.geom_type in ("Polygon", "MultiPolygon")])
