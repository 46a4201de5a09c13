import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import pytest
import shapely

from rscontrast.errors import InputError
from rscontrast.stac.conditions.area import read_aoi

AREA = shapely.box(10, 50, 11, 51)
FIJI = shapely.MultiPolygon([shapely.box(170, -10, 180, 10), shapely.box(-180, -10, -170, 10)])


def frame(*geometries, crs="EPSG:4326"):
    return gpd.GeoDataFrame(geometry=list(geometries), crs=crs)


class TestForms:
    @pytest.mark.parametrize(
        "aoi",
        [
            (10, 50, 11, 51),
            np.array([10.0, 50, 11, 51]),
            AREA,
            AREA.__geo_interface__,
            {"type": "Feature", "properties": {}, "geometry": AREA.__geo_interface__},
            frame(AREA),
            frame(AREA).__geo_interface__,
            frame(AREA).geometry,
            (frame(AREA).assign(name="x"), "geometry"),
            (frame(shapely.Point(0, 0)).assign(other=frame(AREA).geometry), "other"),
            frame(shapely.box(10, 50, 10.5, 51), shapely.box(10.5, 50, 11, 51)),
            frame(AREA).to_crs("EPSG:4258"),
            frame(shapely.force_3d(AREA, 5)),
        ],
    )
    def test_same_area(self, aoi):
        area = read_aoi(aoi)
        assert area.symmetric_difference(AREA).area < 1e-8
        assert not area.has_z

    @pytest.mark.parametrize("name", ["a.gpkg", "a.geojson", "a.shp", "a.parquet", "a.geoparquet"])
    def test_files(self, tmp_path, name):
        path = tmp_path / name
        write = "to_parquet" if "parquet" in name else "to_file"
        getattr(frame(AREA), write)(path)
        assert read_aoi(path).equals(AREA)
        assert read_aoi(str(path)).equals(AREA)

    def test_one_of_several_columns(self, tmp_path):
        data = frame(shapely.Point(0, 0)).assign(tile=frame(AREA).to_crs("EPSG:4258").geometry)
        path = tmp_path / "areas.parquet"
        data.to_parquet(path)
        for aoi in (data, path):
            assert read_aoi(aoi).equals(shapely.Point(0, 0))
            assert read_aoi((aoi, "tile")).equals(AREA)
            with pytest.raises(InputError, match="did you mean 'tile'"):
                read_aoi((aoi, "tiles"))
        assert read_aoi(f"{path}#tile").equals(AREA)

    def test_one_of_several_layers(self, tmp_path):
        path = tmp_path / "areas.gpkg"
        frame(AREA).to_file(path, layer="fields")
        frame(shapely.box(0, 0, 1, 1)).to_file(path, layer="towns")
        assert read_aoi(f"{path}#fields").equals(AREA)
        with pytest.raises(InputError, match="layers fields, towns"):
            read_aoi(path)
        with pytest.raises(InputError, match="did you mean 'towns'"):
            read_aoi(f"{path}#town")

    def test_a_hash_in_a_file_name(self, tmp_path):
        frame(AREA).to_file(tmp_path / "a#b.gpkg")
        assert read_aoi(tmp_path / "a#b.gpkg").equals(AREA)


class TestAntimeridian:
    @pytest.mark.parametrize(
        "aoi",
        [
            (170, -10, -170, 10),
            (170, -10, 190, 10),
            (-190, -10, -170, 10),
            shapely.box(170, -10, 190, 10),
            frame(shapely.box(-190, -10, -170, 10), crs="EPSG:4258"),
            FIJI,
        ],
    )
    def test_all_forms_become_two_parts(self, aoi):
        area = read_aoi(aoi)
        assert area.geom_type == "MultiPolygon"
        assert area.symmetric_difference(FIJI).area < 1e-6

    def test_a_world_of_degrees_stays_one(self):
        assert read_aoi((-180, -90, 180, 90)).equals(shapely.box(-180, -90, 180, 90))
        assert read_aoi((-170, -5, 170, 5)).equals(shapely.box(-170, -5, 170, 5))
        assert read_aoi((-200, -5, 200, 5)).equals(shapely.box(-180, -5, 180, 5))

    def test_lines_and_points(self):
        assert read_aoi(shapely.Point(185, 5)).equals(shapely.Point(-175, 5))
        line = read_aoi(shapely.LineString([(175, 0), (185, 0)]))
        assert line.bounds == (-180, 0, 180, 0)
        assert line.length == pytest.approx(10)


