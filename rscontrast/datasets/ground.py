"""The ground that several datasets have in common."""

from collections.abc import Sequence

import geopandas as gpd
import shapely
from torchgeo.datasets import GeoDataset

from rscontrast.errors import InputError

EDGES = 32
"""Parts that the longest outline is cut into before it goes to another CRS."""


def common_ground(index: gpd.GeoDataFrame, extras: Sequence[GeoDataset]) -> gpd.GeoDataFrame:
    """What of the index lies on the ground of all extras.

    An extra that is ``anywhere`` knows what to say beyond its files: it has to meet the index, but
    cuts nothing off.

    Raises:
        InputError: nothing does.
    """
    shapes = index.geometry.to_numpy()
    for extra in extras:
        ground = extra.index.geometry.drop_duplicates()
        if ground.crs != index.crs:  # where edges bend: they get points between the corners
            ground = ground.segmentize(shapely.length(ground.to_numpy()).max() / EDGES)
        met = shapely.intersection(shapes, ground.to_crs(index.crs).union_all())
        if not (shapely.area(met) > 0).any():
            raise InputError("extras", type(extra).__name__, "datasets of the same ground")
        shapes = shapes if getattr(extra, "anywhere", False) else met
    some = shapely.area(shapes) > 0
    return index[some].set_geometry(gpd.GeoSeries(shapes[some], index[some].index, index.crs))
