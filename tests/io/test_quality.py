"""Rasters made with a known shift, gain or change: what is measured is what was put in."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from scipy.ndimage import fourier_shift, gaussian_filter

from rscontrast.errors import AssetError, BandError, InputError
from rscontrast.io.measure import find_change, find_gains, find_shift
from rscontrast.io.quality import pair_quality
from rscontrast.stac import search
from tests.world import centres, footprint, grid, offsets

SIDE = 160
GRID = grid(shape=(SIDE, SIDE))
AREA = footprint(GRID)
SHIFTS = [(0.0, 0.0), (0.5, -0.25), (-3.3, 1.7), (7.85, 5.1)]


def texture(seed=0, roughness=1.2, shift=(0.0, 0.0), side=SIDE):
    """Positive ground of a falling spectrum, cut out of a larger one: the borders do not wrap.

    ``shift`` is (x, y): columns to the right and rows down.
    """
    size = 3 * side
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size))
    frequency[0, 0] = 1
    noise = np.random.default_rng(seed).standard_normal((size, size))
    ground = np.fft.fft2(noise) / frequency**roughness
    moved = np.fft.ifft2(fourier_shift(ground, shift[::-1])).real
    unmoved = np.fft.ifft2(ground).real
    part = moved[side : 2 * side, side : 2 * side]
    return 0.2 + 0.03 * (part - unmoved.mean()) / unmoved.std()


def clouds(share, seed):
    """Blobs over a share of the ground, 1 in them."""
    field = gaussian_filter(np.random.default_rng(seed).standard_normal((SIDE, SIDE)), 6)
    return (field > np.quantile(field, 1 - share)).astype(np.uint8)


def add(world, name, bands, *, geobox=GRID, cloud=None, when="2022-01-01T10:00:00", **options):
    """Write one date; clouds are bright."""
    if cloud is not None:
        bands = {key: np.where(cloud, 0.8, band) for key, band in bands.items()}
        options |= {"extra": {"m": cloud}, "roles": {"m": ["cloud"]}}
    world.item(name, geobox, bands=bands, when=when, **options)


def pair(pre, post, area=AREA, collection="tests"):
    return gpd.GeoDataFrame(
        {"pre_ids": [[pre] if isinstance(pre, str) else pre], "post_ids": [[post]]}
        | {"collection": collection},
        geometry=[area],
        crs="EPSG:4326",
    )


def measured(world, pairs, **options):
    options = {"bands": ["v"], **options}
    return pair_quality(search(world.catalog()), pairs, **options)


def one(world, **options):
    """The measured pair of the items "a" and "b"."""
    return measured(world, pair("a", "b"), **options).iloc[0]


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize(
    ("roughness", "cloud"), [(0.5, 0), (1.2, 0), (0.5, 0.2), (1.2, 0.2), (1.5, 0.4)]
)
def test_a_known_shift_is_found(world, shift, cloud, roughness):
    masks = [clouds(cloud, seed) if cloud else None for seed in (1, 2)]
    add(world, "a", {"v": texture(roughness=roughness)}, cloud=masks[0])
    post = 1.4 * texture(roughness=roughness, shift=shift) + 0.01
    add(world, "b", {"v": post}, cloud=masks[1])
    found = one(world)
    assert (found["shift_x"], found["shift_y"]) == pytest.approx(shift, abs=0.05)
    assert found["shift_peak"] > 0.75


def test_the_band_that_agrees_counts_for_the_shift(world):
    ground, other = texture(), texture(seed=9)
    add(world, "a", {"haze": ground, "v": ground})
    add(world, "b", {"haze": other, "v": texture(shift=(2.5, -1.0))})
    found = one(world, bands=["haze", "v"])
    assert (found["shift_x"], found["shift_y"]) == pytest.approx((2.5, -1.0), abs=0.1)


def test_a_shift_beyond_the_bound_is_not_believed(world):
    add(world, "a", {"v": texture()})
    add(world, "b", {"v": texture(shift=(7, 0))})
    found = one(world, max_shift=5)
    assert found[["shift_x", "shift_y"]].isna().all()
    assert found["shift_peak"] > 0.5
    assert one(world, max_shift=8)["shift_x"] == pytest.approx(7, abs=0.1)


def test_the_pixel_size_is_an_argument(world):
    add(world, "a", {"v": texture()})
    add(world, "b", {"v": texture(shift=(4, -6))})
    found = one(world, res=20)
    assert (found["shift_x"], found["shift_y"]) == pytest.approx((2, -3), abs=0.1)


def test_known_gains_are_found_and_are_no_change(world):
    bands = {"r": texture(1), "g": texture(2), "n": texture(3)}
    gains = {"r": 0.5, "g": 1.0, "n": 1.7}
    add(world, "a", bands)
    add(world, "b", {name: gains[name] * band for name, band in bands.items()})
    found = one(world, bands=["n", "r", "g"])
    for name, gain in gains.items():
        assert found[f"ratio_{name}"] == pytest.approx(gain, rel=1e-5)
    assert found["change"] == pytest.approx(0, abs=1e-6)
    assert (found["shift_x"], found["shift_y"]) == (0, 0)


def test_a_date_with_itself(world):
    add(world, "a", {"v": texture()}, cloud=clouds(0.3, 1))
    found = measured(world, pair("a", "a")).iloc[0]
    assert found["change"] == found["shift_x"] == found["shift_y"] == 0
    assert found["shift_peak"] == pytest.approx(1)
    assert found["ratio_v"] == 1
    assert found["valid_share"] == pytest.approx(0.7, abs=0.01)


def test_unrelated_dates(world):
    rng = np.random.default_rng(0)
    for name in "ab":
        add(world, name, {band: rng.uniform(0.02, 0.5, GRID.shape) for band in "vw"})
    found = one(world, bands=["v", "w"])
    assert found["change"] > 0.25
    assert abs(found["shift_peak"]) < 0.1


def test_the_change_score_is_its_formula(world):
    """Two of five pixels are three times as bright; the median gain is 1."""
    post = np.ones(GRID.shape)
    post[:, : SIDE * 2 // 5] = 3
    add(world, "a", {"v": np.ones(GRID.shape)})
    add(world, "b", {"v": post})
    found = one(world)
    assert found["ratio_v"] == 1
    assert found["change"] == pytest.approx(0.4 * (3 - 1) / (3 + 1))


def test_two_utm_zones(world):
    """The same ground on the grids of two zones: it stands still."""
    lon, lat = AREA.centroid.coords[0]
    move = gpd.GeoSeries([shapely.Point(lon, lat)], crs="EPSG:4326").to_crs("EPSG:32633")[0]
    east = grid("EPSG:32633", corner=(move.x - 1000, move.y + 1000), shape=(200, 200))
    waves = (offsets(geobox, "EPSG:32632") / 30 for geobox in (GRID, east))
    pre, post = (0.2 + 0.05 * np.sin(x + np.sin(y / 3)) * np.sin(y + x / 5) for x, y in waves)
    add(world, "a", {"v": pre})
    add(world, "b", {"v": post}, geobox=east)
    for found in (one(world), measured(world, pair("b", "a")).iloc[0]):
        assert (found["shift_x"], found["shift_y"]) == pytest.approx((0, 0), abs=0.1)
        assert found["change"] < 0.01
        assert found["ratio_v"] == pytest.approx(1, abs=1e-3)
        assert found["valid_share"] > 0.98


def test_a_pair_without_usable_ground(world):
    add(world, "a", {"v": texture()})
    add(world, "b", {"v": np.full(GRID.shape, np.nan)}, dtype="uint16", nodata=0)
    found = one(world)
    assert found["valid_share"] == 0
    assert found[["shift_x", "shift_y", "shift_peak", "ratio_v", "change"]].isna().all()


def test_dates_that_share_no_ground_are_not_read(world):
    add(world, "a", {"v": texture()})
    (world.folder / "a" / "v.tif").unlink()
    line = shapely.LineString([(0, 0), (1, 1)])
    for area in (shapely.Polygon(), line, shapely.GeometryCollection([line])):
        found = measured(world, pair("a", "a", area)).iloc[0]
        assert found["valid_share"] == 0
        assert np.isnan(found["change"])


def test_ground_without_detail_has_no_shift(world):
    for name in "ab":
        add(world, name, {"v": np.full(GRID.shape, 0.3)}, cloud=clouds(0.2, ord(name)))
    found = one(world)
    assert found[["shift_x", "shift_y", "shift_peak"]].isna().all()
    assert found["change"] == 0


def test_only_the_overlap_counts(world):
    """Within the overlap, a slanted strip, the ratio is 2; beside it 5."""
    west, south, east, north = AREA.bounds
    line = shapely.LineString([(west + 2e-3, south + 2e-3), (east - 2e-3, north - 2e-3)])
    strip = line.buffer(1.5e-3, cap_style="flat")
    inside = shapely.contains_xy(strip.buffer(3e-4), *centres(GRID, "EPSG:4326"))
    pre = texture()
    post = np.where(inside, 2 * pre, 5 * pre)
    post[centres(GRID)[0] > GRID.boundingbox.left + 800] = np.nan
    add(world, "a", {"v": pre})
    add(world, "b", {"v": post}, nodata=np.nan)
    found = measured(world, pair("a", "b", strip)).iloc[0]
    assert found["ratio_v"] == pytest.approx(2, rel=1e-5)
    assert found["change"] == pytest.approx(0, abs=1e-6)
    assert found["valid_share"] == pytest.approx(0.5, abs=0.03)


def test_the_window_lies_at_the_roomiest_point(world):
    """A hook of an overlap: the window of 40 pixels fits only where it is wide."""
    pre = np.full(GRID.shape, 0.1)
    pre[100:150, 20:70] = 0.2
    add(world, "a", {"v": pre})
    add(world, "b", {"v": np.full(GRID.shape, 0.4)})

    def box(row, col, height, width):
        x, y = GRID.boundingbox.left + 10 * col, GRID.boundingbox.top - 10 * row
        return shapely.box(x, y - 10 * height, x + 10 * width, y)

    hook = box(100, 20, 50, 50) | box(10, 40, 100, 8) | box(10, 40, 45, 110)
    hook -= box(14, 60, 37, 86)
    area = gpd.GeoSeries([hook], crs=str(GRID.crs)).to_crs("EPSG:4326")[0]
    found = measured(world, pair("a", "b", area), size=40).iloc[0]
    assert found["ratio_v"] == pytest.approx(2)
    assert found["valid_share"] == 1


def test_mosaics_of_both_dates(world):
    whole = texture()
    halves = {"left": slice(0, 90), "right": slice(70, SIDE)}
    for name, cols in halves.items():
        x = GRID.boundingbox.left + 10 * cols.start
        box = grid(corner=(x, GRID.boundingbox.top), shape=(SIDE, cols.stop - cols.start))
        add(world, name, {"v": whole[:, cols]}, geobox=box)
    add(world, "b", {"v": texture(shift=(1.5, 0))})
    found = measured(world, pair(["left", "right"], "b")).iloc[0]
    assert found["valid_share"] == 1
    assert found["shift_x"] == pytest.approx(1.5, abs=0.1)


@pytest.fixture
def series(world):
    """Five dates, every later one of which is brighter; all their pairs."""
    for day in range(5):
        add(world, f"d{day}", {"v": (1 + day) * texture()}, when=f"2022-01-0{day + 1}T10:00:00")
    both = [(a, b) for a in range(5) for b in range(a + 1, 5)]
    frames = [pair(f"d{a}", f"d{b}").assign(place=7) for a, b in both]
    pairs = pd.concat(frames).set_index(np.arange(100, 110))
    return world, pairs, [(1 + b) / (1 + a) for a, b in both]


def test_rows_keep_order_index_and_columns(series):
    world, pairs, ratios = series
    found = measured(world, pairs)
    assert found["ratio_v"].to_numpy() == pytest.approx(ratios, rel=1e-5)
    assert found[list(pairs)].equals(pairs)
    assert found.crs == pairs.crs
    assert measured(world, found, workers=1).equals(found)


def test_a_sample_repeats_with_its_seed(series):
    world, pairs, _ = series
    whole, some = measured(world, pairs), measured(world, pairs, n=4, seed=3)
    assert len(some) == 4
    assert some.equals(whole.loc[some.index])
    assert some.index.is_monotonic_increasing
    assert some.equals(measured(world, pairs, n=4, seed=3, workers=1))
    drawn = {tuple(measured(world, pairs, n=4, seed=seed, size=16).index) for seed in range(4)}
    assert len(drawn) > 1
    assert len(measured(world, pairs, n=99, size=16)) == 10


def test_an_id_is_of_its_collection(world):
    add(world, "a", {"v": texture()})
    add(world, "b", {"v": 2 * texture()})
    items = search(world.catalog())
    twin = items[items["id"] == "b"].assign(id="a", collection="other")
    both = pd.concat([items, twin, twin.assign(id="b")], ignore_index=True)
    for collection, ratio in (("tests", 2), ("other", 1)):
        found = pair_quality(both, pair("a", "b", collection=collection), bands=["v"])
        assert found["ratio_v"].iloc[0] == pytest.approx(ratio)


def test_a_file_that_cannot_be_read_is_an_error(series):
    world, pairs, _ = series
    path = world.folder / "d3" / "v.tif"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(AssetError, match="item d3, asset v: cannot read"):
        measured(world, pairs)


def test_bad_arguments_name_themselves(series):
    world, pairs, _ = series
    for options, message in (
        ({"bands": []}, "bands: got"),
        ({"bands": "v"}, "bands: got 'v'; allowed: a list"),
        ({"n": 0}, "n: got 0"),
        ({"size": 15}, "size: got 15"),
        ({"res": 0}, "res: got 0"),
        ({"max_shift": float("nan")}, "max_shift: got nan"),
        ({"workers": 0}, "workers: got 0"),
    ):
        with pytest.raises(InputError, match=message):
            measured(world, pairs, **options)
    with pytest.raises(BandError, match="'vv'"):
        measured(world, pairs, bands=["vv"])
    for strange in (pair("d1", "x9"), pair("d1", "d2", collection="other")):
        with pytest.raises(InputError, match=r"pairs: got .*\(same search\)"):
            measured(world, strange)


class TestMeasures:
    """On arrays alone."""

    VALID = np.ones((64, 64), bool)

    def test_a_ratio_leaves_out_what_is_dark_or_not_usable(self):
        pre = np.full((1, 64, 64), 0.2)
        post, valid = 3 * pre, self.VALID.copy()
        pre[0, :20], post[0, 20:30], valid[20:30] = 0, 99, False
        assert find_gains(pre, post, valid) == pytest.approx([3])
        assert np.isnan(find_gains(0 * pre, post, valid)).all()

    def test_a_band_without_gain_does_not_count_as_change(self):
        pre = np.stack([np.full((64, 64), 0.2), np.zeros((64, 64))])
        post = pre + 0.1
        assert find_change(pre, post, self.VALID, find_gains(pre, post, self.VALID)) == 0

    def test_too_little_ground_has_no_shift(self):
        image = texture(side=64)[None]
        few = self.VALID.copy()
        few[16:] = False
        found = find_shift(image, image, few, self.VALID)
        assert found[:2] == pytest.approx((0, 0), abs=0.1)
        assert found.peak > 0.9
        few[15] = False
        assert np.isnan(find_shift(image, image, few, self.VALID)).all()
        small = image[:, :15], self.VALID[:15]
        assert np.isnan(find_shift(small[0], small[0], small[1], small[1])).all()

    def test_what_lies_under_a_cloud_does_not_matter(self):
        image, hidden = texture(side=64)[None], self.VALID.copy()
        hidden[10:30, 10:30] = False
        spoiled = np.where(hidden, image, np.float64(99))
        arguments = (image, self.VALID, hidden)
        assert find_shift(image, spoiled, *arguments[1:]) == find_shift(image, *arguments)
