"""Geometries of any CRS in longitude and latitude, right across the antimeridian and the poles."""

from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from rscontrast.errors import InputError

GLOBE = shapely.box(-180, -90, 180, 90)

_STEP = 2_000
"""Metres between the points of a projected edge: its chords in degrees are off by decimetres."""
_RADIUS = 6_371_000
"""Metres in a radian of the Earth's surface, the unit of a rotated grid."""
_FINE = 1e-6
"""Degrees, a decimetre: points that move an edge by less are left out."""
_GRID = 1e-9
"""Degrees: closes the seams that rounding leaves between parts."""


def wrap(geometry: BaseGeometry) -> BaseGeometry:
    """Bring longitudes beyond 180 back, cutting the geometry where it crosses the antimeridian.

    Args:
        geometry: degrees; its longitudes run on over 180 (175 to 190), instead of jumping.

    Returns:
        the same places with longitudes from -180 to 180.
    """
    west, _, east, _ = geometry.bounds
    if west >= -180 and east <= 180:
        return geometry
    turns = range(int((west + 180) // 360), int(-((180 - east) // 360)) + 1)
    parts = [_shift(geometry, -360 * turn).intersection(GLOBE) for turn in turns]
    return shapely.union_all([part for part in parts if not part.is_empty], grid_size=_GRID)


def _shift(geometry: BaseGeometry, degrees: float) -> BaseGeometry:
    return shapely.transform(geometry, lambda points: np.add(points, (degrees, 0)))


def to_lonlat(geometry: BaseGeometry, crs: pyproj.CRS) -> BaseGeometry:
    """Transform a valid geometry to EPSG:4326.

    An edge is straight in the CRS it comes in, so that it becomes a curve in degrees. A polygon
    that holds a pole reaches up to the pole.

    Args:
        geometry: of two dimensions, in ``crs``.
        crs: any geographic or projected CRS.

    Returns:
        valid, with longitudes from -180 to 180.

    Raises:
        InputError: the CRS has no place on the Earth for a point of it.
    """
    if not (crs.is_geographic or crs.is_projected):
        raise InputError("aoi", crs.name, "a geographic or projected CRS")
    change = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    unit = crs.axis_info[0].unit_conversion_factor
    if crs.is_geographic and not crs.is_derived:
        area = wrap(_transform(geometry, change, np.degrees(unit)))
    else:
        metres = unit * _RADIUS if crs.is_geographic else unit
        dense = shapely.segmentize(geometry, _STEP / metres)
        parts = [_part(part, change) for part in _simple_parts(dense)]
        area = shapely.union_all(parts, grid_size=_GRID if len(parts) > 1 else None)
        area = shapely.simplify(area, _FINE)
    return area if area.is_valid else shapely.make_valid(area)


def _simple_parts(geometry: BaseGeometry) -> list[BaseGeometry]:
    """Points, lines and polygons; a collection in a collection is taken apart too."""
    parts = shapely.get_parts(geometry)
    if len(parts) == 1 and not hasattr(parts[0], "geoms"):
        return [parts[0]]
    return [piece for part in parts for piece in _simple_parts(part)]


def _part(part: BaseGeometry, change: pyproj.Transformer) -> BaseGeometry:
    if not isinstance(part, shapely.Polygon):
        return wrap(_transform(part, change))
    holes = [_inside(shapely.Polygon(ring), change) for ring in part.interiors]
    return _inside(shapely.Polygon(part.exterior), change).difference(shapely.union_all(holes))


def _inside(shell: shapely.Polygon, change: pyproj.Transformer) -> BaseGeometry:
    """Places that a ring goes round: with those beyond the pole, if it goes round the pole."""
    ring = _lonlat(shapely.get_coordinates(shell), change)
    if round((ring[-1, 0] - ring[0, 0]) / 360):
        ring = np.vstack([ring, (ring[-1, 0], 90), (ring[0, 0], 90)])
    area = shapely.Polygon(ring)
    area = wrap(area if area.is_valid else shapely.make_valid(area))
    # A ring parts the globe in two. What it holds is the side with a point that it held before.
    inner = shapely.Point(_lonlat(shapely.get_coordinates(shell.representative_point()), change))
    return area if area.distance(wrap(inner)) < _FINE else GLOBE.difference(area)


def _transform(
    geometry: BaseGeometry, change: pyproj.Transformer, unit: float | None = None
) -> BaseGeometry:
    return shapely.transform(geometry, lambda points: _lonlat(points, change, unit))


def _lonlat(
    points: NDArray[Any], change: pyproj.Transformer, unit: float | None = None
) -> NDArray[Any]:
    """Degrees of the points of a line, in which longitudes run on instead of jumping by 360.

    Args:
        points: in the CRS, shape (n, 2).
        change: from the CRS.
        unit: of a geographic CRS, in degrees: its own longitudes tell which turn is meant.
    """
    lon, lat = (np.asarray(axis) for axis in change.transform(points[:, 0], points[:, 1]))
    placed = np.isfinite(lon) & np.isfinite(lat)
    if not placed.all():
        allowed = "coordinates that its CRS places on the Earth"
        raise InputError("aoi", points[~placed][0].tolist(), allowed)
    if unit is not None:
        return np.column_stack([lon + 360 * np.round((points[:, 0] * unit - lon) / 360), lat])
    lon, lat = _through_pole(lon, lat)
    return np.column_stack([np.unwrap(lon, period=360), lat])


def _through_pole(lon: NDArray[Any], lat: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """A pole has no longitude: it is reached along one neighbour's and left along the other's."""
    poles = np.flatnonzero(np.abs(lat) > 90 - _GRID)
    before, after = np.roll(lon, 1)[poles], np.roll(lon, -1)[poles]
    if len(lon) == 1 or not len(poles):
        return lon, lat
    lon = lon.copy()
    lon[poles] = before
    return np.insert(lon, poles + 1, after), np.insert(lat, poles + 1, lat[poles])
