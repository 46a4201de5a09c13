"""Polygons of class maps: the same for any tiles, a coverage without gaps, and true to the map."""

import numpy as np
import pytest
import rasterio.features
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from scipy import ndimage

from rscontrast.buildings import read_footprints, vectorize, vectorize_raster, write_buildings
from rscontrast.errors import AssetError, GridError, InputError
from tests.world import grid, write_raster


def noise(seed=0, shape=(61, 53), classes=4, smooth=0.0):
    """Classes with regions of all sizes, some inside others, some that touch at corners."""
    rng = np.random.default_rng(seed)
    fields = ndimage.gaussian_filter(rng.random((classes, *shape)), (0, smooth, smooth))
    labels = fields.argmax(axis=0).astype(np.uint8)
    labels[5:9, 20:40] = 255
    return labels


def box(shape):
    return grid(shape=shape, res=2.0)


def pixels(frame, geobox):
    """Its polygons in whole pixels."""
    return shapely.transform(
        frame.geometry.to_numpy(), lambda xy: np.column_stack(~geobox.transform @ tuple(xy.T))
    )


def painted(frame, geobox, fill=0):
    shapes = zip(frame.geometry, frame["class"], strict=True)
    return rasterio.features.rasterize(
        shapes, geobox.shape, fill=fill, transform=geobox.transform, dtype="uint8"
    )


@pytest.mark.parametrize("simplify", [0, 1.0])
@pytest.mark.parametrize("smooth", [0, 1.5])
def test_any_tiles_give_the_same_polygons(simplify, smooth):
    classes = noise(shape=(31, 44), smooth=smooth)
    whole = vectorize(classes, box(classes.shape), simplify=simplify)
    assert len(whole) > 10
    for tile_size in (2, 7, 16, 31, 43):
        cut = vectorize(classes, box(classes.shape), simplify=simplify, tile_size=tile_size)
        assert cut.geometry.to_wkb().tolist() == whole.geometry.to_wkb().tolist()
        assert cut["class"].tolist() == whole["class"].tolist()
        assert cut["area_m2"].tolist() == whole["area_m2"].tolist()


@pytest.mark.parametrize("background", [0, None, 2])
def test_outlines_of_pixels_are_the_map(background):
    classes = noise(1, smooth=1.0)
    geobox = box(classes.shape)
    frame = vectorize(classes, geobox, simplify=0, background=background, tile_size=16)
    dropped = (classes == 255) | (classes == (255 if background is None else background))
    np.testing.assert_array_equal(painted(frame, geobox, 255), np.where(dropped, 255, classes))
    # As many regions as connected components, each of the size of its own.
    sizes = []
    for label in set(range(4)) - {background}:
        ids, _ = ndimage.label(classes == label)
        sizes += np.bincount(ids.ravel())[1:].tolist()
    assert sorted(np.rint(shapely.area(pixels(frame, geobox)))) == sorted(sizes)


@pytest.mark.parametrize("tolerance", [0, 0.8, 1.0, 2.5, 10.0])
@pytest.mark.parametrize("smooth", [0, 2.0])
def test_the_simplified_is_a_coverage_without_gaps_or_overlaps(tolerance, smooth):
    classes = noise(2, smooth=smooth)
    classes[classes == 255] = 1
    geobox = box(classes.shape)
    frame = vectorize(classes, geobox, background=None, simplify=tolerance, tile_size=13)
    polygons = frame.geometry.to_numpy()
    assert shapely.is_valid(polygons).all()
    assert shapely.coverage_is_valid(polygons)
    together = shapely.union_all(polygons)
    assert together.geom_type == "Polygon"
    assert not together.interiors
    assert shapely.area(polygons).sum() == pytest.approx(together.area, rel=1e-12)
    assert together.area == pytest.approx(geobox.extent.geom.area, rel=0.02)


def test_simplifying_takes_away_stairs_and_keeps_areas():
    rows, cols = np.mgrid[:80, :80]
    classes = (np.hypot(rows - 40, cols - 37) < 25).astype(np.uint8)
    geobox = box(classes.shape)
    stairs, smooth = (vectorize(classes, geobox, simplify=t) for t in (0, 1.0))
    corners = [len(shapely.get_coordinates(f.geometry.iloc[0])) for f in (stairs, smooth)]
    assert corners[1] < 0.5 * corners[0]
    assert smooth.geometry.area.sum() == pytest.approx(stairs.geometry.area.sum(), rel=0.02)
    # A pixel of these is 4 m²; on the ground UTM is off by less than a thousandth here.
    assert smooth["area_m2"].item() == pytest.approx(4 * classes.sum(), rel=2e-3)
    apart = shapely.hausdorff_distance(stairs.geometry.iloc[0], smooth.geometry.iloc[0])
    assert apart < 3 * 2.0


