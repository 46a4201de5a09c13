"""The dates of a TorchGeo index: adjacent files of one pass differ by seconds and are one date."""

import geopandas as gpd
import pandas as pd
import shapely

TOLERANCE = pd.Timedelta("1h")
"""Files within this time of each other are one date, unless told otherwise."""


def join_dates(index: gpd.GeoDataFrame, tolerance: pd.Timedelta = TOLERANCE) -> gpd.GeoDataFrame:
    """Join the index's rows to dates: ``start``, ``end`` and the united footprint of each."""
    spans = index.index
    table = gpd.GeoDataFrame(
        {"start": spans.left, "end": spans.right}, geometry=index.geometry.to_numpy(), crs=index.crs
    ).sort_values("start", ignore_index=True)
    later = table["start"] - table["end"].cummax().shift() > tolerance
    joined = table.groupby(later.cumsum()).agg(
        {"start": "min", "end": "max", "geometry": lambda g: shapely.union_all(g.to_numpy())}
    )
    return gpd.GeoDataFrame(joined, geometry="geometry", crs=index.crs).reset_index(drop=True)
