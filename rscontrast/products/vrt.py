"""A zone's tiles as one raster: a VRT of GDAL's, with paths relative to itself."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

import rasterio
from rasterio.errors import RasterioError

from rscontrast.atomic import write_text
from rscontrast.errors import AssetError
from rscontrast.io.grid import crs_wkt
from rscontrast.products.done import Zone
from rscontrast.report.palette import Palette, rgb

TYPES = {"uint8": "Byte", "int8": "Int8", "uint16": "UInt16", "int16": "Int16",
         "float32": "Float32"}  # fmt: skip


class _Band(NamedTuple):
    """A band of every tile."""

    dtype: str
    nodata: float | None
    name: str | None
    scale: float


def write_vrt(
    folder: Path,
    path: Path,
    zone: Zone,
    name: str,
    palette: Palette = (),
    shown: Sequence[int] | None = None,
) -> bool:
    """Write the VRT of all tiles of a zone that have a file of a name.

    Its mask is that of the tiles, whichever way they say it: a nodata value or a mask of their
    own. Between tiles it is no data.

    Args:
        folder: of the run.
        path: of the VRT.
        zone: its tiles.
        name: of the file of a tile, such as "classes.tif".
        palette: colours of the classes, for a raster of classes.
        shown: which bands, from 1; None: all.

    Returns:
        whether any tile has such a file, and it has the bands.

    Raises:
        AssetError: a tile cannot be read.
        WriteError: the disk does not take it.
    """
    parts = [(one, row, col) for one, row, col in zone.parts if one.file(name) is not None]
    if not parts:
        return False
    first = folder / str(parts[0][0].file(name))
    try:
        with rasterio.open(first) as source:
            said = zip(source.dtypes, source.nodatavals, source.descriptions, source.scales,
                       strict=True)  # fmt: skip
            bands = [_Band(TYPES[dtype], nodata, name, scale)
                     for dtype, nodata, name, scale in said]  # fmt: skip
    except RasterioError as error:
        raise AssetError(f"{first}: cannot be read ({error})") from error
    numbers = tuple(range(1, len(bands) + 1)) if shown is None else tuple(shown)
    if not numbers or max(numbers) > len(bands):
        return False
    places = []
    for one, row, col in parts:
        file = os.path.relpath(folder / str(one.file(name)), path.parent)
        places.append((Path(file).as_posix(), row, col, *one.job.geobox.shape))
    height, width = zone.geobox.shape
    root = ET.Element("VRTDataset", rasterXSize=str(width), rasterYSize=str(height))
    _add(root, "SRS", crs_wkt(zone.geobox))
    affine = zone.geobox.transform.to_gdal()
    _add(root, "GeoTransform", ", ".join(repr(float(part)) for part in affine))
    for place, number in enumerate(numbers, 1):
        band = bands[number - 1]
        element = ET.SubElement(root, "VRTRasterBand", dataType=band.dtype, band=str(place))
        _add(element, "Description", band.name or f"band {number}")
        if band.nodata is not None:
            _add(element, "NoDataValue", f"{band.nodata:g}")
        if band.scale != 1:
            _add(element, "Scale", repr(band.scale))
        if palette:
            _paint(element, palette)
        _add_sources(element, places, str(number))
    mask = ET.SubElement(ET.SubElement(root, "MaskBand"), "VRTRasterBand", dataType="Byte")
    _add_sources(mask, places, "mask,1")
    ET.indent(root)
    write_text(path, ET.tostring(root, encoding="unicode") + "\n")
    return True


def _add(parent: ET.Element, name: str, text: str, **attributes: str) -> None:
    ET.SubElement(parent, name, attributes).text = text


def _add_sources(
    parent: ET.Element, places: Sequence[tuple[str, int, int, int, int]], band: str
) -> None:
    for file, row, col, height, width in places:
        source = ET.SubElement(parent, "SimpleSource")
        _add(source, "SourceFilename", file, relativeToVRT="1")
        _add(source, "SourceBand", band)
        size = {"xSize": str(width), "ySize": str(height)}
        ET.SubElement(source, "SrcRect", {"xOff": "0", "yOff": "0", **size})
        ET.SubElement(source, "DstRect", {"xOff": str(col), "yOff": str(row), **size})


def _paint(band: ET.Element, palette: Palette) -> None:
    _add(band, "ColorInterp", "Palette")
    names, table = ET.SubElement(band, "CategoryNames"), ET.SubElement(band, "ColorTable")
    for name, colour in palette:
        _add(names, "Category", name)
        channels = dict(zip(("c1", "c2", "c3"), map(str, rgb(colour)), strict=True))
        ET.SubElement(table, "Entry", {**channels, "c4": "255"})
