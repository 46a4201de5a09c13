"""Any catalog that follows STAC's common metadata; masks of well-known names are understood."""

from rscontrast.stac.product import Product, Provider
from rscontrast.stac.providers.sensors import FMASK, MGRS, QA_PIXEL, S2CLOUDLESS, SCL, WRS

PROVIDER = Provider(
    "generic",
    products=(
        Product(
            masks={
                "scl": SCL,
                "SCL": SCL,
                "qa_pixel": QA_PIXEL,
                "QA_PIXEL": QA_PIXEL,
                "Fmask": FMASK,
                "s2cloudless_prob": S2CLOUDLESS,
                "oa_s2cloudless_prob": S2CLOUDLESS,
            },
            roles=("cloud", "cloud-shadow"),
        ),
    ),
    place=(("grid:code",), MGRS, WRS, ("quadkey",)),
)
