"""Labels of a STACDataset's items, on the grid of its imagery."""

import copy

import geopandas as gpd
import numpy as np
import torch
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from rscontrast.datasets.lookup import Lookup
from rscontrast.datasets.onimages import LabelsOn
from rscontrast.datasets.stac import STACDataset
from rscontrast.io.labels import label_source, read_labels, require_label
from rscontrast.stac.provider import BandSource


class STACLabels(LabelsOn):
    """Class rasters among the assets of items: ``mask`` int64 [H, W], 255 where there is none.

    Where several items have a label, the latest class counts.
    """

    def __init__(self, images: STACDataset, asset: str) -> None:
        """Index the items of ``images`` that carry ``asset``; see :meth:`STACDataset.labels`."""
        self.images, self.asset = images, asset
        rows = images.items.to_dict("records")
        require_label(rows, asset)
        self._labelled = [item for item, row in enumerate(rows) if asset in row["assets"]]
        self._sources: dict[int, BandSource] = {}
        self._seen = self._look()

    def _look(self) -> tuple[gpd.GeoDataFrame, gpd.GeoDataFrame, Lookup]:
        """Index of the imagery, and what of it has labels: frame and lookup."""
        whole = self.images.index
        index = whole[whole["item"].isin(self._labelled)]
        return whole, index, Lookup(index)

    def _now(self) -> tuple[gpd.GeoDataFrame, gpd.GeoDataFrame, Lookup]:
        """What :meth:`_look` finds, whatever CRS the imagery is in by now."""
        seen = self._seen  # one read: another thread may replace it
        if seen[0] is not self.images.index:
            self._seen = seen = self._look()
        return seen

    @property
    def index(self) -> gpd.GeoDataFrame:
        """Rows of the imagery's index that have labels."""
        return self._now()[1]

    @index.setter
    def index(self, index: gpd.GeoDataFrame) -> None:
        # TorchGeo's splits restrict the labels so; the imagery may be used elsewhere.
        self.images = copy.copy(self.images)
        self.images.index = index

    def _classes(self, geobox: GeoBox, outline: BaseGeometry, t: slice) -> torch.Tensor:
        _, index, lookup = self._now()
        # The index goes by time, and what is known last counts.
        found = lookup.meeting(outline, t)[::-1]
        if not found.size:
            bounds = tuple(round(n, 5) for n in outline.bounds)
            raise IndexError(f"no label {self.asset!r} at {bounds}, t {t}")
        items: NDArray[np.intp] = index["item"].to_numpy()[found]
        sources = [self._source(item) for item in dict.fromkeys(items.tolist())]
        return torch.from_numpy(read_labels(sources, geobox).astype(np.int64))

    def _source(self, item: int) -> BandSource:
        """The label raster of an item: looked at when it is first read, so that making opens none.

        Raises:
            AssetError: it cannot be opened.
            GridError: it lies beside the imagery.
        """
        if item not in self._sources:  # two threads may both look: they find the same
            row, images = self.images.items.iloc[item].to_dict(), self.images
            found = label_source(row, self.asset, images.geoboxes[item], images.provider)
            self._sources[item] = found
        return self._sources[item]
