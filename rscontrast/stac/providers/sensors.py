"""What is the same of a sensor whoever publishes it: names of bands, rules of masks."""

from rscontrast.stac.product import OffsetRule, Product
from rscontrast.stac.source import MaskRule

SENTINEL2 = {
    "coastal": "B01", "blue": "B02", "green": "B03", "red": "B04",
    "rededge1": "B05", "rededge2": "B06", "rededge3": "B07",
    "rededge071": "B05", "rededge075": "B06", "rededge078": "B07",
    "nir": "B08", "nir08": "B8A", "nir09": "B09", "cirrus": "B10",
    "swir16": "B11", "swir22": "B12",
}  # fmt: skip
"""Common names of Sentinel-2's bands; the red edge by number and as of EO extension 2.0."""

HLS_L30 = {
    "coastal": "B01", "blue": "B02", "green": "B03", "red": "B04", "nir": "B05", "nir08": "B05",
    "swir16": "B06", "swir22": "B07", "cirrus": "B09",
}  # fmt: skip
"""Common names of the Landsat bands of HLS; the thermal ones are no reflectance."""

LANDSAT = {
    name: name for name in ("coastal", "blue", "green", "red", "nir08", "swir16", "swir22")
} | {"nir": "nir08"}
"""Landsat's assets are keyed by common names."""

SCL = MaskRule(values=(0, 1, 3, 8, 9, 10))
"""Sentinel-2 scene classes: no data, defective, cloud shadow, cloud (medium, high), cirrus.

Dark ground (2), unclassified (7) and snow (11) are usable.
"""
QA_PIXEL = MaskRule(bits=(0, 1, 2, 3, 4))
"""Landsat Collection 2: fill, dilated cloud, cirrus, cloud, cloud shadow; snow is usable."""
FMASK = MaskRule(bits=(1, 2, 3))
"""HLS 2.0: cloud, next to cloud or shadow, cloud shadow; bit 0 is reserved, fill has all bits."""
S2CLOUDLESS = MaskRule(above=0.4)
"""s2cloudless: probability of cloud, 0-1; its authors' threshold."""

BASELINE_04 = OffsetRule("s2:processing_baseline", "04.00", -0.1)
"""From baseline 04.00 on (January 2022) numbers are 1000 higher, that is 0.1; 0 stays nodata."""

HLS = (
    Product(("HLSS30_2.0", "HLSS30.v2.0", "hls2-s30"), SENTINEL2, 1e-4, 0.0, -9999.0,
            masks={"Fmask": FMASK}),
    Product(("HLSL30_2.0", "HLSL30.v2.0", "hls2-l30"), HLS_L30, 1e-4, 0.0, -9999.0,
            masks={"Fmask": FMASK}),
)  # fmt: skip
"""Harmonized Landsat Sentinel-2 2.0; its items say nothing of scale and nodata."""

LANDSAT_C2_L2 = Product(
    ("landsat-c2-l2", "landsat-c2l2-sr"), LANDSAT, 2.75e-5, -0.2, 0.0, masks={"qa_pixel": QA_PIXEL}
)
"""Landsat Collection 2 Level-2 surface reflectance."""

MGRS = ("s2:mgrs_tile",)
WRS = ("landsat:wrs_path", "landsat:wrs_row")
