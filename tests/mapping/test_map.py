"""Maps: seamless, on the imagery's grid, listed in a valid catalog."""

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pystac
import pytest
import rasterio
import shapely
from affine import Affine
from pystac.validation import validate_dict

from rscontrast.errors import BandError, InputError
from rscontrast.io import read_mosaic
from rscontrast.mapping import evaluate, map_pairs
from rscontrast.mapping.native import plan
from rscontrast.mapping.tilewise import ramp, starts
from rscontrast.stac import search
from tests.mapping.conftest import CLASSES, SMALL, save
from tests.sample_world import BANDS, asset, event_pairs, pixels, scenes

EAST, WEST = "east_20220807_a_east_20220824_a", "west_20220807_a_west_20220824_a"


def raster(catalog, name, kind):
    with rasterio.open(Path(catalog).parent / name / f"{kind}.tif") as source:
        return source.read()


@pytest.mark.parametrize("size", [64, 96])
@pytest.mark.parametrize("overlap", [0, 1, 16, 32])
def test_patches_cover_every_pixel_and_whichever_tile_asks_the_same_ones(size, overlap):
    def covering(first, last, pixel):
        return {s for s in starts(first, last, size, overlap) if s <= pixel < s + size}

    whole = {pixel: covering(0, 500, pixel) for pixel in range(500)}
    assert all(whole.values())
    for first in range(0, 500, 70):
        for pixel in range(first, min(500, first + 70)):
            assert covering(first, min(500, first + 70), pixel) == whole[pixel]
    assert {len(found) for found in whole.values()} <= {1, 2}


@pytest.mark.parametrize(("size", "overlap"), [(64, 0), (64, 16), (64, 32), (96, 5)])
def test_weights_blend_to_a_partition(size, overlap):
    axis = np.sqrt(np.diag(ramp(size, overlap)))
    assert (axis > 0).all()
    total = np.zeros(500)
    for start in starts(0, 500, size, overlap):
        index = np.arange(start, start + size)
        kept = (index >= 0) & (index < 500)
        total[index[kept]] += axis[kept]
    np.testing.assert_allclose(total, 1.0, atol=1e-6)
    np.testing.assert_allclose(ramp(size, overlap), np.outer(axis, axis), rtol=1e-5)


@pytest.mark.parametrize("overlap", [-1, 33])
def test_overlap_out_of_range_is_refused(overlap):
    with pytest.raises(InputError, match="overlap: got"):
        starts(0, 10, 64, overlap)


def test_a_map_does_not_depend_on_tiles_or_batches(mapped, checkpoint, tmp_path):
    pairs = event_pairs().iloc[1:]
    expected = raster(mapped, WEST, "classes")
    assert len(np.unique(expected)) >= 4  # a map of one class would show nothing
    change = {"tile_size": 300, "batch_size": 3}
    other = map_pairs(scenes(), pairs, checkpoint, tmp_path, **(SMALL | change))
    assert np.array_equal(raster(other, WEST, "classes"), expected)
    steps = raster(other, WEST, "probabilities").astype(int)
    assert np.abs(steps - raster(mapped, WEST, "probabilities")).max() <= 1


def test_a_constant_model_leaves_no_seam(tmp_path):
    def constant(module):
        *_, head = [m for m in module.segmentation_head.modules() if hasattr(m, "weight")]
        head.weight.data.zero_()
        head.bias.data.copy_(head.bias.data.new_tensor([0.0, 1.0, 3.0, 0.5, -1.0]))

    path = save(tmp_path / "constant.pt", constant)
    catalog = map_pairs(scenes(), event_pairs().iloc[1:], path, tmp_path / "out", **SMALL)
    logits = np.array([0.0, 1.0, 3.0, 0.5, -1.0])
    expected = np.rint(254 * np.exp(logits) / np.exp(logits).sum())
    steps = raster(catalog, WEST, "probabilities")
    usable = steps[0] != 255
    assert usable.any()
    assert (steps[:, usable] == expected[:, None]).all()
    assert (raster(catalog, WEST, "classes")[0][usable] == 2).all()


