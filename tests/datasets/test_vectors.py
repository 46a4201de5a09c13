"""Labels of a vector file: on the grid of the imagery, by class, the worse grade on top."""

import geopandas as gpd
import numpy as np
import pytest
import shapely
import torch

from rscontrast.datasets import STACDataset, TemporalPairDataset, VectorLabels
from rscontrast.errors import AssetError, InputError
from rscontrast.samplers import GriddedPlaceSampler, TemporalPairSampler
from tests.sample_world import BANDS, ROOT, event_pairs, scenes

BUILDINGS = ROOT / "sample_data" / "buildings.geojson"
VALUES = {
    "no-damage": 1, "minor-damage": 2, "major-damage": 3, "destroyed": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def images():
    return STACDataset(scenes(), bands=BANDS)


@pytest.fixture(scope="module")
def cells(images):
    """Some patches with buildings, as slices of pairs."""
    pairs = TemporalPairDataset(images)
    dates = TemporalPairSampler(pairs, pairs=event_pairs(), tolerance="1h", generator=0)
    grid = GriddedPlaceSampler(pairs, size=64, roi=dates.roi)
    return [pair for cell in grid for pair in dates._iter_subset(cell)]


def test_they_are_what_the_label_rasters_show(images, cells):
    rasters, vectors = images.labels("damage"), VectorLabels(images, BUILDINGS, "class")
    alike = total = built = 0
    for x, y, (pre, post) in cells:
        time = slice(pre.start, post.stop)
        one, other = rasters[x, y, time]["mask"], vectors[x, y, time]["mask"]
        known = one != 255
        alike += (one == other)[known].sum().item()
        total += known.sum().item()
        built += (other[known] > 0).sum().item()
    assert built > 1000
    assert alike / total > 0.999


def test_classes_by_name_equal_classes_by_number(images, cells):
    by_number = VectorLabels(images, BUILDINGS, "class")
    by_name = VectorLabels(images, str(BUILDINGS), "damage", VALUES)
    utm = VectorLabels(images, gpd.read_file(BUILDINGS).to_crs(32633), "class")
    for x, y, (pre, _) in cells[:4]:
        expected = by_number[x, y, pre]["mask"]
        assert expected.dtype == torch.int64
        assert torch.equal(by_name[x, y, pre]["mask"], expected)
        assert (utm[x, y, pre]["mask"] == expected).float().mean() > 0.999


def patch(images, cells):
    """A patch, its ground in degrees, and a slice of time."""
    x, y, (pre, _) = cells[0]
    x, y = (slice(s.start, s.stop, step) for s, step in zip((x, y), images.res, strict=True))
    box = images.geobox(x, y)
    return x, y, pre, box.extent.to_crs("EPSG:4326").geom


def test_the_worse_grade_is_on_top_and_only_the_area_is_labelled(images, cells):
    x, y, t, ground = patch(images, cells)
    west, south, east, north = ground.bounds
    half = shapely.box(west, south, (west + east) / 2, north)
    frame = gpd.GeoDataFrame(
        {"grade": [4, 2, 255]},
        geometry=[half, ground.buffer(1), shapely.box(west, north - (north - south) / 4, east, 90)],
        crs=4326,
    )
    mask = VectorLabels(images, frame, "grade")[x, y, t]["mask"].numpy()
    assert (mask[:10] == 255).all()
    assert (mask[30:, :28] == 4).all()
    assert (mask[30:, 36:] == 2).all()
    area = gpd.GeoDataFrame(geometry=[half], crs=4326)
    mask = VectorLabels(images, frame.iloc[:0], "grade", area=area)[x, y, t]["mask"].numpy()
    assert (mask[:, :28] == 0).all()
    assert (mask[:, 36:] == 255).all()


def test_they_join_pairs_on_the_grid_of_the_imagery(images, cells):
    joined = TemporalPairDataset(images) & VectorLabels(images, BUILDINGS, "class")
    sample = joined[cells[0]]
    assert sample["mask"].shape == sample["image"].shape[-2:]
    x, y, (pre, _) = cells[0]
    alone = VectorLabels(images, BUILDINGS, "class")[x, y, pre]["mask"]
    assert torch.equal(sample["mask"], alone)


def test_what_says_no_class_is_refused(images, tmp_path):
    frame = gpd.read_file(BUILDINGS)
    with pytest.raises(InputError, match=r"attribute: got 'grade'.*damage"):
        VectorLabels(images, frame, "grade")
    with pytest.raises(InputError, match=r"values: .*a class for destroyed, too"):
        VectorLabels(images, frame, "damage", {k: VALUES[k] for k in VALUES if k != "destroyed"})
    with pytest.raises(InputError, match=r"attribute: .*values="):
        VectorLabels(images, frame, "damage")
    with pytest.raises(InputError, match="attribute"):
        VectorLabels(images, frame.assign(n=np.linspace(0, 1, len(frame))), "n")
    with pytest.raises(InputError, match="without a CRS"):
        VectorLabels(images, frame.set_crs(None, allow_override=True), "class")
    with pytest.raises(AssetError, match=r"none\.gpkg"):
        VectorLabels(images, tmp_path / "none.gpkg", "class")
