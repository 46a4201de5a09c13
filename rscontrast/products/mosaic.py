"""All tiles as one raster across zones: a COG, filled block by block from the zones' VRTs.

A pixel is what the nearest valid pixel of a zone says, for classes and probabilities alike, so
that both stay of one mind. Along the border of two UTM zones each is cut where a pixel's centre
lies beyond it. The nearest pixel of either zone may be one that was cut away: there the nearest
of its neighbours stands in, at most a pixel away, so that no line is left open.
"""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError
from rasterio.windows import Window

from rscontrast.errors import AssetError
from rscontrast.io import CogWriter
from rscontrast.io.grid import apply_affine, crs_wkt, footprint, same_crs, transformer
from rscontrast.mapping.native import Tile, part, tiles
from rscontrast.products.done import Zone
from rscontrast.report.palette import Palette, rgb

WEB = "EPSG:3857"
"""CRS of a mosaic of several zones."""
BLOCK = 1024
"""Side of what is held in memory, pixels."""
NODES = 16
"""Pixels between places whose coordinates are computed; between them they are interpolated,
which is off by a thousandth of a pixel of 10 m."""

type Floats = NDArray[np.floating[Any]]
type Pixels = NDArray[Any]
type Masks = NDArray[np.bool_]


def mosaic_geobox(found: Sequence[Zone], crs: str | None = None) -> GeoBox:
    """Grid that holds all tiles.

    Args:
        found: zones with their tiles.
        crs: of the mosaic; None: that of the zone, of several :data:`WEB`.

    Returns:
        of one zone its own lattice; else pixels of about the same size on the ground, at the
        middle, on a lattice through the origin.
    """
    if len(found) == 1 and (crs is None or same_crs(crs, crs_wkt(found[0].geobox))):
        return found[0].geobox
    target = crs or WEB
    outlines = [footprint(o.job.geobox, target) for zone in found for o, _, _ in zone.parts]
    xmin, ymin, xmax, ymax = shapely.total_bounds(outlines)
    boxes = [one.job.geobox for zone in found for one, _, _ in zone.parts]
    middle = [(xmin + xmax) / 2, (ymin + ymax) / 2]
    # A tile near the middle tells the size there; what is far away is not what is looked at.
    near = min(range(len(boxes)), key=lambda n: math.dist(_centre(outlines[n]), middle))
    res = math.sqrt(outlines[near].area / math.prod(boxes[near].shape))
    left, bottom = math.floor(xmin / res), math.floor(ymin / res)
    right, top = math.ceil(xmax / res), math.ceil(ymax / res)
    transform = Affine(res, 0, left * res, 0, -res, top * res)
    return GeoBox((top - bottom, right - left), transform, target)


def _centre(outline: Any) -> tuple[float, float]:
    return outline.centroid.x, outline.centroid.y


def write_cog(
    path: Path, geobox: GeoBox, found: Sequence[Zone], vrts: Sequence[Path], palette: Palette = ()
) -> None:
    """Write one COG of the VRTs of all zones; memory does not grow with its size.

    Args:
        path: of the COG.
        geobox: its grid.
        found: zones.
        vrts: of each zone.
        palette: colours of the classes, for a raster of classes.

    Raises:
        AssetError: a tile cannot be read.
        WriteError: the disk does not take it.
    """
    with ExitStack() as stack:
        sources = [_Source(zone, stack.enter_context(_opened(v)), geobox)
                   for zone, v in zip(found, vrts, strict=True)]  # fmt: skip
        first = sources[0].raster
        writer = stack.enter_context(
            CogWriter(
                path, geobox, dtype=first.dtypes[0], nodata=first.nodata,
                bands=[name or "" for name in first.descriptions], scale=first.scales[0],
            )
        )  # fmt: skip
        if palette:
            table = {n: (*rgb(colour), 255) for n, (_, colour) in enumerate(palette)}
            writer.raster.write_colormap(1, table)
        for tile in tiles(geobox, BLOCK):
            pixels, valid = _block(sources, geobox, tile)
            if valid.any():
                pixels[:, ~valid] = first.nodata
                writer.write(pixels, tile.row, tile.col)


def _opened(path: Path) -> rasterio.DatasetReader:
    try:
        return rasterio.open(path)
    except RasterioError as error:
        raise AssetError(f"{path}: cannot be read ({error})") from error


