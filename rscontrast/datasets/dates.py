"""The dates of a TorchGeo index: adjacent files of one pass differ by seconds and are one date."""

import geopandas as gpd
import shapely

from rscontrast.stac.pairing.tolerance import Tolerance

TOLERANCE = Tolerance.read("1h")
"""Files within this time of each other are one date, unless told otherwise."""


def join_dates(index: gpd.GeoDataFrame, tolerance: Tolerance = TOLERANCE) -> gpd.GeoDataFrame:
    """Join the index's rows to dates: ``start``, ``end`` and the united footprint of each."""
    spans = index.index
    table = gpd.GeoDataFrame(
        {"start": spans.left, "end": spans.right}, geometry=index.geometry.to_numpy(), crs=index.crs
    ).sort_values("start", ignore_index=True)
    runs = tolerance.runs(table["start"].to_numpy(), table["end"].to_numpy())
    joined = table.groupby(runs).agg(
        {"start": "min", "end": "max", "geometry": lambda g: shapely.union_all(g.to_numpy())}
    )
    return gpd.GeoDataFrame(joined, geometry="geometry", crs=index.crs).reset_index(drop=True)
