"""Labels of a STACDataset's items, on the grid of its imagery."""

import copy

import geopandas as gpd
import numpy as np
import torch
from pyproj import CRS
from torchgeo.datasets import GeoDataset
from torchgeo.datasets.utils import GeoSlice, Sample

from rscontrast.datasets.lookup import Lookup
from rscontrast.datasets.stac import STACDataset, find, place
from rscontrast.io.labels import label_source, read_labels, require_label
from rscontrast.stac.provider import BandSource


class STACLabels(GeoDataset):
    """Class rasters among the assets of items: ``mask`` int64 [H, W], 255 where there is none."""

    def __init__(self, images: STACDataset, asset: str) -> None:
        """Index the items of ``images`` that carry ``asset``; see :meth:`STACDataset.labels`."""
        self.images, self.asset = images, asset
        rows = images.items.to_dict("records")
        require_label(rows, asset)
        self._sources: dict[int, BandSource] = {
            item: label_source(row, asset, images.geoboxes[item], images.provider)
            for item, row in enumerate(rows)
            if asset in row["assets"]
        }
        self._seen: gpd.GeoDataFrame | None = None

    @property
    def index(self) -> gpd.GeoDataFrame:
        """Rows of the imagery's index that have labels, whatever CRS it is in by now."""
        whole = self.images.index
        if self._seen is not whole:
            self._seen, self._index = whole, whole[whole["item"].isin(list(self._sources))]
            self._lookup, self._items = Lookup(self._index), self._index["item"].to_numpy()
        return self._index

    @property
    def crs(self) -> CRS:
        """CRS of the imagery."""
        return self.images.crs

    @crs.setter
    def crs(self, new_crs: CRS) -> None:
        # A copy: moving the labels must not move imagery that is used elsewhere.
        self.images = copy.copy(self.images)
        self.images.crs = new_crs

    @property
    def res(self) -> tuple[float, float]:
        """Pixel size of the imagery."""
        return self.images.res

    @res.setter
    def res(self, new_res: float | tuple[float, float]) -> None:
        self.images = copy.copy(self.images)
        self.images.res = new_res

    def __getitem__(self, index: GeoSlice) -> Sample:
        """Read the labels of one patch; where several items have one, the latest class counts.

        Raises:
            IndexError: no labelled item lies there at that time.
            AssetError: a file cannot be read.
        """
        x, y, t = self._disambiguate_slice(index)
        found = find(self._lookup, x, y, t, f"label {self.asset!r}")
        geobox = self.images.geobox(x, y)
        # The index goes by time, and what is known last counts.
        classes = read_labels([self._sources[item] for item in self._items[found[::-1]]], geobox)
        return {"mask": torch.from_numpy(classes.astype(np.int64)), **place(x, y, t, geobox)}
