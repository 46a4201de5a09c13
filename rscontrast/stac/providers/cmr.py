"""NASA's Common Metadata Repository: HLS of the LP DAAC, read with an Earthdata token."""

from rscontrast.stac.product import Provider
from rscontrast.stac.providers.sensors import HLS, MGRS
from rscontrast.stac.signing import BearerSigner

PROVIDER = Provider(
    "cmr",
    endpoint="https://cmr.earthdata.nasa.gov/stac/LPCLOUD",
    signer=BearerSigner(
        "EARTHDATA_TOKEN", ".earthdatacloud.nasa.gov", "https://urs.earthdata.nasa.gov"
    ),
    products=HLS,
    place=(("grid:code",), MGRS),
)
