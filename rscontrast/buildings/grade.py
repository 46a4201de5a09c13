"""A grade for each building: what the pixels within its footprint vote for."""

import math
from collections.abc import Sequence
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError
from rasterio.windows import Window

from rscontrast.buildings.footprints import checked, repaired
from rscontrast.buildings.weights import Floats, ground_area, pixel_weights
from rscontrast.errors import AssetError, InputError, choose, whole
from rscontrast.io.grid import crs_wkt
from rscontrast.mapping.native import Tile, tiles
from rscontrast.types import DAMAGE_CLASSES, PathOrStr

VOTES = ("area", "majority", "max")
UNGRADED = -1
"""Grade of a building without a usable pixel, or in which no pixel speaks for any grade."""


def grade(
    footprints: gpd.GeoDataFrame,
    probabilities: NDArray[np.floating[Any]],
    valid: NDArray[np.bool_] | None,
    geobox: GeoBox,
    vote: str = "area",
    *,
    class_names: Sequence[str] = DAMAGE_CLASSES,
    background: int | None = 0,
) -> gpd.GeoDataFrame:
    """Grade footprints by the class probabilities of a map.

    With w_i the share of pixel i that the footprint covers, exactly, and p_ik its probability of
    grade k, the vote for k is

    - "area": sum_i w_i p_ik;
    - "majority": sum_i w_i [k is the likeliest grade of i];
    - "max": max_i w_i p_ik, so that one badly damaged part decides.

    The probability of a grade is its vote by those of all grades. The background has no vote: a
    footprint is known to be a building.

    Args:
        footprints: polygons in any CRS; other columns stay.
        probabilities: [K, H, W], 0 to 1.
        valid: bool [H, W], pixels that vote; None: all.
        geobox: grid of both.
        vote: "area", "majority" or "max".
        class_names: of all K classes, in label order.
        background: class without a vote; None: every class is a grade.

    Returns:
        the footprints, in their order and CRS, with ``grade`` (class number; -1: no usable pixel),
        ``grade_name``, ``probability`` of the grade, ``p_NAME`` of each grade (sum 1),
        ``uncertainty`` (entropy of these by log of their number, 0 to 1), ``background_share``
        (mean probability of the background: high where a footprint is off its building),
        ``valid_share`` (of the footprint's area), ``area_m2`` (on the ellipsoid), ``vote``.

    Raises:
        InputError: arrays that do not fit, probabilities out of range, footprints without a CRS
            or with such a column already, or an unknown vote.
        GridError: the grid has no CRS.
    """
    height, width = geobox.shape
    if probabilities.shape != (len(class_names), height, width):
        allowed = f"{(len(class_names), height, width)}, by class_names and geobox"
        raise InputError("probabilities", probabilities.shape, allowed)
    usable = np.ones(geobox.shape, dtype=bool) if valid is None else valid
    if usable.shape != geobox.shape or usable.dtype != bool:
        raise InputError("valid", f"{usable.dtype} {usable.shape}", f"bool {tuple(geobox.shape)}")
    ballots = Ballots(footprints, geobox, vote, class_names, background)
    ballots.add(probabilities, usable, Tile(0, 0, height, width))
    return ballots.frame()


def grade_raster(
    footprints: gpd.GeoDataFrame,
    path: PathOrStr,
    vote: str = "area",
    *,
    class_names: Sequence[str] | None = None,
    background: int | None = 0,
    tile_size: int = 1024,
) -> gpd.GeoDataFrame:
    """Grade footprints by a probability raster of ``map_pairs``, tile by tile.

    Tiles without a footprint are not read; how the raster is cut into tiles changes nothing.

    Args:
        footprints: see :func:`grade`.
        path: raster with a band for each class; its scale and nodata hold.
        vote: see :func:`grade`.
        class_names: of the bands; None: their descriptions.
        background: see :func:`grade`.
        tile_size: side of what is held in memory, pixels.

    Raises:
        InputError: see :func:`grade`.
        AssetError: the raster cannot be read.
        GridError: it has no CRS.
    """
    whole("tile_size", tile_size)
    try:
        with rasterio.open(path) as source:
            box = GeoBox(source.shape, source.transform, source.crs)
            names = source.descriptions if class_names is None else tuple(class_names)
            if len(names) != source.count or not all(names):
                raise InputError("class_names", class_names, f"a name for each of {source.count}")
            ballots = Ballots(footprints, box, vote, names, background)
            for tile in tiles(box, tile_size):
                if ballots.within(tile).size:
                    ballots.add(*_read(source, tile), tile)
    except RasterioError as error:
        raise AssetError(f"{path}: cannot be read ({error})") from error
    return ballots.frame()


def _read(source: rasterio.DatasetReader, tile: Tile) -> tuple[Floats, NDArray[np.bool_]]:
    window = Window(tile.col, tile.row, tile.width, tile.height)
    numbers = source.read(window=window, masked=True)
    scale = np.array(source.scales)[:, None, None]
    return numbers.filled(0) * scale, ~np.ma.getmaskarray(numbers).any(axis=0)


