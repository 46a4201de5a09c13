"""Items over the antimeridian in a CRS that ends there."""

import numpy as np
import pytest
import shapely
from pyproj import Transformer
from shapely.geometry import box

from rscontrast.datasets import STACDataset
from rscontrast.stac import search
from tests.world import grid

G60 = grid("EPSG:32660", res=100, corner=(800_000, 1_000_000), shape=(400, 400))
RES = {"EPSG:4326": 0.001, "EPSG:3857": 100.0}


@pytest.fixture
def items(world):
    for day in (1, 2):
        world.item(
            f"a{day}", G60, bands={"x": np.full(G60.shape, 60)}, when=f"2022-01-0{day}T10:00:00"
        )
    return search(world.catalog())


def made(items, crs, way):
    if way == "given":
        return STACDataset(items, bands=["x"], crs=crs, res=RES[crs], footprints=False)
    dataset = STACDataset(items, bands=["x"], footprints=False)
    dataset.crs, dataset.res = crs, RES[crs]
    return dataset


def around(crs, lon):
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon, 8.9)
    side = 16 * RES[crs]
    return slice(x - side, x + side, RES[crs]), slice(y - side, y + side, RES[crs])


@pytest.mark.parametrize("way", ["given", "set"])
@pytest.mark.parametrize("crs", RES)
def test_both_sides_are_found_and_nothing_else(items, crs, way):
    dataset = made(items, crs, way)
    for lon in (179.8, 179.95, -179.95):
        sample = dataset[around(crs, lon)]
        assert sample["image"].unique().tolist() == [60]
        assert sample["valid"].all()
    for lon in (179.6, 0.0, -179.8):
        with pytest.raises(IndexError):
            dataset[around(crs, lon)]


@pytest.mark.parametrize("crs", RES)
def test_the_outline_has_the_area_of_the_file(items, crs):
    outline = made(items, crs, "given").index.geometry.iloc[0]
    assert outline.geom_type == "MultiPolygon"
    assert outline.is_valid
    move = Transformer.from_crs(crs, "EPSG:32660", always_xy=True)
    back = shapely.transform(
        shapely.segmentize(outline, RES[crs] * 10),
        lambda xy: np.column_stack(move.transform(*xy.T)),
    )
    assert shapely.union_all(shapely.get_parts(back)).symmetric_difference(
        G60.extent.geom
    ).area == pytest.approx(0, abs=1e-4 * G60.extent.geom.area)


def test_what_spans_the_globe_stays_whole(world):
    globe = grid("EPSG:4326", res=10, corner=(-180, 90), shape=(18, 36))
    world.item("globe", globe, bands={"x": np.ones(globe.shape)})
    dataset = STACDataset(search(world.catalog()), bands=["x"], crs="EPSG:4326", res=10)
    assert dataset.index.geometry.iloc[0].equals(box(-180, -90, 180, 90))
