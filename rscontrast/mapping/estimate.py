"""How much work a job is, told from metadata alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyproj import Geod
from shapely.geometry.base import BaseGeometry

from rscontrast.io.grid import METRES_OF_A_DEGREE, is_geographic
from rscontrast.stac.index import item_crs
from rscontrast.stac.items.frame import missing
from rscontrast.stac.provider import BandSource, Provider
from rscontrast.stac.source import bands_of

PACKED = 0.6
"""Size of a compressed file, as a share of its pixels': a guess."""
SPEED = 250_000.0
"""Pixels that a worker maps in a second, where no earlier run tells: a guess for a CPU."""
BLOCKS = 1.15
"""Bytes read for each asked for: whole blocks are."""

WGS84 = Geod(ellps="WGS84")


@dataclass(frozen=True)
class Estimate:
    """The work of one job."""

    km2: float
    """Ground to map, square kilometres."""
    pixels: int
    """Pixels to map."""
    read_bytes: int
    """What is read, about."""


def km2(area: BaseGeometry) -> float:
    """Area on the ground of a geometry in degrees, square kilometres."""
    return abs(float(WGS84.geometry_area_perimeter(area)[0])) / 1e6


def item_res(item: Mapping[str, Any], source: BandSource) -> float | None:
    """Pixel size of a band on the ground, metres, as the item tells it; None: it does not."""
    asset = item["assets"][source.asset]
    for fields in (asset, item):
        transform: Any = fields.get("proj:transform")
        if not missing(transform):
            return _metres(float(transform[0]), asset, item)
    bands = bands_of(asset)
    band = bands[source.index - 1] if source.index <= len(bands) else {}
    for fields in (band, asset, item):
        for name in ("raster:spatial_resolution", "spatial_resolution", "gsd"):
            if not missing(fields.get(name)):
                return float(fields[name])
    return None


def _metres(pixel: float, asset: Mapping[str, Any], item: Mapping[str, Any]) -> float | None:
    crs = item_crs({**item, "assets": {"only": asset}})
    if not crs:
        return None
    return abs(pixel) * (METRES_OF_A_DEGREE if is_geographic(crs) else 1.0)


def band_bytes(item: Mapping[str, Any], bands: Sequence[str], provider: Provider) -> float:
    """Bytes of a square metre of an item's bands and masks, in the files."""
    total = 0.0
    sources = [*(provider.band(item, band) for band in bands), *provider.masks(item)]
    ground = km2(item["geometry"]) * 1e6
    for source in sources:
        asset = item["assets"][source.asset]
        size, res = asset.get("file:size"), item_res(item, source)
        if not missing(size) and ground > 0:
            # A file of several bands is read once.
            total += float(size) / ground / sum(o.asset == source.asset for o in sources)
        elif res:
            total += _depth(asset, source) * PACKED / res**2
    return total


def _depth(asset: Mapping[str, Any], source: BandSource) -> int:
    """Bytes of a pixel; 2 where nothing tells."""
    bands = bands_of(asset)
    band = bands[source.index - 1] if source.index <= len(bands) else {}
    name = band.get("data_type") or asset.get("data_type") or "uint16"
    try:
        return np.dtype(name).itemsize
    except TypeError:
        return 2
