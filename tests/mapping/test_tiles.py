"""Tiles: any run gives the same ones, and every place is in exactly one."""

import numpy as np
import pytest
import shapely
from pyproj import Transformer

from rscontrast.errors import GridError, InputError
from rscontrast.mapping.tiles import Lattice, user_lattice, utm

AREAS = {
    "border of zones 32 and 33": (11.9, 46.0, 12.1, 46.1),
    "equator": (8.9, -0.1, 9.1, 0.1),
    "south": (29.95, -30.1, 30.05, -30.0),
    "four zones": (5.95, -0.05, 6.05, 0.05),
}
OVER_180 = shapely.MultiPolygon(
    [shapely.box(179.93, -17.05, 180, -17), shapely.box(-180, -17.05, -179.93, -17)]
)


def tiles(area, res=10.0, tile_size=128, aoi=True):
    area = shapely.box(*area) if isinstance(area, tuple) else area
    return [t for lattice in utm(area, res, tile_size) for t in lattice.tiles(area, area)]


def holders(found, lon, lat):
    """How many tiles' mapped ground holds each point."""
    count = np.zeros(len(lon), dtype=int)
    for tile in found:
        move = Transformer.from_crs("EPSG:4326", str(tile.geobox.crs), always_xy=True)
        ground = tile.geobox.extent.geom if tile.aoi is None else tile.aoi
        shapely.prepare(ground)
        count += shapely.contains_xy(ground, *move.transform(lon, lat))
    return count


@pytest.mark.parametrize("name", [*AREAS, "over 180"])
def test_each_place_of_an_area_is_mapped_exactly_once(name):
    area = OVER_180 if name == "over 180" else shapely.box(*AREAS[name])
    found = tiles(area)
    zones = {tile.id.split("_")[0] for tile in found}
    assert len(zones) == {"south": 2, "four zones": 4}.get(name, 2)
    random = np.random.default_rng(0)
    parts = list(shapely.get_parts(area))
    lon, lat = np.concatenate(
        [random.uniform(p.bounds[:2], p.bounds[2:], (2000 // len(parts), 2)) for p in parts]
    ).T
    assert set(holders(found, lon, lat)) == {1}
    assert not holders(found, lon + 0.5, lat).any()


def test_points_beside_the_border_belong_to_the_zone_of_their_longitude():
    found = tiles(AREAS["border of zones 32 and 33"])
    lat = np.linspace(46.001, 46.099, 500)
    for side, zone in ((-1, "32632"), (1, "32633")):
        mine = [tile for tile in found if tile.id.startswith(zone)]
        lon = np.full(500, 12.0) + side * 5e-7  # 4 cm
        assert set(holders(mine, lon, lat)) == {1}


def test_any_area_gives_the_same_tiles():
    one = {t.id: t.geobox for t in tiles((11.9, 46.0, 12.1, 46.1))}
    other = {t.id: t.geobox for t in tiles((11.93, 46.03, 12.5, 46.3))}
    both = set(one) & set(other)
    assert len(both) > 20
    assert all(one[name] == other[name] for name in both)


def test_a_zone_has_one_lattice_of_whole_multiples():
    for tile in tiles((11.9, 46.0, 12.1, 46.1)):
        zone, col, row = tile.id.split("_")
        transform = tile.geobox.transform
        assert transform.c == int(col) * 1280
        assert transform.f == (int(row) + 1) * 1280
        assert str(tile.geobox.crs) == f"EPSG:{zone}"
        assert tile.geobox.shape == (128, 128)


def test_tiles_within_the_area_are_whole_and_others_are_cut():
    area = shapely.box(11.9, 46.0, 12.1, 46.1)
    found = tiles(area)
    assert 0 < sum(tile.aoi is None for tile in found) < len(found)
    for tile in found:
        assert tile.aoi is None or tile.aoi.area < tile.geobox.extent.geom.area
    total = shapely.union_all([tile.ground for tile in found])
    assert total.symmetric_difference(area).area / area.area < 1e-5


def test_grounds_beside_the_antimeridian_stay_on_their_side():
    for tile in tiles(OVER_180):
        west, _, east, _ = tile.ground.bounds
        assert east - west < 1
        assert -180 <= west <= east <= 180


def test_footprints_of_both_sides_of_the_antimeridian_come_into_one_zone():
    lattice = Lattice("32701", "EPSG:32701", 10.0, 128, strip=(-180.0, -80.0, -174.0, 0.0))
    item = shapely.MultiPolygon(
        [shapely.box(179.5, -17.5, 180, -17), shapely.box(-180, -17.5, -179.5, -17)]
    )
    far = shapely.box(10, -17, 11, -16)
    (moved, nothing) = lattice.footprints(np.array([item, far], dtype=object))
    assert nothing is None
    assert moved.bounds[2] - moved.bounds[0] == pytest.approx(106_600, rel=0.02)


@pytest.mark.parametrize("area", [(10, 83, 11, 85), (10, -82, 11, -79)])
def test_beyond_utm_is_refused_with_the_remedy(area):
    with pytest.raises(GridError, match=r"UTM ends at 80 S and 84 N.*EPSG:5041"):
        tiles(area)


@pytest.mark.parametrize("crs", ["EPSG:5041", "EPSG:3857", "EPSG:4326"])
def test_a_crs_of_the_users(crs):
    res = 0.001 if crs == "EPSG:4326" else 100.0
    south = 84.0 if crs == "EPSG:5041" else 60.0
    area = shapely.box(10, south, 12, south + 0.5)
    lattice = user_lattice(crs, res, 128, (res / 2, res / 2))
    found = lattice.tiles(area, area)
    random = np.random.default_rng(0)
    lon, lat = random.uniform(area.bounds[:2], area.bounds[2:], (300, 2)).T
    assert set(holders(found, lon, lat)) == {1}
    assert all(tile.id.startswith(crs.split(":")[1]) for tile in found)
    offset = (found[0].geobox.transform.c - res / 2) / (128 * res)
    assert offset == pytest.approx(round(offset), abs=1e-6)


def test_an_unknown_crs_is_refused():
    with pytest.raises(InputError, match="crs: got 'EPSG:1'"):
        user_lattice("EPSG:1", 10.0, 128, (0.0, 0.0))
