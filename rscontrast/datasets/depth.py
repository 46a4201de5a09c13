"""Terrain that does not change: a raster beside the imagery, on the grid of each patch."""

from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import torch
from odc.geo.geobox import GeoBox
from pyproj import CRS
from shapely.geometry import mapping
from torchgeo.datasets.utils import GeoSlice, Sample

from rscontrast.datasets.bounds import KnownBounds
from rscontrast.datasets.place import told
from rscontrast.datasets.stac import STACDataset
from rscontrast.errors import AssetError
from rscontrast.io.grid import footprint
from rscontrast.stac import read_items
from rscontrast.stac.index import items_frame
from rscontrast.stac.provider import Provider

type Rasters = gpd.GeoDataFrame | str | Sequence[str]
"""Items, the path of their GeoParquet, or paths of rasters."""

DEPTH = "depth"
"""Key of the raster in a sample; also the asset of items that are made of plain files."""


class STACDepth(KnownBounds):
    """``depth`` float32 [H, W] of any time: heights, surfaces, coherence; NaN where unknown."""

    thread_safe = True
    """Many threads may read samples at once."""
    anywhere = True
    """Where there is no file, nothing is known: pairs may lie there too."""

    def __init__(
        self, rasters: Rasters, *, band: str = DEPTH, provider: Provider | str | None = None
    ) -> None:
        """Index the rasters.

        Args:
            rasters: items of :func:`rscontrast.search` or the path of their GeoParquet; or the
                path of a raster, or several, of which the first band is read.
            band: asset key or band of the items; of plain files there is but one.
            provider: where bands lie in the assets.

        Raises:
            AssetError: a file cannot be opened.
            BandError: an item lacks the band.
            InputError: there is no item.
        """
        items = depth_items(rasters)
        if not isinstance(rasters, gpd.GeoDataFrame) and not _is_table(rasters):
            band, provider = DEPTH, None
        self.images = STACDataset(items, bands=[band], provider=provider)

    @property
    def index(self) -> gpd.GeoDataFrame:
        """Index of the rasters; their times do not count."""
        return self.images.index

    @index.setter
    def index(self, index: gpd.GeoDataFrame) -> None:
        self.images.index = index

    @property
    def crs(self) -> CRS:
        """CRS of the rasters."""
        return self.images.crs

    @crs.setter
    def crs(self, new_crs: CRS) -> None:
        self.images.crs = new_crs

    @property
    def res(self) -> tuple[float, float]:
        """Pixel size of the rasters."""
        return self.images.res

    @res.setter
    def res(self, new_res: float | tuple[float, float]) -> None:
        self.images.res = new_res

    def __getitem__(self, index: GeoSlice) -> Sample:
        """Read one patch, whatever the time.

        Raises:
            AssetError: a file cannot be read.
        """
        x, y, t = self._disambiguate_slice(index)
        geobox = self.images.geobox(x, y)
        return {**self.onto(geobox, t), **told(x, y, t, geobox)}

    def onto(self, geobox: GeoBox, t: slice) -> Sample:  # terrain has no time
        """Read what lies under any grid; NaN where nothing does.

        Raises:
            AssetError: a file cannot be read.
        """
        times = self.images.index.index
        always = slice(times.left.min(), times.right.max())
        try:
            found = self.images.onto(geobox, always)
        except IndexError:
            return {DEPTH: torch.full(tuple(geobox.shape), torch.nan)}
        # NumPy, since torch would start a pool of threads in each thread that reads.
        depth = np.where(found["valid"].numpy()[0], found["image"].numpy()[0], np.float32(np.nan))
        return {DEPTH: torch.from_numpy(depth)}


def depth_items(rasters: Rasters) -> gpd.GeoDataFrame:
    """Items of rasters: as they are given, read from a table, or made of plain files.

    Raises:
        AssetError: a file cannot be opened.
        InputError: the table cannot be read.
    """
    if isinstance(rasters, gpd.GeoDataFrame):
        return rasters
    if _is_table(rasters):
        return read_items(str(rasters))
    paths = [rasters] if isinstance(rasters, str) else rasters
    return items_frame([_item(number, path) for number, path in enumerate(paths)])


def _is_table(rasters: Rasters) -> bool:
    return isinstance(rasters, str) and Path(rasters).suffix == ".parquet"


def _item(number: int, path: str) -> dict[str, object]:
    """A STAC Item of a raster; it is of no time, so any will do."""
    try:
        with rasterio.open(path) as raster:
            grid = GeoBox(raster.shape, raster.transform, raster.crs)
    except (rasterio.errors.RasterioError, ValueError) as error:
        raise AssetError(f"{path}: not opened as a depth raster ({error})") from error
    outline = footprint(grid, "EPSG:4326")
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": f"{Path(path).stem}_{number}",
        "collection": DEPTH,
        "geometry": mapping(outline),
        "bbox": list(outline.bounds),
        "properties": {"datetime": pd.Timestamp("2000-01-01", tz="UTC").isoformat()},
        "links": [],
        "assets": {DEPTH: {"href": str(Path(path).resolve()), "roles": ["data"]}},
    }
