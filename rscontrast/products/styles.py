"""How QGIS shows a map: styles (.qml) that it finds by their name beside a layer."""

from pathlib import Path
from xml.etree import ElementTree as ET

from rscontrast.atomic import write_text
from rscontrast.report.palette import Palette

RAMP = (
    (0.0, "#440154"), (0.25, "#3b528b"), (0.5, "#21918c"), (0.75, "#5ec962"), (1.0, "#fde725"),
)  # fmt: skip
"""Viridis: even to the eye, and to colour-blind readers."""


def write_class_style(path: Path, palette: Palette) -> None:
    """Write the style of a raster of classes: a colour and a name for each."""
    root, renderer = _raster("paletted", band=1)
    entries = ET.SubElement(renderer, "colorPalette")
    for value, (name, colour) in enumerate(palette):
        ET.SubElement(
            entries, "paletteEntry", value=str(value), color=colour, label=name, alpha="255"
        )
    _write(path, root)


def write_ramp_style(path: Path, band: int, most: float, label: str) -> None:
    """Write the style of one band of a raster of shares, such as a probability.

    Args:
        path: of the style.
        band: which, from 1.
        most: pixel that stands for 1.
        label: what the band is of.
    """
    root, renderer = _raster("singlebandpseudocolor", band=band)
    renderer.set("classificationMin", "0")
    renderer.set("classificationMax", f"{most:g}")
    shader = ET.SubElement(ET.SubElement(renderer, "rastershader"), "colorrampshader")
    shader.attrib.update(
        {"colorRampType": "INTERPOLATED", "clip": "0", "minimumValue": "0",
         "maximumValue": f"{most:g}", "classificationMode": "1", "labelPrecision": "2"}
    )  # fmt: skip
    for share, colour in RAMP:
        ET.SubElement(
            shader,
            "item",
            {"value": f"{share * most:g}", "color": colour, "alpha": "255",
             "label": f"{label} {share:g}"},
        )  # fmt: skip
    _write(path, root)


def write_polygon_style(path: Path, palette: Palette, column: str) -> None:
    """Write the style of polygons: a colour for each class number in a column."""
    root = ET.Element("qgis", version="3.34", styleCategories="Symbology")
    renderer = ET.SubElement(
        root, "renderer-v2", type="categorizedSymbol", attr=column, symbollevels="0"
    )
    categories = ET.SubElement(renderer, "categories")
    symbols = ET.SubElement(renderer, "symbols")
    for number, (name, colour) in enumerate(palette):
        ET.SubElement(
            categories,
            "category",
            {"value": str(number), "type": "integer", "symbol": str(number), "label": name,
             "render": "true"},
        )  # fmt: skip
        symbol = ET.SubElement(
            symbols, "symbol", type="fill", name=str(number), alpha="0.75", clip_to_extent="1"
        )
        layer = ET.SubElement(
            symbol, "layer", {"class": "SimpleFill", "enabled": "1", "pass": "0", "locked": "0"}
        )
        options = ET.SubElement(layer, "Option", type="Map")
        red, green, blue = (int(colour[n : n + 2], 16) for n in (1, 3, 5))
        for key, value in (
            ("color", f"{red},{green},{blue},255"),
            ("outline_color", "35,35,35,255"),
            ("outline_width", "0.2"),
            ("style", "solid"),
        ):
            ET.SubElement(options, "Option", type="QString", name=key, value=value)
    _write(path, root)


def _raster(kind: str, band: int) -> tuple[ET.Element, ET.Element]:
    root = ET.Element("qgis", version="3.34", styleCategories="Symbology")
    pipe = ET.SubElement(root, "pipe")
    renderer = ET.SubElement(
        pipe, "rasterrenderer", type=kind, band=str(band), opacity="1", alphaBand="-1",
        nodataColor="",
    )  # fmt: skip
    ET.SubElement(pipe, "rasterresampler", zoomedOutResampler="nearest")
    return root, renderer


def _write(path: Path, root: ET.Element) -> None:
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    doctype = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>"
    write_text(path, f"{doctype}\n{text}\n")
