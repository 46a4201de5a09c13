"""Our own warp is GDAL's, where it is made."""

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer
from rasterio.enums import Resampling
from rasterio.warp import reproject

from rscontrast.io.bilinear import bilinear, thins
from rscontrast.io.parts import Part, warp

SHAPE = (96, 130)
TARGETS = {
    "EPSG:32633": 10.0,
    "EPSG:3857": 14.0,
    "EPSG:4326": 9e-5,
    "EPSG:3035": 9.7,
}
CENTRE = (700_000.0, 5_500_000.0)
WKT = CRS.from_epsg(32632).to_wkt()


def grid(crs, res, turn=0.0):
    x, y = Transformer.from_crs(32632, crs, always_xy=True).transform(*CENTRE)
    middle = Affine.translation(-SHAPE[1] / 2, -SHAPE[0] / 2)
    turned = Affine.rotation(turn) @ Affine.scale(res, -res) @ middle
    return GeoBox(SHAPE, Affine.translation(x, y) @ turned, crs)


def window(side=300, res=10.0):
    """Noise in a square around the centre, and its transform."""
    values = np.random.default_rng(0).random((3, side, side), dtype=np.float32)
    corner = Affine.translation(CENTRE[0] - side * res / 2 + 3, CENTRE[1] + side * res / 2 - 4)
    return values, corner @ Affine.scale(res, -res)


def by_gdal(values, transform, box):
    out = np.full((len(values), *box.shape), np.nan, np.float32)
    exact = {"tolerance": 0.0, "XSCALE": 1, "YSCALE": 1}
    reproject(
        values, out, src_transform=transform, src_crs=WKT, dst_transform=box.transform,
        dst_crs=str(box.crs), resampling=Resampling.bilinear, **exact,
    )  # fmt: skip
    return out


@pytest.mark.parametrize("turn", [0.0, 33.0, 180.0])
@pytest.mark.parametrize("crs", TARGETS)
def test_it_equals_gdals(crs, turn):
    values, transform = window()
    box = grid(crs, TARGETS[crs], turn)
    found = bilinear(values, transform, WKT, box)
    # A hundredth of a pixel of noise between 0 and 1, along both axes.
    assert np.abs(found - by_gdal(values, transform, box)).max() < 0.02


@pytest.mark.parametrize("shape", [(1, 1), (2, 17), (16, 16), (33, 1)])
def test_grids_of_a_few_pixels(shape):
    values, transform = window()
    whole = grid("EPSG:32633", 10.0)
    box = GeoBox(shape, whole.transform, whole.crs)
    found = bilinear(values, transform, WKT, box)
    assert np.abs(found - by_gdal(values, transform, box)).max() < 0.02


def test_what_it_leaves_to_gdal():
    values, transform = window()
    assert bilinear(values, transform, WKT, grid("EPSG:32633", 12.0)) is None  # means of several
    assert bilinear(values[:, :80, :80], transform, WKT, grid("EPSG:32633", 10.0)) is None  # border
    nowhere = GeoBox(SHAPE, Affine(1, 0, 0, 0, -1, 90), "EPSG:4326")
    assert bilinear(values, transform, WKT, nowhere) is None


def test_a_turned_grid_thins_nothing():
    _, transform = window()
    assert not thins(transform, WKT, grid("EPSG:32632", 10.0, turn=45))
    assert thins(transform, WKT, grid("EPSG:32632", 11.0, turn=45))


def test_a_gap_changes_nothing_far_from_it():
    """Patches beside each other, one with a gap, have one sharpness."""
    values, transform = window()
    box = grid("EPSG:32633", 10.0)
    gap = values.copy()
    gap[1, 140:160, 140:160] = np.nan
    whole, holed = (np.full((3, *SHAPE), np.nan, np.float32) for _ in range(2))
    for pixels, out in ((values, whole), (gap, holed)):
        part = Part(pixels, np.isnan(pixels), transform, WKT, None)
        warp(pixels, part, out, box, Resampling.bilinear)
    assert np.array_equal(whole[[0, 2]], holed[[0, 2]])
    there = ~np.isnan(holed[1])
    assert there.mean() < 1
    near = np.abs(whole[1] - holed[1]) > 0.02
    # Beside the gap those that are left are weighed anew.
    assert near[there].mean() < 0.01
