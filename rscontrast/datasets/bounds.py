"""What TorchGeo asks an index for at every slice, asked once."""

from typing import Any

import geopandas as gpd
from torchgeo.datasets import GeoDataset

type Slices = tuple[slice, slice, slice]


class KnownBounds(GeoDataset):
    """A GeoDataset that goes through its whole index for the bounds only when they changed."""

    _known: tuple[gpd.GeoDataFrame, tuple[float, float], Slices] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the bounds out: TorchGeo's splits change the index of a copy in place."""
        return self.__dict__ | {"_known": None}

    @property
    def bounds(self) -> Slices:
        """Bounds (x, y, t) of the index, in :attr:`crs`; the steps are :attr:`res` and 1."""
        known, index, res = self._known, self.index, self.res
        if known is None or known[0] is not index or known[1] != res:
            self._known = known = (index, res, super().bounds)
        return known[2]
