"""How good pairs are, as their pixels say: usable ground, shift, radiometry and change."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from rscontrast.errors import InputError, positive, whole
from rscontrast.io.grid import Points, apply_affine, crs_wkt, ground_res, transformer
from rscontrast.io.measure import LEAST_SIDE, find_change, find_gains, find_shift
from rscontrast.io.read import item_source, read_mosaic
from rscontrast.stac.index import native_geobox
from rscontrast.stac.pairing.file import SomePairs, as_frame
from rscontrast.stac.provider import GENERIC, Provider

type Item = dict[str, Any]
type Dates = list[list[Item]]
"""Items of one date of each pair."""


def pair_quality(
    items: gpd.GeoDataFrame,
    pairs: SomePairs,
    *,
    bands: Sequence[str],
    provider: Provider = GENERIC,
    n: int | None = None,
    size: int = 256,
    res: float | None = None,
    max_shift: float = 16.0,
    seed: int = 0,
    workers: int = 4,
) -> gpd.GeoDataFrame:
    """Measure pairs: read a window of both dates, and add what it says as columns.

    The window lies at the roomiest point of the overlap, on the native grid of the first band
    before. The columns can serve as rules of sampling and as weights of a loss; NaN is what
    could not be measured:

    - ``valid_share``: share (0-1) of the overlap's pixels in the window usable on both dates;
    - ``shift_x``, ``shift_y``: how far the ground of the date after lies to the right and down of
      where it lies before, pixels; also NaN beyond ``max_shift``, where there is no telling;
    - ``shift_peak``: correlation (-1 to 1) of the detail of the two dates, once shifted; a shift
      with a peak near 0 is chance;
    - ``ratio_<band>``: median of post / pre;
    - ``change``: spectral change (0-1), see :func:`rscontrast.io.measure.find_change`.

    Args:
        items: the search that the pairs were made of.
        pairs: of :func:`rscontrast.stac.pair_items`; of a table too long to make at once, a
            ``sample``.
        bands: asset keys, band names or common names.
        provider: where bands lie in the assets.
        n: measure so many of the pairs, drawn by ``seed``; default: all.
        size: largest side of the window, pixels, 16 or more.
        res: size of a pixel on the ground, metres; default: the native one.
        max_shift: largest shift that is believed, pixels.
        seed: of the draw.
        workers: threads that read.

    Returns:
        the pairs that were measured, in their order and with their index, with these columns.

    Raises:
        InputError: no band, numbers out of range, or pairs of other items.
        BandError: an item lacks a band.
        AssetError: a file cannot be read.
        GridError: a file has no place on the earth.
    """
    reader = _Reader(_names(bands), provider, size, res, max_shift)
    pairs = _draw(as_frame(pairs), n, seed)
    jobs = [pairs.geometry, *_dates(items, pairs)]
    with ThreadPoolExecutor(whole("workers", workers)) as threads:
        measured = list(threads.map(reader.measure, *jobs))
    columns = pd.DataFrame(measured, columns=reader.columns, dtype=np.float64)
    return pairs.assign(**{name: column.to_numpy() for name, column in columns.items()})


def _names(bands: Sequence[str]) -> tuple[str, ...]:
    if not bands or isinstance(bands, str):
        raise InputError("bands", bands, "a list of 1 or more band names")
    return tuple(bands)


def _draw(pairs: gpd.GeoDataFrame, n: int | None, seed: int) -> gpd.GeoDataFrame:
    if n is None or whole("n", n) >= len(pairs):
        return pairs
    rows = np.random.default_rng(seed).choice(len(pairs), n, replace=False)
    return pairs.iloc[np.sort(rows)]


def _dates(items: gpd.GeoDataFrame, pairs: gpd.GeoDataFrame) -> tuple[Dates, Dates]:
    """Items of both dates of each pair; an id is unique only within its collection."""
    sides = pairs["pre_ids"].tolist(), pairs["post_ids"].tolist()
    named = {name for side in sides for ids in side for name in ids}
    found = items[items["id"].isin(named)]
    keys = zip(found["collection"].fillna(""), found["id"], strict=True)
    rows: list[Item] = found.to_dict("records")
    known = dict(zip(keys, rows, strict=True))
    collections = pairs["collection"].fillna("").tolist()

    def item(collection: str, name: str) -> Item:
        if (collection, name) not in known:
            raise InputError("pairs", name, "pairs of the items given (same search)")
        return known[collection, name]

    pre, post = (
        [[item(c, name) for name in ids] for c, ids in zip(collections, side, strict=True)]
        for side in sides
    )
    return pre, post


@dataclass(frozen=True)
class _Reader:
    """What is the same for all pairs; its fields are arguments of :func:`pair_quality`."""

    bands: tuple[str, ...]
    provider: Provider
    size: int
    res: float | None
    max_shift: float

    def __post_init__(self) -> None:
        whole("size", self.size, least=LEAST_SIDE)
        positive("max_shift", self.max_shift)
        if self.res is not None:
            positive("res", self.res)

    @property
    def columns(self) -> list[str]:
        ratios = [f"ratio_{band}" for band in self.bands]
        return ["valid_share", "shift_x", "shift_y", "shift_peak", *ratios, "change"]

    def measure(self, overlap: BaseGeometry, pre: list[Item], post: list[Item]) -> list[float]:
        """Values of :attr:`columns`."""
        dates = [
            [item_source(item, self.bands, self.provider) for item in date] for date in (pre, post)
        ]
        lattice = native_geobox(pre[0], dates[0][0].bands[0].asset, self.provider.signer)
        window = _window(overlap, _zoomed(lattice, self.res), self.size)
        if window is None:
            return [0.0] + [np.nan] * (len(self.columns) - 1)
        (before, pre_valid), (after, post_valid) = (read_mosaic(d, window.geobox) for d in dates)
        valid = pre_valid & post_valid & window.inside
        shift = find_shift(before, after, pre_valid, post_valid)
        x, y = shift[:2] if np.hypot(shift.x, shift.y) <= self.max_shift else (np.nan, np.nan)
        gains = find_gains(before, after, valid)
        change = find_change(before, after, valid, gains)
        return [valid.sum() / window.inside.sum(), x, y, shift.peak, *gains, change]


def _zoomed(lattice: GeoBox, res: float | None) -> GeoBox:
    """The lattice with pixels of ``res`` metres on the ground."""
    zoom = 1.0 if res is None else res / ground_res(lattice)
    return GeoBox(lattice.shape, lattice.transform @ Affine.scale(zoom), lattice.crs)


class _Window(NamedTuple):
    """A part of the overlap."""

    geobox: GeoBox
    """Its grid."""
    inside: NDArray[np.bool_]
    """Pixels in the overlap, [H, W]; at least one."""


def _window(overlap: BaseGeometry, lattice: GeoBox, size: int) -> _Window | None:
    """Place a window at the roomiest point of the overlap; None: no pixel is in it."""
    move = transformer("EPSG:4326", crs_wkt(lattice)).transform

    def pixels(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> Points:
        return apply_affine(~lattice.transform, *map(np.asarray, move(lon, lat)))

    # Edges straight in degrees bend in another CRS; a buffer of 0 leaves lines and points out.
    bent = shapely.segmentize(overlap, max(overlap.length / 64, 1e-9))
    area = shapely.buffer(shapely.transform(bent, pixels, interleaved=False), 0)
    if area.is_empty:
        return None
    middle = shapely.get_coordinates(shapely.maximum_inscribed_circle(area, 1.0))[0]
    spans = [_span(area.bounds[axis], area.bounds[axis + 2], middle[axis], size) for axis in (0, 1)]
    (left, width), (top, height) = spans
    corner = Affine.translation(left, top)
    x, y = np.meshgrid(np.arange(width) + left + 0.5, np.arange(height) + top + 0.5)
    shapely.prepare(area)
    inside = shapely.contains_xy(area, x, y)
    geobox = GeoBox((height, width), lattice.transform @ corner, lattice.crs)
    return _Window(geobox, inside) if inside.any() else None


def _span(low: float, high: float, middle: float, size: int) -> tuple[int, int]:
    """First pixel and number of pixels, at most ``size``, around ``middle`` within bounds."""
    # A footprint written in degrees ends a little off the pixel that it means.
    first, last = math.floor(low + 0.1), math.ceil(high - 0.1)
    count = max(1, min(size, last - first))
    return min(max(round(middle - count / 2), first), max(first, last - count)), count
