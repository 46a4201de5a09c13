"""Labels of a vector file, drawn onto the grid of each patch."""

from collections.abc import Mapping
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
import torch
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.features import rasterize
from shapely.geometry.base import BaseGeometry

from rscontrast.datasets.onimages import LabelsOn
from rscontrast.datasets.stac import STACDataset
from rscontrast.errors import AssetError, InputError
from rscontrast.io.grid import crs_wkt, transformer
from rscontrast.types import IGNORE, PathOrStr

LONLAT = "EPSG:4326"
POINTS = 16
"""Points of each side of a grid's outline: sides that are straight there bend in degrees."""


class VectorLabels(LabelsOn):
    """Classes of polygons: ``mask`` int64 [H, W], class 0 beside them, 255 beyond what was drawn.

    A pixel is of a polygon if its centre is in it. Where polygons overlap, the highest class
    counts: of two grades the worse one. The labels hold for all dates of the imagery.
    """

    def __init__(
        self,
        images: STACDataset,
        vectors: gpd.GeoDataFrame | PathOrStr,
        attribute: str,
        values: Mapping[Any, int] | None = None,
        area: gpd.GeoDataFrame | PathOrStr | None = None,
    ) -> None:
        """Read the polygons.

        Args:
            images: whose grid they are drawn onto.
            vectors: polygons in any CRS, or the path of a vector file.
            attribute: column that says the class.
            values: class of each value of the column, 0 to 254, or 255 for what is neither trained
                on nor scored; None: the column holds the classes.
            area: polygons within which all there is was drawn; None: everywhere.

        Raises:
            InputError: no such column, a value without a class, or polygons without a CRS.
            AssetError: a file cannot be read.
        """
        self.images, self.asset = images, attribute
        frame = _read("vectors", vectors)
        if attribute not in frame.columns:
            allowed = ", ".join(str(c) for c in frame.columns if c != frame.geometry.name)
            raise InputError("attribute", attribute, f"a column of the vectors: {allowed}")
        classes = _classes_of(frame[attribute].tolist(), values)
        # Drawn one after the other: the last one stays. 255 is the last.
        order = np.argsort(classes, kind="stable")
        self.classes = classes[order]
        self.polygons: NDArray[np.object_] = frame.geometry.to_numpy()[order]
        self._tree = shapely.STRtree(self.polygons)
        self.area = None if area is None else shapely.union_all(_read("area", area).geometry)

    @property
    def index(self) -> gpd.GeoDataFrame:
        """Index of the imagery: vectors have no dates of their own."""
        return self.images.index

    @index.setter
    def index(self, index: gpd.GeoDataFrame) -> None:
        import copy

        self.images = copy.copy(self.images)
        self.images.index = index

    def _classes(self, geobox: GeoBox, outline: BaseGeometry, t: slice) -> torch.Tensor:
        move = transformer(LONLAT, crs_wkt(geobox))
        ground = _ground(geobox)
        found = np.sort(self._tree.query(ground, predicate="intersects"))
        mask = _burn(self.polygons[found], self.classes[found], geobox, move, 0)
        if self.area is not None:
            inside = self.area.intersection(ground)
            drawn = _burn(np.array([inside], dtype=object), np.ones(1, int), geobox, move, 0)
            mask = np.where(drawn == 1, mask, IGNORE)
        return torch.from_numpy(mask.astype(np.int64))


def _burn(
    shapes: NDArray[np.object_],
    classes: NDArray[np.int64],
    geobox: GeoBox,
    move: Transformer,
    fill: int,
) -> NDArray[np.uint8]:
    def moved(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(move.transform(xy[:, 0], xy[:, 1]))

    drawn = [
        (shapely.transform(shape, moved), int(label))
        for shape, label in zip(shapes, classes, strict=True)
        if not shape.is_empty and shape.area
    ]
    if not drawn:
        return np.full(geobox.shape, fill, dtype=np.uint8)
    burnt: NDArray[np.uint8] = rasterize(
        drawn, tuple(geobox.shape), fill=fill, transform=geobox.transform, dtype="uint8"
    )
    return burnt


def _ground(geobox: GeoBox) -> BaseGeometry:
    """Outline of a grid, longitude and latitude."""
    height, width = geobox.shape
    corners = shapely.box(0, 0, width, height)
    pixels = shapely.get_coordinates(shapely.segmentize(corners, max(height, width) / POINTS))
    x, y = geobox.transform @ tuple(pixels.T)
    lon, lat = transformer(crs_wkt(geobox), LONLAT).transform(x, y)
    return shapely.Polygon(np.column_stack([lon, lat]))


def _read(name: str, given: gpd.GeoDataFrame | PathOrStr) -> gpd.GeoDataFrame:
    """Polygons in degrees."""
    frame = given if isinstance(given, gpd.GeoDataFrame) else _open(given)
    if frame.crs is None:
        raise InputError(name, "polygons without a CRS", "a CRS: frame.set_crs(...)")
    kept = frame[~(frame.geometry.isna() | frame.geometry.is_empty)]
    return kept.to_crs(LONLAT).reset_index(drop=True)


def _open(path: PathOrStr) -> gpd.GeoDataFrame:
    reader = gpd.read_parquet if str(path).endswith("parquet") else gpd.read_file
    try:
        return reader(path)
    except (OSError, ValueError, RuntimeError) as error:
        raise AssetError(f"{path}: no vector file that can be read ({error})") from error


def _classes_of(found: list[Any], values: Mapping[Any, int] | None) -> NDArray[np.int64]:
    if values is not None:
        missing = sorted({str(value) for value in found if value not in values})
        if missing:
            raise InputError("values", dict(values), f"a class for {', '.join(missing)}, too")
        found = [values[value] for value in found]
    whole = all(isinstance(c, int | np.integer) or float(c).is_integer() for c in found
                if isinstance(c, int | float | np.number))  # fmt: skip
    numbers = all(isinstance(c, int | float | np.number) for c in found)
    if not (numbers and whole and all(0 <= c <= IGNORE for c in found)):
        allowed = f"classes from 0 to {IGNORE}, or values= that says the class of each value"
        raise InputError("attribute", sorted({str(c) for c in found})[:5], allowed)
    return np.array([int(c) for c in found], dtype=np.int64)
