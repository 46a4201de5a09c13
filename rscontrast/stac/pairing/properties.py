"""What acquisitions are told by: properties of items as arrays, under the names that they go by."""

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rscontrast.errors import InputError
from rscontrast.stac.index import item_crs

CLOUD = "eo:cloud_cover"
ORBITS = ("sat:relative_orbit", "landsat:wrs_path")


def text(items: gpd.GeoDataFrame, name: str) -> NDArray[np.object_]:
    """A property as it is, "" where an item has none, [N]."""
    if name not in items:
        return np.full(len(items), "", dtype=object)
    found: NDArray[np.object_] = items[name].to_numpy(dtype=object, na_value="")
    return found


def number(items: gpd.GeoDataFrame, *names: str) -> NDArray[np.float64]:
    """The first of the properties that an item has; NaN where it has none, [N].

    Raises:
        InputError: a value is no number.
    """
    found = np.full(len(items), np.nan)
    for name in (name for name in names if name in items):
        try:
            values = pd.to_numeric(items[name]).to_numpy(np.float64, na_value=np.nan)
        except (ValueError, TypeError) as error:
            raise InputError(f"items, {name}", str(error), "numbers in every item") from error
        found = np.where(np.isnan(found), values, found)
    return found


def crs_codes(items: gpd.GeoDataFrame) -> NDArray[np.object_]:
    """CRS of each item, "" where unknown; the assets are asked only where the item is silent."""
    epsg = number(items, "proj:epsg")
    codes = text(items, "proj:code").copy()
    told = (codes == "") & ~np.isnan(epsg)
    codes[told] = np.char.add("EPSG:", epsg[told].astype(np.int64).astype(str))
    if "assets" in items:
        for silent in np.flatnonzero(codes == ""):
            codes[silent] = item_crs({"assets": items["assets"].iloc[silent]})
    return codes


def usable_share(items: gpd.GeoDataFrame, cloud: NDArray[np.float64]) -> NDArray[np.float64]:
    """Usable share: as measured, else what missing data and clouds leave."""
    measured = number(items, "valid_share")
    missing = number(items, "s2:nodata_pixel_percentage")
    said = ~(np.isnan(cloud) & np.isnan(missing))
    left = (1 - np.nan_to_num(missing) / 100) * (1 - np.nan_to_num(cloud) / 100)
    return np.where(np.isnan(measured), np.where(said, left, np.nan), measured)


def sun(items: gpd.GeoDataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Elevation and azimuth of the sun, degrees."""
    elevation = number(items, "view:sun_elevation")
    zenith = number(items, "s2:mean_solar_zenith")
    azimuth = number(items, "view:sun_azimuth", "s2:mean_solar_azimuth")
    return np.where(np.isnan(elevation), 90 - zenith, elevation), azimuth
