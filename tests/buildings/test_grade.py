"""Grades of footprints: exact shares of pixels, three votes, any CRS, and nothing invented."""

import copy
import math
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from shapely import affinity
from shapely.geometry import Polygon

from rscontrast.buildings import (
    grade,
    grade_raster,
    read_footprints,
    vectorize,
    write_buildings,
)
from rscontrast.buildings.weights import ground_area, pixel_weights
from rscontrast.errors import AssetError, BandError, InputError, WriteError
from rscontrast.mapping.native import Tile
from rscontrast.types import DAMAGE_CLASSES as NAMES
from tests.world import grid, write_raster

GRID = grid(shape=(40, 50), res=2.0)
LETTER = Polygon(
    [(3.3, 2.1), (37.9, 5.2), (44.4, 33.3), (20.2, 38.8), (5.1, 30.4)],
    [[(15.5, 12.5), (28.1, 14.3), (22.2, 25.7)], [(31, 20), (33, 20), (33, 22), (31, 22)]],
)


def onto(polygon, geobox=GRID):
    """A polygon in pixels in the CRS of a grid."""
    return shapely.transform(polygon, lambda xy: np.column_stack(geobox.transform @ tuple(xy.T)))


def frame(*polygons, crs=None, **columns):
    made = gpd.GeoDataFrame(columns, geometry=[onto(p) for p in polygons], crs="EPSG:32632")
    return made if crs is None else made.to_crs(crs)


def chances(seed=0):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(5) * 0.4, GRID.shape).transpose(2, 0, 1).astype(np.float32)


def literal_weights(polygon, window):
    rows = range(window.row, window.row + window.height)
    cols = range(window.col, window.col + window.width)
    return [
        [polygon.intersection(shapely.box(c, r, c + 1, r + 1)).area for c in cols] for r in rows
    ]


@pytest.mark.parametrize(
    "window", [Tile(0, 0, 40, 50), Tile(7, 11, 25, 9), Tile(-3, 40, 20, 20), Tile(16, 16, 1, 1)]
)
def test_weights_equal_literal_intersections(window):
    np.testing.assert_allclose(
        pixel_weights(LETTER, window), literal_weights(LETTER, window), atol=1e-12
    )


def test_weights_add_up_to_the_area():
    assert pixel_weights(LETTER, Tile(0, 0, 40, 50)).sum() == pytest.approx(LETTER.area, rel=1e-12)
    dust = affinity.translate(shapely.box(0, 0, 0.1, 0.1), 7.95, 8.95)
    assert pixel_weights(dust, Tile(8, 7, 2, 2)).tolist() == [
        [pytest.approx(0.0025)] * 2, [pytest.approx(0.0025)] * 2
    ]  # fmt: skip


def literal_votes(vote, weights, probabilities, valid):
    votes = [0.0] * 4
    for r, c in zip(*np.nonzero(weights * valid), strict=True):
        p, w = probabilities[1:, r, c].astype(float), weights[r, c]
        if vote == "area":
            votes = [v + w * q for v, q in zip(votes, p, strict=True)]
        elif vote == "majority":
            votes[int(p.argmax())] += w
        else:
            votes = [max(v, w * q) for v, q in zip(votes, p, strict=True)]
    return np.array(votes) / sum(votes)


@pytest.mark.parametrize("vote", ["area", "majority", "max"])
def test_votes_equal_the_literal_loop(vote):
    valid = np.random.default_rng(1).random(GRID.shape) > 0.2
    found = grade(frame(LETTER), chances(), valid, GRID, vote).iloc[0]
    weights = np.array(literal_weights(LETTER, Tile(0, 0, 40, 50)))
    expected = literal_votes(vote, weights, chances(), valid)
    assert [found[f"p_{name}"] for name in NAMES[1:]] == pytest.approx(expected, rel=1e-6)
    assert found["grade"] == expected.argmax() + 1
    assert found["grade_name"] == NAMES[found["grade"]]
    assert found["probability"] == pytest.approx(expected.max(), rel=1e-6)
    entropy = -sum(q * math.log(q) for q in expected) / math.log(4)
    assert found["uncertainty"] == pytest.approx(entropy, rel=1e-6)
    kept = weights * valid
    assert found["valid_share"] == pytest.approx(kept.sum() / LETTER.area)
    behind = (kept * chances()[0]).sum() / kept.sum()
    assert found["background_share"] == pytest.approx(behind, rel=1e-6)
    assert found["area_m2"] == pytest.approx(4 * LETTER.area, rel=2e-3)
    assert found["vote"] == vote


def test_votes_differ_where_they_should():
    probabilities = np.zeros((5, *GRID.shape), np.float32)
    probabilities[1], probabilities[2] = 0.55, 0.45
    probabilities[:, 5, 5] = 0, 0, 0, 0, 1
    house = frame(shapely.box(4, 4, 9, 9))
    by = {
        v: grade(house, probabilities, None, GRID, v).iloc[0] for v in ("area", "majority", "max")
    }
    assert [row["grade"] for row in by.values()] == [1, 1, 4]
    assert by["area"]["p_minor-damage"] == pytest.approx(24 * 0.45 / 25, rel=1e-6)
    assert by["majority"]["p_minor-damage"] == 0
    assert by["majority"]["probability"] == pytest.approx(24 / 25)