def test_a_building_across_tile_edges_is_one_polygon_and_holes_stay():
    classes = np.zeros((20, 20), np.uint8)
    classes[3:17, 3:17] = 2
    classes[8:12, 8:12] = 0
    classes[9, 9] = 3
    frame = vectorize(classes, box((20, 20)), simplify=0, tile_size=10)
    assert frame["class"].tolist() == [2, 3]
    assert [len(p.interiors) for p in frame.geometry] == [1, 0]
    assert [len(p.exterior.coords) for p in frame.geometry] == [5, 5]
    assert frame.geometry.area.tolist() == pytest.approx([4 * (196 - 16), 4])
    assert all(p.exterior.is_ccw for p in frame.geometry)


def test_a_spiral_through_many_tiles_is_one():
    classes = np.ones((33, 33), np.uint8)
    for ring in range(1, 16, 2):  # walls with a door each, by turns on two sides
        classes[ring, ring : 33 - ring] = classes[32 - ring, ring : 33 - ring] = 0
        classes[ring : 33 - ring, ring] = classes[ring : 33 - ring, 32 - ring] = 0
        classes[16, ring if ring % 4 == 1 else 32 - ring] = 1
    frame = vectorize(classes, box((33, 33)), simplify=0, tile_size=4)
    assert len(frame) == ndimage.label(classes)[1] == 1
    np.testing.assert_array_equal(painted(frame, box((33, 33))), classes)


def test_regions_that_touch_at_a_corner_are_two():
    classes = np.array([[1, 0], [0, 1]], np.uint8)
    for tile_size in (1, 2):
        assert len(vectorize(classes, box((2, 2)), tile_size=tile_size)) == 2


def test_merged_classes_are_buildings_whatever_their_damage():
    classes = np.array([[0, 1, 2, 0, 4, 255, 3]], np.uint8)
    frame = vectorize(classes, box((1, 7)), merged=True, simplify=0, class_names=("no", "yes"))
    assert frame["class"].tolist() == [1, 1, 1]
    assert frame["class_name"].tolist() == ["yes"] * 3
    assert frame.geometry.area.tolist() == pytest.approx([8, 4, 4])


def test_small_regions_are_left_out_by_their_area_on_the_ground():
    classes = np.zeros((9, 30), np.uint8)
    classes[2:5, 2:5], classes[2, 10:12], classes[6, 20] = 1, 2, 3
    assert vectorize(classes, box((9, 30)), min_area=7.5)["class"].tolist() == [1, 2]
    degrees = GeoBox((9, 30), Affine(2e-5, 0, 10, 0, -2e-5, 60), "EPSG:4326")
    areas = vectorize(classes, degrees)["area_m2"]
    # 2e-5 degrees at 60 north: 2.228 m along the meridian, 1.116 m along the parallel.
    assert areas.tolist() == pytest.approx([9 * 2.487, 2 * 2.487, 2.487], rel=2e-3)


def test_a_map_of_nothing_is_an_empty_frame():
    for empty in (np.zeros((5, 5), np.uint8), np.full((5, 5), 255)):
        frame = vectorize(empty, box((5, 5)), tile_size=2)
        assert len(frame) == 0
        assert frame.crs == "EPSG:32632"


def test_a_raster_is_drawn_by_windows(tmp_path):
    classes = noise(3, smooth=1.5)
    geobox = box(classes.shape)
    path = tmp_path / "classes.tif"
    write_raster(path, classes[None], geobox, nodata=255)
    frame = vectorize_raster(path, tile_size=16)
    expected = vectorize(classes, geobox)
    assert frame.geometry.to_wkb().tolist() == expected.geometry.to_wkb().tolist()
    out = write_buildings(frame, tmp_path / "out" / "regions.parquet")
    back = read_footprints(out)
    assert back.geometry.to_wkb().tolist() == frame.geometry.to_wkb().tolist()
    assert back.crs == frame.crs
    assert [p.name for p in out.parent.iterdir()] == ["regions.parquet"]
    with pytest.raises(AssetError, match=r"none.tif: cannot be read"):
        vectorize_raster(tmp_path / "none.tif")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": np.zeros((3, 4), np.uint8)}, r"classes: got 'uint8 \(3, 4\)'"),
        ({"classes": np.zeros((4, 4))}, "classes: got 'float64"),
        ({"simplify": -1}, "simplify: got -1"),
        ({"min_area": float("nan")}, "min_area: got nan"),
        ({"tile_size": 0}, "tile_size: got 0"),
        ({"class_names": ("a",)}, "class_names"),
    ],
)
def test_bad_input_says_what_came(change, message):
    arguments = {"classes": np.ones((4, 4), np.uint8), "geobox": box((4, 4))} | change
    with pytest.raises(InputError, match=message):
        vectorize(**arguments)


def test_a_grid_without_a_crs_is_refused():
    with pytest.raises(GridError, match="no CRS"):
        vectorize(np.ones((4, 4), np.uint8), GeoBox((4, 4), Affine.scale(1, -1), None))