@dataclass
class _Taken:
    """What a zone says of the pixels of a block."""

    cols: NDArray[np.float64]
    """Column in the zone's raster, [h, w], not whole."""
    rows: NDArray[np.float64]
    """Row."""
    pixels: Pixels
    """[B, m, n] of the raster around."""
    valid: Masks
    """[m, n]."""
    corner: tuple[int, int]
    """Row and column of the first of them."""

    def at(self, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> tuple[Pixels, Masks]:
        """Pixels [B, ...] and their validity [...] at places of the raster."""
        m, n = self.valid.shape
        row, col = rows - self.corner[0], cols - self.corner[1]
        within = (row >= 0) & (row < m) & (col >= 0) & (col < n)
        row, col = row.clip(0, m - 1), col.clip(0, n - 1)
        return self.pixels[:, row, col], self.valid[row, col] & within


class _Source:
    """A zone's raster as it lies in the mosaic."""

    def __init__(self, zone: Zone, raster: rasterio.DatasetReader, geobox: GeoBox) -> None:
        self.raster, self.transform = raster, zone.geobox.transform
        self.crs, self.target = crs_wkt(zone.geobox), crs_wkt(geobox)
        code = zone.name
        self.number = int(code) if code.isdigit() and code[:3] in ("326", "327") else None
        res = abs(geobox.transform.a)
        outlines = [footprint(o.job.geobox, self.target).buffer(2 * res) for o, _, _ in zone.parts]
        self.tree = shapely.STRtree(outlines)

    def take(self, box: GeoBox) -> _Taken | None:
        """Read what lies below a block; None: nothing does."""
        if not len(self.tree.query(box.extent.geom, predicate="intersects")):
            return None
        x, y = _places(box, self.target, self.crs)
        flat_x, flat_y = (at.ravel().astype(np.float64) for at in (x, y))
        cols, rows = apply_affine(~self.transform, flat_x, flat_y)
        cols, rows = cols.reshape(x.shape), rows.reshape(x.shape)
        height, width = self.raster.shape
        top, left = max(0, math.floor(rows.min()) - 1), max(0, math.floor(cols.min()) - 1)
        bottom = min(height, math.floor(rows.max()) + 2)
        right = min(width, math.floor(cols.max()) + 2)
        if top >= bottom or left >= right:
            return None
        window = Window(left, top, right - left, bottom - top)
        try:
            pixels = self.raster.read(window=window)
            valid = self.raster.read_masks(1, window=window) > 0
        except RasterioError as error:
            raise AssetError(f"{self.raster.name}: cannot be read ({error})") from error
        return _Taken(cols, rows, pixels, valid, (top, left))


def _block(sources: Sequence[_Source], geobox: GeoBox, tile: Tile) -> tuple[Pixels, Masks]:
    box = part(geobox, tile.row, tile.col, tile.height, tile.width)
    first = sources[0].raster
    pixels = np.zeros((first.count, *box.shape), first.dtypes[0])
    valid = np.zeros(box.shape, bool)
    taken = [(source, found) for source in sources if (found := source.take(box)) is not None]
    for _, found in taken:
        said, usable = found.at(_whole(found.rows), _whole(found.cols))
        new = usable & ~valid
        pixels[:, new], valid[new] = said[:, new], True
    numbered = [(source, found) for source, found in taken if source.number is not None]
    if len(sources) > 1 and numbered and not valid.all():
        _close(numbered, box, pixels, valid)
    return pixels, valid


def _close(
    taken: Sequence[tuple[_Source, _Taken]], box: GeoBox, pixels: Pixels, valid: Masks
) -> None:
    """Give pixels along a zone's border what stands beside the pixel that was cut away."""
    longitude, latitude = _places(box, taken[0][0].target, "EPSG:4326")
    own = np.where(_near_border(longitude, latitude), _zone_number(longitude, latitude), 0)
    for source, found in taken:
        places = np.nonzero(~valid & (own == source.number))
        rows, cols = _whole(found.rows[places]), _whole(found.cols[places])
        x, y = apply_affine(source.transform, _centres(cols), _centres(rows))
        there = transformer(source.crs, "EPSG:4326").transform(x, y)
        cut = _zone_number(*there) != source.number
        places = (places[0][cut], places[1][cut])
        best = np.full(len(places[0]), np.inf)
        for down, right in _AROUND:
            row, col = rows[cut] + down, cols[cut] + right
            said, usable = found.at(row, col)
            far = np.hypot(row + 0.5 - found.rows[places], col + 0.5 - found.cols[places])
            nearer = usable & (far < best)
            best[nearer] = far[nearer]
            pixels[:, places[0][nearer], places[1][nearer]] = said[:, nearer]
        valid[places] = np.isfinite(best)


_AROUND = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if down or right]


def _near_border(longitude: Floats, latitude: Floats) -> Masks:
    """Which places lie within a few pixels of where zones meet."""
    height, width = longitude.shape
    reach = 4 * max(np.ptp(longitude) / max(1, width - 1), np.ptp(latitude) / max(1, height - 1))
    near: Masks = (np.abs((longitude + 3) % 6 - 3) < reach) | (np.abs(latitude) < reach)
    return near


def _zone_number(longitude: Floats, latitude: Floats) -> NDArray[np.int64]:
    """EPSG code of the UTM zone of each place, as tiles are cut: in strips of six degrees."""
    strip = np.floor((np.asarray(longitude) + 180) / 6).astype(np.int64) % 60
    return np.where(np.asarray(latitude) >= 0, 32601, 32701) + strip


def _whole(numbers: Floats) -> NDArray[np.int64]:
    # Pixels of the same lattice meet at their middles, where no rounding can choose another.
    return np.floor(numbers).astype(np.int64)


def _centres(pixels: NDArray[np.int64]) -> NDArray[np.float64]:
    return pixels.astype(np.float64) + 0.5


def _places(box: GeoBox, source: str, target: str) -> tuple[Floats, Floats]:
    """Coordinates in ``target`` of the pixels' centres, [h, w] each."""
    same = same_crs(source, target)
    rows, cols = (_nodes(size, 1 if same else NODES) for size in box.shape)
    node_cols, node_rows = np.meshgrid(cols[0], rows[0])
    flat_cols, flat_rows = (n.ravel().astype(np.float64) for n in (node_cols, node_rows))
    x, y = apply_affine(box.transform, flat_cols, flat_rows)
    if same:
        return x.reshape(box.shape), y.reshape(box.shape)
    moved = transformer(source, target).transform(x, y)
    at_x, at_y = (np.asarray(part).reshape(node_cols.shape) for part in moved)
    return rows[1] @ at_x @ cols[1].T, rows[1] @ at_y @ cols[1].T


def _nodes(size: int, step: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres at which coordinates are computed, and the weights [size, nodes] of each."""
    centres = np.arange(size, dtype=np.float64) + 0.5
    if step == 1:
        return centres, np.eye(0)
    nodes = centres[np.unique(np.append(np.arange(0, size, step), size - 1))]
    weights = np.array([np.interp(centres, nodes, unit) for unit in np.eye(len(nodes))]).T
    return nodes, weights