def test_certain_and_uniform_have_uncertainty_0_and_1():
    for values, expected in (((0, 0, 1, 0, 0), 0), ((0.2,) * 5, 1), ((0.9, 0, 0.1, 0, 0), 0)):
        probabilities = np.zeros((5, *GRID.shape)) + np.array(values)[:, None, None]
        found = grade(frame(LETTER), probabilities, None, GRID).iloc[0]
        assert found["uncertainty"] == pytest.approx(expected)
        assert math.copysign(1, found["uncertainty"]) == 1


def test_off_the_map_and_all_nodata_are_not_graded_and_no_error():
    far = affinity.translate(LETTER, 5000, 0)
    half = affinity.translate(LETTER, -25, 0)
    dark = shapely.box(30, 30, 35, 35)
    valid = np.ones(GRID.shape, bool)
    valid[25:, 25:] = False
    footprints = frame(far, half, dark, id=["far", "half", "dark"])
    for vote in ("area", "majority", "max"):
        found = grade(footprints, chances(), valid, GRID, vote)
        assert found["id"].tolist() == ["far", "half", "dark"]
        for row in (0, 2):
            assert found["grade"][row] == -1
            assert found["valid_share"][row] == 0
            assert found["area_m2"][row] > 50
            named = found[["grade_name", "probability", "p_destroyed", "uncertainty"]]
            assert named.loc[row].isna().all()
        assert found["grade"][1] > 0
        assert 0.2 < found["valid_share"][1] < 0.8


def test_a_footprint_that_nothing_speaks_for_has_no_grade():
    probabilities = np.zeros((5, *GRID.shape))
    probabilities[0] = 1
    found = grade(frame(LETTER), probabilities, None, GRID).iloc[0]
    assert (found["grade"], found["valid_share"]) == (-1, 1)
    assert found["background_share"] == pytest.approx(1)


def test_pixels_that_do_not_vote_may_hold_anything():
    valid = np.ones(GRID.shape, bool)
    valid[:, 20:] = False
    dirty = np.where(valid, chances(), np.nan)
    left, right = (grade(frame(LETTER), p, valid, GRID) for p in (chances(), dirty))
    assert left.drop(columns="geometry").equals(right.drop(columns="geometry"))
    with pytest.raises(InputError, match="probabilities"):
        grade(frame(LETTER), dirty, None, GRID)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32633", "EPSG:3857"])
def test_footprints_of_any_crs(crs):
    small = [affinity.translate(affinity.scale(LETTER, 0.2, 0.2), dx, 0) for dx in (-15, 0, 15)]
    here = grade(frame(*small), chances(), None, GRID)
    there = grade(frame(*small, crs=crs), chances(), None, GRID)
    assert there.crs == crs
    assert there["grade"].tolist() == here["grade"].tolist()
    for column in ("probability", "uncertainty", "area_m2", "valid_share"):
        assert there[column].tolist() == pytest.approx(here[column].tolist(), rel=1e-4)


def test_ground_area_does_not_believe_the_crs():
    square = gpd.GeoSeries([shapely.box(0, 0, 1000, 1000)], crs="EPSG:3857")
    north = square.translate(0, 8_399_738)  # 60 degrees north, where Mercator doubles lengths
    assert ground_area(north)[0] == pytest.approx(250_000, rel=5e-3)
    ring = Polygon(shapely.box(0, 0, 9, 9).exterior, [shapely.box(3, 3, 6, 6).exterior])
    both = gpd.GeoSeries(
        [ring, shapely.MultiPolygon([ring, affinity.translate(ring, 20)])], crs=3857
    )
    one, two = ground_area(both)
    assert one == pytest.approx(72, rel=1e-2)
    assert two == pytest.approx(2 * one, rel=1e-6)


@pytest.mark.parametrize("vote", ["area", "majority", "max"])
def test_a_raster_by_tiles_equals_the_whole(vote, tmp_path):
    steps = np.rint(chances() * 254).astype(np.uint8)
    steps[:, 10:14, 10:30] = 255
    path = tmp_path / "probabilities.tif"
    write_raster(path, steps, GRID, nodata=255)
    with rasterio.open(path, "r+") as target:
        target.scales, target.descriptions = [1 / 254] * 5, NAMES
    footprints = frame(LETTER, shapely.box(1, 1, 3, 3), shapely.box(60, 60, 70, 70))
    whole = grade(footprints, steps / 254, (steps != 255).all(0), GRID, vote)
    for tile_size in (3, 16, 1024):
        found = grade_raster(footprints, path, vote, tile_size=tile_size)
        assert found["grade"].tolist() == whole["grade"].tolist()
        for column in ("probability", "p_destroyed", "uncertainty", "valid_share"):
            assert found[column].tolist() == pytest.approx(whole[column].tolist(), nan_ok=True)
    with pytest.raises(AssetError, match="cannot be read"):
        grade_raster(footprints, tmp_path / "none.tif")
    with pytest.raises(InputError, match="class_names"):
        grade_raster(footprints, path, class_names=("a", "b"))