CRS = {
    # code: the square of the CRS that the polygons lie in
    "EPSG:32633": (2e5, 1e6, 8e5, 9e6),
    "EPSG:32601": (0, 1e5, 6e5, 8e6),
    "EPSG:32660": (4e5, 1e5, 10e5, 8e6),
    "EPSG:3832": (-2e6, -8e6, 8e6, 8e6),
    "EPSG:3857": (-1.9e7, -1.5e7, 1.9e7, 1.5e7),
    "EPSG:3031": (-4e6, -4e6, 4e6, 4e6),
    "EPSG:3413": (-4e6, -4e6, 4e6, 4e6),
    "EPSG:3995": (-4e6, -4e6, 4e6, 4e6),
    "EPSG:3035": (2e6, 1e6, 7e6, 6e6),
    "EPSG:6933": (-1.6e7, -6e6, 1.6e7, 6e6),
    "+proj=laea +lat_0=10 +lon_0=175 +units=us-ft": (-2.9e7, -2.9e7, 2.9e7, 2.9e7),
    "EPSG:4807": (-5, 45, 10, 56),  # gradians from Paris
}


@pytest.mark.parametrize("crs", CRS)
@pytest.mark.parametrize("seed", range(6))
def test_points_lie_in_the_area_where_they_lie_in_the_polygon(crs, seed):
    """The oracle is the CRS itself: a point is in or out before any line is transformed."""
    rng = np.random.default_rng(seed)
    low, high = np.split(np.array(CRS[crs], float), 2)
    size = (high - low).max()
    angles = np.sort(rng.uniform(0, 2 * np.pi, 12))
    spokes = rng.uniform(0.15, 0.45, 12)[:, None] * np.c_[np.cos(angles), np.sin(angles)]
    centre = (low + high) / 2
    shell = centre + spokes * (high - low)
    hole = centre + spokes * (high - low) * 0.4
    polygon = shapely.Polygon(shell, [hole] if seed % 2 else [])
    if not polygon.is_valid:
        polygon = shapely.make_valid(polygon, method="structure", keep_collapsed=False)
    area = read_aoi(frame(polygon, crs=crs))
    assert area.is_valid
    assert area.bounds[0] >= -180
    assert area.bounds[2] <= 180

    points = rng.uniform(low, high, (3000, 2))
    points = points[shapely.distance(polygon.boundary, shapely.points(points)) > size * 1e-5]
    lonlat = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    lon, lat = lonlat.transform(points[:, 0], points[:, 1])
    inside = shapely.intersects_xy(area, (lon + 180) % 360 - 180, lat)
    assert np.array_equal(inside, shapely.intersects_xy(polygon, points))
    assert 0 < inside.sum() < len(points)


class TestPoles:
    @pytest.mark.parametrize(("crs", "pole"), [(3031, -90), (3413, 90), (3995, 90), (32661, 90)])
    def test_a_polygon_round_a_pole_holds_the_cap(self, crs, pole):
        x, y = (2e6, 2e6) if crs == 32661 else (0, 0)
        area = read_aoi(frame(shapely.box(x - 1e6, y - 9e5, x + 8e5, y + 7e5), crs=crs))
        for lon in (-180, -90.5, 0, 77, 180):
            assert area.covers(shapely.LineString([(lon, pole), (lon, pole * 0.94)]))
        assert not area.intersects(shapely.Point(0, pole * 0.8))

    @pytest.mark.parametrize(
        ("box", "west", "east"), [((0, 0, 1e6, 1e6), 0, 90), ((-1e6, 0, 1e6, 1e6), -90, 90)]
    )
    def test_a_pole_on_the_edge(self, box, west, east):
        area = read_aoi(frame(shapely.box(*box), crs=3031))
        assert area.covers(shapely.box(west, -90, east, -82))
        assert area.bounds == pytest.approx((west, -90, east, -77.04), abs=0.01)

    def test_a_hole_at_the_pole(self):
        ring = shapely.Point(0, 0).buffer(1e6) - shapely.Point(0, 0).buffer(3e5)
        area = read_aoi(frame(ring, crs=3413))
        assert area.covers(shapely.LineString([(-180, 83), (180, 83)]))
        assert area.bounds[3] == pytest.approx(87.2, abs=0.1)

    def test_half_a_globe_with_both_poles(self):
        half = shapely.Point(0, 0).buffer(9.2e6, quad_segs=64)
        crs = "+proj=laea +lat_0=0 +lon_0=180 +R=6371000"
        area = read_aoi(frame(half, crs=crs))
        assert area.covers(shapely.MultiPoint([(180, 0), (-180, 0), (120, 80), (-120, -90)]))
        assert not area.intersects(shapely.box(-60, -60, 60, 60))


