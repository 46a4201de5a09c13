"""Real cities whose two dates lie on grids of their own, in degrees."""

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling
from rasterio.warp import reproject

from rscontrast.datasets import STACDataset, TemporalPairDataset
from rscontrast.stac import search

pytestmark = pytest.mark.realdata


def shift(a, b):
    """(row, col) by which ``b`` lies off ``a``: the peak of their phase correlation."""
    window = np.outer(np.hanning(a.shape[0]), np.hanning(a.shape[1]))
    a, b = ((v - v.mean()) * window for v in (np.asarray(a, float), np.asarray(b, float)))
    cross = np.fft.fft2(a) * np.conj(np.fft.fft2(b))
    surface = np.fft.ifft2(cross / (np.abs(cross) + 1e-9)).real
    peak = np.unravel_index(surface.argmax(), surface.shape)
    return tuple(int(p - n) if p > n // 2 else int(p) for p, n in zip(peak, a.shape, strict=True))


def test_the_oracle_sees_a_shift():
    image = np.random.default_rng(0).normal(size=(64, 64)).cumsum(0).cumsum(1)
    assert shift(image, np.roll(image, (3, -5), (0, 1))) == (-3, 5)


@pytest.mark.parametrize("city", ["hongkong", "abudhabi"])
def test_both_dates_come_on_one_grid(oscd_catalog, city):
    """No corner drifts off by more than the pixel that the files themselves are off."""
    items = search(oscd_catalog)
    items = items[items["city"] == city].reset_index(drop=True)
    assert len({tuple(a["B04"]["proj:shape"]) for a in items["assets"]}) == 2
    dataset = TemporalPairDataset(STACDataset(items, bands=["B04", "B08"]))
    x, y, t = dataset.bounds
    (rx, ry), side = dataset.res, 256
    shifts = set()
    for left in (x.start + 24 * rx, x.stop - (side + 24) * rx):
        for low in (y.start + 24 * ry, y.stop - (side + 24) * ry):
            sample = dataset[left : left + side * rx, low : low + side * ry, t]
            assert sample["image"].shape == (2, 2, side, side)
            assert sample["valid"].all()
            shifts.add(shift(*sample["image"][:, 0].numpy()))
    assert np.abs(list(shifts)).max() <= 1
    assert np.ptp(list(shifts), axis=0).max() <= 1
    # The same rows and columns of the two files, far from their common corner, do not match.
    corner = np.s_[-side - 24 : -24, -side - 24 : -24]
    whole = [rasterio.open(assets["B04"]["href"]).read(1) for assets in items["assets"]]
    rows, cols = (min(sizes) for sizes in zip(*(w.shape for w in whole), strict=True))
    assert shift(*(w[:rows, :cols][corner] for w in whole)) != (0, 0)


def test_labels_on_the_grid_of_the_patch(oscd_catalog):
    items = search(oscd_catalog)
    items = items[items["city"] == "hongkong"].reset_index(drop=True)
    images = STACDataset(items, bands=["B04"])
    sample = (TemporalPairDataset(images) & images.labels("change"))[images.bounds]
    assert sample["mask"].shape == sample["image"].shape[-2:]
    assert 0 < (sample["mask"] == 1).float().mean() < 0.2


def test_values_are_those_of_the_files(oscd_catalog):
    """The first date as the file holds it, the second as GDAL warps the whole file."""
    items, warped = search(oscd_catalog), 0
    for city in items["city"].unique():
        rows = items[items["city"] == city].sort_values("datetime").reset_index(drop=True)
        dataset = TemporalPairDataset(STACDataset(rows, bands=["B04", "B11"]))
        sample = dataset[dataset.bounds]
        box = dataset.dataset.geobox(*dataset.bounds[:2])
        for date, assets in enumerate(rows["assets"]):
            for channel, band in enumerate(["B04", "B11"]):
                with rasterio.open(assets[band]["href"]) as raster:
                    numbers, same = raster.read(1), raster.shape == box.shape
                    expected = np.full(box.shape, np.nan)
                    reproject(
                        numbers.astype(float), expected, src_transform=raster.transform,
                        src_crs=raster.crs, dst_transform=box.transform, dst_crs=raster.crs,
                        dst_nodata=np.nan, init_dest_nodata=True, resampling=Resampling.bilinear,
                        tolerance=1e-3,
                    )  # fmt: skip
                found = sample["image"][date, channel].numpy() * 1e4
                valid = sample["valid"][date].numpy() & ~np.isnan(expected)
                assert valid.mean() > 0.95, (city, date, band)
                wrong = np.abs(found - expected)[valid]
                if same:
                    assert np.abs(found - numbers).max() < 1e-2
                else:  # an eighth of a pixel, between neighbours of any contrast
                    assert np.quantile(wrong, 0.999) < 0.02 * numbers.max()
                    warped += 1
    assert warped > 4
