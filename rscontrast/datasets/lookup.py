"""Which rows of a TorchGeo index lie at a place and time, in microseconds instead of milliseconds.

The geopandas way (`overlaps`, then `.cx`) copies the frame at every step; a patch asks three times.
"""

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry


class Lookup:
    """A tree of the footprints of an index, and its times as arrays; any thread may ask it."""

    def __init__(self, index: gpd.GeoDataFrame) -> None:
        """Copy what is needed out of ``index`` (an IntervalIndex with geometries)."""
        # Not prepared: GEOS completes a prepared geometry when it is first asked, without a lock.
        self._geometry = index.geometry.to_numpy()
        self._start = index.index.left.to_numpy()
        self._end = index.index.right.to_numpy()
        self._tree = shapely.STRtree(self._geometry)
        self._tree.query(shapely.Point(0, 0))  # built now, and not by several threads at once

    def find(self, x: slice, y: slice, t: slice | None = None) -> NDArray[np.intp]:
        """Rows, in index order, whose footprint meets the patch and whose time meets ``t``.

        Args:
            x: start and stop.
            y: start and stop.
            t: start and stop, both included; None: any time.
        """
        return self.meeting(shapely.box(x.start, y.start, x.stop, y.stop), t)

    def meeting(self, patch: BaseGeometry, t: slice | None = None) -> NDArray[np.intp]:
        """Rows, in index order, whose footprint meets an outline and whose time meets ``t``."""
        rows = self._tree.query(patch)  # by bounds
        if t is not None:  # the dates of one place are many, so that their times are asked first
            start, stop = (pd.Timestamp(time).to_datetime64() for time in (t.start, t.stop))
            rows = rows[(self._start[rows] <= stop) & (self._end[rows] >= start)]
        found: NDArray[np.intp] = np.sort(rows[shapely.intersects(self._geometry[rows], patch)])
        return found