@pytest.mark.parametrize(("name", "zone"), [(EAST, 32633), (WEST, 32632)])
def test_a_map_lies_on_the_grid_of_the_first_date_in_its_own_zone(mapped, name, zone):
    place = name[:4]
    parts = [rasterio.open(asset(f"{place}_20220807_{part}", "blue")[0]) for part in "ab"]
    corner = Affine(2.5, 0, parts[0].bounds.left, 0, -2.5, parts[0].bounds.top)
    for kind, count in (("classes", 1), ("probabilities", len(CLASSES))):
        with rasterio.open(mapped.parent / name / f"{kind}.tif") as source:
            assert source.crs.to_epsg() == zone
            assert source.transform.almost_equals(corner, 1e-6)
            assert source.shape == (256, 448)
            assert source.bounds.right == parts[1].bounds.right
            assert source.nodata == 255
            assert source.count == count
            assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    for part in parts:
        part.close()


@pytest.mark.parametrize("name", [EAST, WEST])
def test_pixels_unusable_at_either_date_are_nodata_and_no_other(mapped, name):
    usable = np.ones((256, 448), dtype=bool)
    for date in ("20220807", "20220824"):
        seen = np.zeros((256, 448), dtype=bool)
        for part, cols in (("a", np.s_[:240]), ("b", np.s_[208:])):
            item = f"{name[:4]}_{date}_{part}"
            data = np.all([pixels(asset(item, band)[0]) != 0 for band in BANDS], axis=0)
            seen[:, cols] |= data & (pixels(asset(item, "cloud")[0]) == 0)
        usable &= seen
    assert 0.5 < usable.mean() < 1
    assert np.array_equal(raster(mapped, name, "classes")[0] != 255, usable)
    assert np.array_equal(raster(mapped, name, "probabilities") != 255, [usable] * len(CLASSES))


def test_probabilities_sum_to_one_and_their_best_is_the_class(mapped):
    steps = raster(mapped, WEST, "probabilities").astype(int)
    classes = raster(mapped, WEST, "classes")[0]
    usable = classes != 255
    assert np.abs(steps[:, usable].sum(axis=0) - 254).max() <= len(CLASSES) / 2
    best = np.take_along_axis(steps[:, usable], classes[usable][None].astype(int), axis=0)
    assert (best == steps[:, usable].max(axis=0)).all()
    with rasterio.open(mapped.parent / WEST / "probabilities.tif") as source:
        assert source.scales == (1 / 254,) * len(CLASSES)
        assert source.descriptions == CLASSES


def test_the_catalog_is_valid_and_says_where_each_map_comes_from(mapped):
    catalog = pystac.Catalog.from_file(mapped)
    assert validate_dict(json.loads(mapped.read_text()), extensions=[])
    items = {item.id: item for item in catalog.get_items()}
    assert set(items) == {EAST, WEST}
    for name, item in items.items():
        written = json.loads(Path(item.get_self_href()).read_text())
        assert validate_dict(written, extensions=[])
        sources = [link.get_absolute_href() for link in item.get_links("derived_from")]
        ids = [json.loads(Path(href).read_text())["id"] for href in sources]
        place = name[:4]
        dates = ("20220807", "20220824")
        assert ids == [f"{place}_{date}_{part}" for date in dates for part in "ab"]
        assert set(item.assets) == {"classes", "probabilities"}
        for found in item.assets.values():
            assert not found.href.startswith("/")  # the folder can be moved
            with rasterio.open(found.get_absolute_href()) as source:
                assert list(source.shape) == item.properties["proj:shape"]
                assert list(source.transform)[:6] == item.properties["proj:transform"]


def test_our_own_search_reads_the_catalog(mapped):
    found = search(mapped)
    assert sorted(found["id"]) == [EAST, WEST]
    row = found[found["id"] == WEST].iloc[0]
    (job,) = plan(scenes(), event_pairs().iloc[1:], "blue")
    classes = raster(mapped, WEST, "classes")[0]
    assert Path(row["assets"]["classes"]["href"]).is_file()
    # geopandas and a point a metre stand in for the curve that an edge becomes in degrees.
    outline = shapely.segmentize(job.geobox.extent.geom, 1.0)
    footprint = gpd.GeoSeries([outline], crs=str(job.geobox.crs)).to_crs("EPSG:4326").iloc[0]
    assert row.geometry.symmetric_difference(footprint).area < 1e-10
    assert str(row["proj:code"]) == "EPSG:32632"
    assert classes.shape == job.geobox.shape


