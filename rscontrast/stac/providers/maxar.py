"""Maxar Open Data: images before and after disasters, a static catalog.

``visual`` is a colour picture of 8 bits, ``ms_analytic`` and ``pan_analytic`` hold the sensor's
numbers. Its masks are vectors (GeoPackage), not rasters: the cloud cover of a tile is the property
``tile:clouds_percent``.
"""

from rscontrast.stac.product import Product, Provider

PROVIDER = Provider(
    "maxar",
    endpoint="https://maxar-opendata.s3.amazonaws.com/events/catalog.json",
    products=(Product(bands={"pan": "pan_analytic"}),),
    place=(("quadkey",), ("grid:code",)),
)
