"""A real RasterDataset: GeoTIFFs with dates in their names, made of the sample world's COGs."""

import numpy as np
import pytest
import rasterio
from torchgeo.datasets import RasterDataset

from tests.sample_world import BANDS, asset

DATES = ("20220807", "20220824")


class Files(RasterDataset):
    filename_glob = "*.tif"
    filename_regex = r"\w+_(?P<date>\d{8})_[ab]\.tif"
    date_format = "%Y%m%d"


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """DN of the four bands; two files a date, side by side with an overlap."""
    folder = tmp_path_factory.mktemp("files")
    for name in [f"west_{date}_{part}" for date in DATES for part in "ab"]:
        hrefs = [asset(name, band)[0] for band in BANDS]
        with rasterio.open(hrefs[0]) as source:
            profile = source.profile | {"driver": "GTiff", "count": len(BANDS)}
        stack = np.stack([rasterio.open(href).read(1) for href in hrefs])
        with rasterio.open(folder / f"{name}.tif", "w", **profile) as out:
            out.write(stack)
    return folder


@pytest.fixture
def raster(folder):
    return Files(folder)