def test_aoi_clips_to_the_pixels_within(mapped, checkpoint, tmp_path):
    (job,) = plan(scenes(), event_pairs().iloc[1:], "blue")
    xmin, ymin, xmax, ymax = event_pairs().iloc[1].geometry.bounds
    aoi = shapely.Point((xmin + xmax) / 2, (ymin + ymax) / 2).buffer((ymax - ymin) / 4)
    catalog = map_pairs(scenes(), event_pairs(), checkpoint, tmp_path, aoi=aoi, **SMALL)
    (item,) = pystac.Catalog.from_file(catalog).get_items()
    assert item.id == WEST
    with rasterio.open(catalog.parent / WEST / "classes.tif") as source:
        clipped, transform = source.read(1), source.transform
    col, row = ~job.geobox.transform @ (transform.c, transform.f)
    assert col == pytest.approx(round(col), abs=1e-6)
    assert row == pytest.approx(round(row), abs=1e-6)
    assert clipped.shape[0] < 256
    assert clipped.shape[1] < 448
    rows, cols = np.indices(clipped.shape) + 0.5
    x, y = transform @ (cols, rows)
    depth = shapely.distance(shapely.points(x, y), job_area(aoi).boundary)
    within = shapely.contains_xy(job_area(aoi), x, y)
    assert (clipped[~within & (depth > 0.01)] == 255).all()  # the border itself may go either way
    whole = raster(mapped, WEST, "classes")[0]
    top, left = round(row), round(col)
    there = whole[top : top + clipped.shape[0], left : left + clipped.shape[1]]
    deep = within & (depth > 0.01)
    assert deep.sum() > 5000
    assert np.array_equal(clipped[deep] != 255, there[deep] != 255)
    assert ((there != 255) | (clipped == 255)).all()  # no pixel that the whole map lacks


def job_area(aoi):
    (job,) = plan(scenes(), event_pairs().iloc[1:], "blue", aoi)
    return job.aoi


def test_evaluate_scores_what_the_map_shows(mapped, checkpoint, tmp_path):
    out = tmp_path / "scores.json"
    found = evaluate(scenes(), event_pairs(), checkpoint, "damage", out=out, **SMALL)
    total = np.zeros((len(CLASSES), len(CLASSES)), dtype=int)
    for name in (EAST, WEST):
        truth = np.full((256, 448), 255, dtype=int)
        for part, cols in (("b", np.s_[208:]), ("a", np.s_[:240])):
            labels = pixels(asset(f"{name[:4]}_20220824_{part}", "damage")[0])
            truth[:, cols] = np.where(labels != 255, labels, truth[:, cols])
        classes = raster(mapped, name, "classes")[0]
        expected = np.zeros_like(total)
        for true, said in zip(truth.ravel(), classes.ravel(), strict=True):
            if true != 255 and said != 255:
                expected[true, said] += 1
        assert np.array_equal(found[name].confusion, expected)
        total += expected
    assert np.array_equal(found["all"].confusion, total)
    assert total.sum() > 100_000
    written = json.loads(out.read_text())
    assert written["all"]["confusion"] == total.tolist()


def test_a_label_that_no_item_has_is_refused(checkpoint):
    with pytest.raises(BandError, match=r"label: got 'damagee'; .*damage"):
        evaluate(scenes(), event_pairs(), checkpoint, "damagee", **SMALL)


def test_patches_at_the_border_see_nothing_beyond_it():
    """What lies beyond the scene is zero and unusable, so it cannot colour the map."""
    (job,) = plan(scenes(), event_pairs().iloc[1:], "blue")
    beyond = type(job.geobox)(
        (32, 32), job.geobox.transform @ Affine.translation(-32, 0), job.geobox.crs
    )
    for date in job.sources(BANDS):
        image, valid = read_mosaic(date, beyond)
        assert not image.any()
        assert not valid.any()


@pytest.mark.parametrize(
    ("name", "value"),
    [("patch_size", 60), ("patch_size", 0), ("overlap", 40), ("tile_size", 0), ("batch_size", 0)],
)
def test_bad_sizes_are_refused_by_name(name, value, checkpoint, tmp_path):
    with pytest.raises(InputError, match=f"^{name}: got {value}; allowed: "):
        map_pairs(scenes(), event_pairs(), checkpoint, tmp_path, **(SMALL | {name: value}))


def test_a_pair_named_twice_is_refused(checkpoint, tmp_path):
    pairs = event_pairs().iloc[[0, 0]]
    with pytest.raises(InputError, match="a pair twice"):
        map_pairs(scenes(), pairs, checkpoint, tmp_path, **SMALL)
