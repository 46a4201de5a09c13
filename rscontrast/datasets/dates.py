"""The dates of a TorchGeo index: adjacent files of one pass differ by seconds and are one date."""

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from rscontrast.stac.pairing.acquisitions import touching
from rscontrast.stac.pairing.tolerance import Tolerance

TOLERANCE = Tolerance.read("1h")
"""Files within this time of each other are one date, unless told otherwise."""


def join_dates(index: gpd.GeoDataFrame, tolerance: Tolerance = TOLERANCE) -> gpd.GeoDataFrame:
    """Join the index's rows that touch to dates: ``start``, ``end`` and the united footprint."""
    spans = index.index
    table = gpd.GeoDataFrame(
        {"start": spans.left, "end": spans.right}, geometry=index.geometry.to_numpy(), crs=index.crs
    ).sort_values("start", ignore_index=True)
    start, end = (table[side].to_numpy() for side in ("start", "end"))

    def near(a: NDArray[np.intp], b: NDArray[np.intp]) -> NDArray[np.bool_]:
        # Rows come by their start: b begins after a, maybe within it.
        close: NDArray[np.bool_] = tolerance.near(start[a], start[b])
        return close if tolerance.by_day else close | (start[b] - end[a] <= tolerance.limit)

    groups = touching(table.geometry.to_numpy(), tolerance.runs(start, end), near)
    joined = table.groupby(groups).agg(
        {"start": "min", "end": "max", "geometry": lambda g: shapely.union_all(g.to_numpy())}
    )
    dates = gpd.GeoDataFrame(joined, geometry="geometry", crs=index.crs)
    return dates.sort_values("start", kind="stable", ignore_index=True)
