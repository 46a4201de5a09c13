"""Items as a frame, on disk, and as native grids: what other layers take from here."""

import geopandas as gpd
import numpy as np
import pandas as pd
from pyproj import CRS

from rscontrast.stac.items.convert import item_dicts as item_dicts
from rscontrast.stac.items.convert import items_frame as items_frame
from rscontrast.stac.items.frame import instants as instants
from rscontrast.stac.items.grids import Grids as Grids
from rscontrast.stac.items.native import complete_grids as complete_grids
from rscontrast.stac.items.native import grids as grids
from rscontrast.stac.items.native import item_crs as item_crs
from rscontrast.stac.items.native import layouts as layouts
from rscontrast.stac.items.native import native_geobox as native_geobox
from rscontrast.stac.sources.parquet import read_items as read_items
from rscontrast.stac.sources.write import write_items as write_items


def index_items(
    items: gpd.GeoDataFrame, boxes: Grids, crs: CRS | str | None = None
) -> gpd.GeoDataFrame:
    """Make the index that TorchGeo's datasets have, of the outlines of the native grids.

    Args:
        items: as :func:`rscontrast.stac.search` returns them.
        boxes: their grids, see :func:`grids`.
        crs: of the index; default: that of most items.

    Returns:
        on an IntervalIndex ``datetime``, by time: ``id``, ``item`` (the row in ``items``) and
        the outlines.
    """
    target = CRS.from_user_input(boxes.most() if crs is None else crs)
    times = instants(items).dt.tz_localize(None)
    # To pandas 3.1 an interval without a length overlaps nothing, not even what it lies in, and
    # TorchGeo's RasterDataset looks its files up by what our index says.
    ends = times + pd.Timedelta(1, "us")
    spans = pd.IntervalIndex.from_arrays(times, ends, closed="both", name="datetime")
    data = {"id": items["id"].to_numpy(), "item": np.arange(len(items))}
    index = gpd.GeoDataFrame(data, index=spans, geometry=boxes.outlines(target), crs=target)
    return index.take(np.argsort(times.to_numpy(), kind="stable"))