class Ballots:
    """Votes of each footprint, of which tiles add their own."""

    def __init__(
        self,
        footprints: gpd.GeoDataFrame,
        geobox: GeoBox,
        vote: str,
        class_names: Sequence[str],
        background: int | None,
    ) -> None:
        """Bring the footprints onto the grid; the arguments are those of :func:`grade`."""
        self.vote, self.names = choose("vote", vote, VOTES), tuple(class_names)
        self.background = background
        self.grades = [k for k in range(len(self.names)) if k != background]
        if not self.grades or len(set(self.names)) < len(self.names):
            raise InputError("class_names", self.names, "different names, 1 or more that vote")
        if background is not None and not 0 <= background < len(self.names):
            raise InputError("background", background, f"0 to {len(self.names) - 1}, or None")
        self.footprints = checked(footprints)
        there = self.footprints.geometry.to_crs(crs_wkt(geobox)).to_numpy()
        moved = shapely.transform(there, _to_pixels(geobox))
        # Beyond what the CRS can show there are no numbers, and so no pixels.
        moved[~np.isfinite(shapely.bounds(moved)).all(axis=1)] = shapely.Polygon()
        self.pixels = repaired(moved)
        self.bounds = shapely.bounds(self.pixels)
        self.votes = np.zeros((len(there), len(self.grades)))
        self.valid, self.behind = np.zeros((2, len(there)))

    def within(self, tile: Tile) -> NDArray[np.intp]:
        """Rows of the footprints whose bounds meet a tile."""
        left, top, right, bottom = self.bounds.T
        # Bounds of an empty polygon are NaN, which compares as False.
        across = (left < tile.col + tile.width) & (right > tile.col)
        return np.flatnonzero(across & (top < tile.row + tile.height) & (bottom > tile.row))

    def add(
        self, probabilities: NDArray[np.floating[Any]], valid: NDArray[np.bool_], tile: Tile
    ) -> None:
        """Take the votes of a tile's pixels: [K, h, w] and [h, w]."""
        for row in self.within(tile):
            window = _meet(self.bounds[row], tile)
            part = (
                slice(window.row - tile.row, window.row - tile.row + window.height),
                slice(window.col - tile.col, window.col - tile.col + window.width),
            )
            weights = pixel_weights(self.pixels[row], window) * valid[part]
            voting = weights > 0
            chances = probabilities[:, *part][:, voting].astype(np.float64)
            if not ((chances >= 0) & (chances <= 1 + 1e-6)).all():  # NaN included
                raise InputError("probabilities", "values beyond 0 to 1, or NaN", "0 to 1")
            self._cast(row, weights[voting], chances)

    def _cast(self, row: int, weights: Floats, chances: Floats) -> None:
        if not weights.size:
            return
        self.valid[row] += weights.sum()
        if self.background is not None:
            self.behind[row] += weights @ chances[self.background]
        grades = chances[self.grades]
        if self.vote == "area":
            self.votes[row] += grades @ weights
        elif self.vote == "majority":
            speaking = grades.any(axis=0)
            best = grades.argmax(axis=0)[speaking]
            self.votes[row] += np.bincount(best, weights[speaking], minlength=len(grades))
        else:
            self.votes[row] = np.maximum(self.votes[row], (grades * weights).max(axis=1))

    def frame(self) -> gpd.GeoDataFrame:
        """Count: see :func:`grade`."""
        total = self.votes.sum(axis=1)
        graded = total > 0
        with np.errstate(invalid="ignore"):
            shares = self.votes / total[:, None]
            behind = self.behind / np.where(self.valid > 0, self.valid, np.nan)
        best = self.votes.argmax(axis=1)
        names = np.array([self.names[k] for k in self.grades], dtype=object)
        area = shapely.area(self.pixels)
        columns = {
            "grade": np.where(graded, np.array(self.grades)[best], UNGRADED),
            "grade_name": np.array([*names, None], dtype=object)[np.where(graded, best, -1)],
            "probability": np.take_along_axis(shares, best[:, None], axis=1)[:, 0],
            **{f"p_{name}": share for name, share in zip(names, shares.T, strict=True)},
            "uncertainty": _uncertainty(shares),
            "background_share": behind,
            "valid_share": np.minimum(1.0, self.valid / np.where(area > 0, area, np.inf)),
            "area_m2": ground_area(self.footprints.geometry),
            "vote": self.vote,
        }
        taken = sorted(set(columns) & set(self.footprints))
        if taken:
            raise InputError(
                "footprints", f"columns {', '.join(taken)}", "other names; rename them"
            )
        return self.footprints.assign(**columns)


def _to_pixels(geobox: GeoBox) -> Any:
    inverse = ~geobox.transform

    def move(xy: Floats) -> Floats:
        x, y = xy.T
        a, b, c, d, e, f = tuple(inverse)[:6]
        return np.column_stack([a * x + b * y + c, d * x + e * y + f])

    return move


def _meet(bounds: Floats, tile: Tile) -> Tile:
    """Pixels of a tile within bounds."""
    left, top = max(tile.col, math.floor(bounds[0])), max(tile.row, math.floor(bounds[1]))
    right = min(tile.col + tile.width, math.ceil(bounds[2]))
    bottom = min(tile.row + tile.height, math.ceil(bounds[3]))
    return Tile(top, left, bottom - top, right - left)


def _uncertainty(shares: Floats) -> Floats:
    """Entropy of each row by its greatest, NaN where the row is; of one grade 0."""
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    entropy = -(shares * logs).sum(axis=1)
    found: Floats = np.abs(entropy) / (math.log(shares.shape[1]) or 1.0)  # abs: no -0.0
    return found
