"""Microsoft's Planetary Computer: Sentinel-2, Landsat and HLS on Azure, behind signatures.

Its Sentinel-2 is as ESA delivers it, offset included, and its items say nothing of scale, offset or
nodata (microsoft/PlanetaryComputer, issue 134).
"""

from rscontrast.stac.product import Product, Provider
from rscontrast.stac.providers.sensors import (
    BASELINE_04,
    HLS,
    LANDSAT_C2_L2,
    MGRS,
    SCL,
    SENTINEL2,
    WRS,
)
from rscontrast.stac.signing import SharedAccessSigner

PROVIDER = Provider(
    "planetary-computer",
    endpoint="https://planetarycomputer.microsoft.com/api/stac/v1",
    signer=SharedAccessSigner("https://planetarycomputer.microsoft.com/api/sas/v1/token"),
    products=(
        Product(("sentinel-2-l2a",), SENTINEL2, 1e-4, 0.0, 0.0, BASELINE_04, {"SCL": SCL}),
        LANDSAT_C2_L2,
        *HLS,
    ),
    place=(MGRS, WRS, ("grid:code",)),
)
