"""Class rasters among the assets of items: found, checked against the imagery, mosaicked."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from rscontrast.errors import BandError, GridError
from rscontrast.io.grid import crs_wkt, footprint
from rscontrast.io.read import file_geobox, read_classes
from rscontrast.stac.provider import BandSource, Provider
from rscontrast.types import IGNORE


def require_label(rows: Sequence[Mapping[str, Any]], label: str) -> None:
    """Refuse a label that no item has.

    Raises:
        BandError: lists the assets that there are.
    """
    if not any(label in row["assets"] for row in rows):
        known = sorted({key for row in rows for key in row["assets"]})
        raise BandError("label", label, f"an asset of the items: {', '.join(known)}")


def label_source(
    row: Mapping[str, Any], label: str, image: GeoBox, provider: Provider
) -> BandSource:
    """Find the label raster of an item.

    Args:
        row: of the items' frame.
        label: asset key.
        image: grid of the item's imagery.
        provider: where bands lie in the assets.

    Raises:
        BandError: the item has none.
        AssetError: it cannot be opened.
        GridError: the file lies beside the imagery, whatever the item says of it.
    """
    source = provider.band(row, label)
    there = file_geobox(source)
    if not footprint(there, crs_wkt(image)).intersects(image.extent.geom):
        outlines = footprint(there, crs_wkt(image)).bounds, image.extent.geom.bounds
        where = " against ".join(str([round(n, 5) for n in bounds]) for bounds in outlines)
        raise GridError(f"item {row['id']}, label {label}: off the imagery's grid: {where}")
    return source


def read_labels(sources: Sequence[BandSource], geobox: GeoBox) -> NDArray[np.uint8]:
    """Mosaic class rasters onto a grid; where several have a class, that of the first stays.

    Args:
        sources: at least one, the latest first: what is known last counts.
        geobox: the grid to read onto.

    Returns:
        classes [H, W], 255 where none has one.

    Raises:
        AssetError: a file cannot be read.
    """
    classes = read_classes(sources[0], geobox)
    for source in sources[1:]:
        classes = np.where(classes == IGNORE, read_classes(source, geobox), classes)
    return classes
