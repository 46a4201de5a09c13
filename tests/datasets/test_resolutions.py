"""Items of other pixels than the dataset's: a patch covers what was asked for."""

import numpy as np
import pytest
import torch
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from rscontrast.datasets import STACDataset
from rscontrast.stac import search
from tests.world import CORNER, centres, footprint, grid, offsets

BESIDE = (CORNER[0] + 5_000, CORNER[1])


def asked(x, y, res, side=32):
    half_x, half_y = side / 2 * res[0], side / 2 * res[1]
    return slice(x - half_x, x + half_x, res[0]), slice(y - half_y, y + half_y, res[1])


@pytest.mark.parametrize("first", ["10 m", "1 m"])
def test_10_m_beside_1_m(world, first):
    boxes = {"10 m": grid(shape=(64, 64)), "1 m": grid(res=1.0, corner=BESIDE, shape=(640, 640))}
    for name in sorted(boxes, key=lambda name: name != first):
        world.item(name.replace(" ", ""), boxes[name])
    items = search(world.catalog())
    items = items.iloc[np.argsort(items["id"] != first.replace(" ", ""), kind="stable")]
    dataset = STACDataset(items, bands=["x", "y"])
    assert dataset.native
    res = dataset.res[0]
    assert res == float(first.split()[0])
    for box in boxes.values():
        middle = box.extent.geom.centroid
        x, y = asked(middle.x, middle.y, dataset.res)
        sample, read = dataset[x, y], dataset.geobox(x, y)
        assert sample["image"].shape == (2, 32, 32)
        assert read.transform.a == pytest.approx(res)
        found = (read.boundingbox.left, read.boundingbox.top)
        assert found == pytest.approx((x.start, y.stop), abs=res / 2)
        assert sample["valid"].all()
        assert np.abs(sample["image"].numpy() - offsets(read)).max() < 0.6 * max(10 / res, 1)


def test_degrees_beside_metres(world):
    """Asked for in metres: an item in degrees gives as many metres, along x as along y."""
    metres = grid(shape=(64, 64))
    lon, lat = footprint(grid(corner=BESIDE)).centroid.coords[0]
    degrees = grid("EPSG:4326", res=1e-4, corner=(lon, lat), shape=(256, 256))
    for name, box in (("a", metres), ("b", metres), ("c", degrees)):
        world.item(name, box, bands=dict(zip("xy", offsets(box, "EPSG:32632"), strict=True)))
    dataset = STACDataset(search(world.catalog()), bands=["x", "y"])
    assert dataset.crs.to_epsg() == 32632
    middle = degrees.extent.geom.centroid
    centre = Transformer.from_crs(4326, 32632, always_xy=True).transform(middle.x, middle.y)
    x, y = asked(*centre, dataset.res)
    sample, read = dataset[x, y], dataset.geobox(x, y)
    assert read.crs.epsg == 4326
    east, north = centres(read, "EPSG:32632")
    assert np.hypot(*(np.array([east[0, -1] - east[0, 0], north[0, -1] - north[0, 0]]))) == (
        pytest.approx(310, rel=0.01)
    )
    assert np.hypot(*(np.array([east[-1, 0] - east[0, 0], north[-1, 0] - north[0, 0]]))) == (
        pytest.approx(310, rel=0.01)
    )
    assert np.abs(sample["image"].numpy() - offsets(read, "EPSG:32632")).max() < 1


def test_asked_in_degrees_native_pixels_stay_what_they_are(world):
    """Zones too far apart for one CRS: 10 m and 1 m, at two latitudes."""
    boxes = {
        "a": grid("EPSG:32632", 10, (500_000, 4_000), (64, 64)),
        "b": grid("EPSG:32647", 10, (500_000, 6_500_000), (64, 64)),
        "c": grid("EPSG:32647", 1, (520_000, 6_500_000), (640, 640)),
    }
    pixels = {name: np.random.default_rng(0).random(box.shape) for name, box in boxes.items()}
    for name, box in boxes.items():
        world.item(name, box, bands={"z": pixels[name]})
    dataset = STACDataset(search(world.catalog()), bands=["z"])
    assert dataset.native
    assert dataset.crs.to_epsg() == 4326
    for name, box in boxes.items():
        middle = footprint(box).centroid
        x, y = asked(middle.x, middle.y, dataset.res)
        read = dataset.geobox(x, y)
        assert read.crs == box.crs
        assert (read.transform.a, read.transform.e) == pytest.approx((10, -10))
        sample = dataset[x, y]
        if name != "c":
            shift = ~box.transform @ read.transform
            col, row = round(shift.c), round(shift.f)
            expected = pixels[name].astype("float32")[row : row + 32, col : col + 32]
            assert torch.equal(sample["image"][0], torch.from_numpy(expected))


def test_items_in_degrees_at_two_latitudes_are_read_as_they_are(world):
    for name, lat in (("a", 10.0), ("b", 60.0)):
        box = GeoBox((64, 64), Affine.translation(10, lat) @ Affine.scale(1e-4, -1e-4), "EPSG:4326")
        world.item(name, box)
    dataset = STACDataset(search(world.catalog()), bands=["x"])
    for lat in (10.0, 60.0):
        read = dataset.geobox(*asked(10.003, lat - 0.003, dataset.res))
        assert (read.transform.a, read.transform.e) == pytest.approx((1e-4, -1e-4))