class TestRefusals:
    @pytest.mark.parametrize(
        "aoi",
        [
            (1, 0, 0, 1),
            (0, 1, 1, 0),
            (0, 0, 1),
            (0, 0, 0, 1),
            (20, 0, -100, 1),
            (0, 0, 1, float("nan")),
            (0, -91, 1, 0),
            (0, 0, 1, "north"),
            5,
            None,
            {"type": "Polygon"},
            {"type": "Feature", "geometry": None},
            {"bbox": [0, 0, 1, 1]},
            shapely.Point(),
            shapely.Point(0, 95),
            shapely.Point(0, float("nan")),
        ],
    )
    def test_no_area_of_degrees(self, aoi):
        with pytest.raises(InputError, match="aoi"):
            read_aoi(aoi)

    @pytest.mark.parametrize(
        "aoi",
        [
            (5e5, 5e6, 6e5, 5.1e6),
            shapely.box(5e5, 5e6, 6e5, 5.1e6),
            frame(shapely.box(5e5, 80, 6e5, 81)),
        ],
    )
    def test_metres_belong_in_a_frame(self, aoi):
        with pytest.raises(InputError, match="GeoDataFrame or a file that has their CRS"):
            read_aoi(aoi)

    def test_frames_without_crs_or_features(self):
        with pytest.raises(InputError, match=r"CRS None.* set_crs"):
            read_aoi(frame(AREA, crs=None))
        with pytest.raises(InputError, match="0 features"):
            read_aoi(frame())

    def test_features_without_geometry_are_named(self):
        rows = gpd.GeoDataFrame(geometry=[AREA, None, None], crs=4326, index=["a", "b", "c"])
        with pytest.raises(InputError, match="2 empty features, the first is b"):
            read_aoi(rows)
        with pytest.raises(InputError, match="1 empty features, the first is 0"):
            read_aoi(frame(shapely.Polygon()))

    def test_places_that_a_crs_does_not_have(self):
        with pytest.raises(InputError, match="places on the Earth"):
            read_aoi(frame(shapely.box(0, 0, 1e9, 1e9), crs="+proj=laea +lat_0=0 +lon_0=0"))
        with pytest.raises(InputError, match="geographic or projected"):
            read_aoi(frame(AREA, crs=4978))

    def test_file_without_crs(self, tmp_path):
        frame(AREA).to_file(tmp_path / "aoi.shp")
        (tmp_path / "aoi.prj").unlink()
        frame(AREA, crs=None).to_parquet(tmp_path / "aoi.parquet")
        for name in ("aoi.shp", "aoi.parquet"):
            with pytest.raises(InputError, match="CRS None"):
                read_aoi(tmp_path / name)

    @pytest.mark.parametrize("name", ["aoi.csv", "aoi.parquet"])
    def test_table_without_geometry(self, tmp_path, name):
        table = pd.DataFrame({"name": ["a"], "x": [1]})
        table.to_csv(tmp_path / name, index=False) if "csv" in name else table.to_parquet(
            tmp_path / name
        )
        with pytest.raises(InputError, match="aoi"):
            read_aoi(tmp_path / name)

    @pytest.mark.parametrize("name", ["aoi.geojson", "aoi.parquet"])
    def test_file_that_is_missing_or_no_vector(self, tmp_path, name):
        bad = tmp_path / name
        for _ in range(2):
            with pytest.raises(InputError, match=name):
                read_aoi(bad)
            bad.write_text("no vector")


def test_a_bow_tie_is_repaired_and_said_where():
    bow = shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
    with pytest.warns(UserWarning, match=r"feature 0: Self-intersection\[1 1\]; repaired"):
        area = read_aoi(bow)
    assert area.area == pytest.approx(2)
    rows = gpd.GeoDataFrame(geometry=[AREA, bow], crs=4326, index=["a", "b"])
    with pytest.warns(UserWarning, match=r"feature b: Self-intersection\[1 1\]"):
        assert read_aoi(rows).area == pytest.approx(3)
    flat = shapely.Polygon([(0, 0), (1, 1), (2, 2), (0, 0)])
    with (
        pytest.warns(UserWarning, match="repaired"),
        pytest.raises(InputError, match="with an area"),
    ):
        read_aoi(flat)