def test_predicted_buildings_are_graded_and_written(tmp_path):
    classes = np.zeros(GRID.shape, np.uint8)
    classes[5:12, 5:12], classes[5:12, 12:16], classes[25:33, 30:41] = 1, 4, 3
    probabilities = 0.9 * (np.arange(5)[:, None, None] == classes) + 0.02
    built = vectorize(classes, GRID, merged=True, simplify=0, tile_size=8)
    found = grade(built.drop(columns="area_m2"), probabilities, None, GRID)
    assert found["grade_name"].tolist() == ["no-damage", "major-damage"]
    path = write_buildings(found, tmp_path / "buildings.parquet")
    back = gpd.read_parquet(path)
    assert list(back) == list(found)
    assert back["grade"].dtype.kind == "i"
    assert back.crs == GRID.crs
    with pytest.raises(WriteError):
        write_buildings(found, path / "below" / "a_file.parquet")


def test_change_maps_grade_every_class():
    probabilities = np.stack([np.full(GRID.shape, 0.7), np.full(GRID.shape, 0.3)])
    names = ("no change", "change")
    found = grade(
        frame(LETTER), probabilities, None, GRID, class_names=names, background=None
    ).iloc[0]
    assert (found["grade"], found["grade_name"]) == (0, "no change")
    assert found["p_change"] == pytest.approx(0.3)
    only = grade(frame(LETTER), probabilities, None, GRID, class_names=names).iloc[0]
    assert (only["grade"], only["probability"], only["uncertainty"]) == (1, 1, 0)


def test_no_footprints_are_no_grades():
    found = grade(frame(LETTER).iloc[:0], chances(), None, GRID)
    assert len(found) == 0
    assert {"grade", "p_destroyed", "area_m2", "vote"} <= set(found)


@pytest.mark.parametrize("name", ["a.geojson", "a.gpkg", "a.parquet"])
def test_footprints_of_files_and_of_assets(name, tmp_path):
    footprints = frame(LETTER, crs="EPSG:4326", house=["a"])
    path = tmp_path / name
    footprints.to_parquet(path) if name.endswith("parquet") else footprints.to_file(path)
    item = {"id": "scene", "assets": {"houses": {"href": str(path)}}}
    for found in (read_footprints(path), read_footprints(item, asset="houses")):
        assert found["house"].tolist() == ["a"]
        assert found.geometry.iloc[0].equals_exact(footprints.geometry.iloc[0], 1e-6)
    with pytest.raises(BandError, match="an asset of item scene: houses"):
        read_footprints(item, asset="roofs")
    with pytest.raises(AssetError, match="cannot be read as a vector file"):
        read_footprints(tmp_path / f"none_{name}")


@pytest.mark.parametrize("name", ["a.geojson", "a.parquet"])
def test_footprints_behind_http(name, tmp_path):
    footprints = frame(LETTER, crs="EPSG:4326", house=["a"])
    path = tmp_path / name
    footprints.to_parquet(path) if name.endswith("parquet") else footprints.to_file(path)
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        found = read_footprints(f"{address}/{name}")
        with pytest.raises(AssetError, match="cannot be read as a vector file"):
            read_footprints(f"{address}/none_{name}")
        server.shutdown()
    assert found["house"].tolist() == ["a"]


def test_a_bow_tie_is_repaired_with_a_warning():
    tie = frame(Polygon([(2, 2), (12, 12), (12, 2), (2, 12)]))
    before = copy.deepcopy(tie)
    with pytest.warns(UserWarning, match="1 cross themselves; repaired"):
        found = grade(tie, chances(), None, GRID)
    assert found["valid_share"].item() == pytest.approx(1)
    assert found["area_m2"].item() == pytest.approx(4 * 50, rel=2e-3)
    assert tie.geometry.equals(before.geometry)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vote": "mean"}, "vote: got 'mean'"),
        ({"footprints": gpd.GeoDataFrame(geometry=[LETTER])}, "footprints: got 'CRS None'"),
        (
            {"footprints": gpd.GeoDataFrame(geometry=[LETTER.centroid], crs=4326)},
            "feature 0: POINT",
        ),
        ({"footprints": gpd.GeoDataFrame(geometry=[LETTER, None], crs=4326)}, "feature 1: None"),
        ({"footprints": frame(LETTER, grade=[3])}, "columns grade"),
        ({"probabilities": chances()[:, 1:]}, "probabilities: got"),
        ({"probabilities": chances() + 1}, "probabilities: got"),
        ({"valid": np.ones((2, 2), bool)}, "valid: got"),
        ({"class_names": ("a",) * 5}, "class_names"),
        ({"background": 5}, "background: got 5"),
    ],
)
def test_bad_input_says_what_came(change, message):
    arguments = {
        "footprints": frame(LETTER), "probabilities": chances(), "valid": None, "geobox": GRID
    } | change  # fmt: skip
    with pytest.raises(InputError, match=message):
        grade(**arguments)
