"""Generated metadata of a Sentinel-2-like archive: places, dates, orbits, clouds; no files."""

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely


def archive(places=6, dates=12, seed=0, *, spacing=3.0, jitter=0.005, years=4):
    """Items of ``places`` tiles of about a degree; a sixth of the dates see part of the tile."""
    rng = np.random.default_rng(seed)
    n = places * dates
    place = np.repeat(np.arange(places), dates)
    x = -30 + spacing * (place % 20) + rng.normal(0, jitter, n)
    y = spacing * (place // 20) + rng.normal(0, jitter, n)
    width = np.where(rng.random(n) < 1 / 6, 0.6, 0.98)
    seconds = rng.integers(0, years * 365 * 86400, n)
    start = pd.Timestamp("2018-01-01", tz="UTC")
    items = gpd.GeoDataFrame(
        {
            "id": [f"item-{k:06d}" for k in range(n)],
            "collection": "archive",
            "platform": rng.choice(["a", "b"], n),
            "datetime": start + pd.to_timedelta(seconds, unit="s"),
            "eo:cloud_cover": rng.uniform(0, 100, n),
            "s2:nodata_pixel_percentage": rng.uniform(0, 30, n),
            "sat:relative_orbit": rng.integers(1, 4, n),
            "view:sun_elevation": rng.uniform(10, 60, n),
            "view:sun_azimuth": rng.uniform(120, 200, n),
            "proj:code": "EPSG:32631",
            "tile": [f"T{k:03d}" for k in place],
        },
        geometry=shapely.box(x, y, x + width, y + 0.98),
        crs="EPSG:4326",
    )
    return items.sort_values(["datetime", "id"], ignore_index=True)
