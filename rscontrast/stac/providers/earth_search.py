"""Earth Search by Element 84: Sentinel-2 and Landsat on AWS.

Sentinel-2's offset: the cloud-optimized assets of ``sentinel-2-l2a`` had it applied for most items,
and ``earthsearch:boa_offset_applied`` says for which. ``raster:bands`` says -0.1 all the same
(Element84/earth-search, issue 9: the property "is the truth"), so the property decides, then the
baseline. It is known to be false where true were right for some items of 2022 and 2025 (issues 66
and 71); ``sentinel-2-c1-l2a`` never had the offset applied and has no such doubt. The JPEG 2000
assets ("red-jp2") are the originals: what the item says of them holds.
"""

from dataclasses import replace

from rscontrast.stac.product import Product, Provider
from rscontrast.stac.providers.sensors import (
    BASELINE_04,
    LANDSAT_C2_L2,
    MGRS,
    SCL,
    SENTINEL2,
    WRS,
)
from rscontrast.stac.signing import RequesterPays

_KEYS = ("coastal", "blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08",
         "nir09", "cirrus", "swir16", "swir22")  # fmt: skip
_BY_BAND = {SENTINEL2[key]: key for key in _KEYS}
_BANDS = {name: _BY_BAND[band] for name, band in SENTINEL2.items()} | _BY_BAND

_L2A = Product(
    ("sentinel-2-l2a",), _BANDS, 1e-4, 0.0, 0.0,
    shift=replace(BASELINE_04, applied="earthsearch:boa_offset_applied"), masks={"scl": SCL},
)  # fmt: skip

PROVIDER = Provider(
    "earth-search",
    endpoint="https://earth-search.aws.element84.com/v1",
    signer=RequesterPays(),
    products=(
        _L2A,
        replace(_L2A, collections=("sentinel-2-c1-l2a",)),
        replace(_L2A, collections=("sentinel-2-l1c",), shift=BASELINE_04, masks={}),
        LANDSAT_C2_L2,
    ),
    place=(("grid:code",), WRS, MGRS),
)
