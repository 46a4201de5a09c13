"""Labels that lie on the imagery of a STACDataset, wherever they come from."""

import copy
from abc import abstractmethod

import torch
from odc.geo.geobox import GeoBox
from pyproj import CRS
from shapely.geometry.base import BaseGeometry
from torchgeo.datasets.utils import GeoSlice, Sample

from rscontrast.datasets.bounds import KnownBounds
from rscontrast.datasets.place import told
from rscontrast.datasets.stac import STACDataset


class LabelsOn(KnownBounds):
    """``mask`` int64 [H, W] on the grid of some imagery, 255 where there is no label."""

    thread_safe = True
    """Many threads may read samples at once."""
    is_image = False
    """As TorchGeo says it of label rasters."""
    images: STACDataset
    """Whose grid, CRS and resolution these are."""
    asset: str
    """What they are called."""

    @abstractmethod
    def _classes(self, geobox: GeoBox, outline: BaseGeometry, t: slice) -> torch.Tensor:
        """Classes on a grid; ``outline`` is its ground in the CRS of the index."""

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
        """Read the labels of one patch.

        Raises:
            IndexError: there are none there at that time.
            AssetError: a file cannot be read.
            GridError: labels lie beside the imagery that they are of.
        """
        x, y, t = self._disambiguate_slice(index)
        geobox = self.images.geobox(x, y)
        outline = self.images.outline(x, y, geobox)
        return {"mask": self._classes(geobox, outline, t), **told(x, y, t, geobox)}

    def onto(self, geobox: GeoBox, t: slice) -> Sample:
        """Read what lies under any grid: ``mask``, as ``labels[x, y, t]`` does.

        Raises:
            IndexError, AssetError, GridError: as ``labels[x, y, t]``.
        """
        return {"mask": self._classes(geobox, self.images.footprint(geobox), t)}
