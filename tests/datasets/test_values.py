"""Patches against what GDAL itself reads or warps of the same window."""

import numpy as np
import pystac
import pytest
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.warp import reproject
from rasterio.windows import Window
from shapely.geometry import mapping

from rscontrast.datasets import STACDataset
from rscontrast.errors import InputError
from rscontrast.stac import search
from tests.world import CORNER, centres, footprint, grid, offsets, write_raster

SHAPE = (120, 140)
ODD = Affine.translation(730_003.37, 5_100_001.91) @ Affine.scale(9.7, -9.7)
SOUTH_UP = Affine.translation(*CORNER) @ Affine.scale(10, 10)
ROTATED = Affine.translation(*CORNER) @ Affine.rotation(30) @ Affine.scale(10, -10)
QUARTER = Affine.translation(*CORNER) @ Affine.rotation(90) @ Affine.scale(10, -10)
AFFINES = {"odd": ODD, "south-up": SOUTH_UP, "rotated": ROTATED, "quarter": QUARTER}


def noise(shape=SHAPE, low=1, high=200, seed=0):
    """Every pixel its own: a shift by one is seen."""
    return np.random.default_rng(seed).integers(low, high, shape).astype(float)


def lone(world, geobox, **options):
    """Dataset of one item with the band z, and the file of it."""
    bands = options.pop("bands", {"z": noise(geobox.shape)})
    item = world.item("a", geobox, bands=bands, **options)
    return search(world.catalog()), item.assets[next(iter(bands))].href


def around(dataset, geobox, col, row, side):
    """Slices of a patch whose middle is the corner of a pixel of the grid."""
    x, y = geobox.transform @ (col, row)
    half = [side * res / 2 for res in dataset.res]
    steps = zip((x, y), half, dataset.res, strict=True)
    return tuple(slice(v - h, v + h, res) for v, h, res in steps)


@pytest.mark.parametrize("kind", AFFINES)
@pytest.mark.parametrize("place", [(64, 60), (16, 16), (101, 97)])
def test_native_patches_are_the_window_of_the_file(world, kind, place):
    geobox = GeoBox(SHAPE, AFFINES[kind], "EPSG:32632")
    items, href = lone(world, geobox, dtype="uint16", nodata=0)
    dataset = STACDataset(items, bands=["z"])
    assert dataset.res == pytest.approx((9.7, 9.7) if kind == "odd" else (10, 10))
    sample = dataset[around(dataset, geobox, *place, 32)]
    with rasterio.open(href) as raster:
        window = Window(place[0] - 16, place[1] - 16, 32, 32)
        expected, transform = raster.read(window=window), raster.window_transform(window)
    assert np.array_equal(sample["image"].numpy(), expected)
    np.testing.assert_allclose(sample["transform"].tolist(), list(transform), rtol=0, atol=1e-6)
    assert sample["valid"].all()


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [("uint8", 0), ("int16", -999), ("uint16", 65535), ("float32", float("nan")), ("float64", -1)],
)
def test_dtypes_and_nodata(world, dtype, nodata):
    real = noise()
    real[30:40, 20:70] = np.nan
    items, href = lone(world, grid(shape=SHAPE), bands={"z": real}, dtype=dtype, nodata=nodata)
    dataset = STACDataset(items, bands=["z"])
    sample = dataset[around(dataset, grid(shape=SHAPE), 50, 50, 64)]
    expected = real[18:82, 18:82]
    assert np.array_equal(sample["valid"][0], ~np.isnan(expected))
    assert np.array_equal(sample["image"][0], np.nan_to_num(expected))
    with rasterio.open(href) as raster:
        assert raster.dtypes == (dtype,)


def test_bands_of_several_dtypes_side_by_side(world):
    geobox, bands = grid(shape=SHAPE), {"a": noise(seed=1), "b": noise(seed=2), "c": noise(seed=3)}
    item = world.item("a", geobox, bands=bands, scale=1)
    for (name, real), dtype in zip(bands.items(), ("uint8", "int32", "float64"), strict=True):
        write_raster(world.folder / "a" / f"{name}.tif", real[None].astype(dtype), geobox)
    assert set(item.assets) == set(bands)
    dataset = STACDataset(search(world.catalog()), bands=["c", "a", "b"])
    sample = dataset[around(dataset, geobox, 60, 60, 48)]
    expected = np.stack([bands[name][36:84, 36:84] for name in "cab"])
    assert np.array_equal(sample["image"], expected.astype("float32"))


def test_blocks_that_were_never_written_hold_no_data(world):
    geobox = grid(shape=(128, 128))
    items, href = lone(world, geobox, bands={"z": noise((128, 128))}, dtype="uint16", nodata=0)
    with rasterio.open(href) as raster:
        profile = raster.profile
    part = noise((32, 48)).astype("uint16")
    with rasterio.open(href, "w", **profile, SPARSE_OK=True) as raster:
        raster.write(part, 1, window=Window(32, 64, 48, 32))
    dataset = STACDataset(items, bands=["z"])
    sample = dataset[around(dataset, geobox, 64, 64, 96)]
    expected = np.zeros((128, 128), "uint16")
    expected[64:96, 32:80] = part
    expected = expected[16:112, 16:112]
    assert np.array_equal(sample["image"][0], expected)
    assert np.array_equal(sample["valid"][0], expected > 0)


@pytest.mark.parametrize("kind", AFFINES)
@pytest.mark.parametrize("crs", ["EPSG:32632", "EPSG:32633", "EPSG:4326"])
def test_one_given_grid_is_what_gdal_warps(world, kind, crs):
    """Smooth ground, as resampling differs by rounding; the shift shows in the slope."""
    geobox = GeoBox(SHAPE, AFFINES[kind], "EPSG:32632")
    x, y = offsets(geobox)
    real = 500 + x + 40 * np.sin(y / 60) + 30 * np.cos(x / 45)
    items, href = lone(world, geobox, bands={"z": real}, dtype="float64", nodata=-9999)
    res = 9e-5 if crs == "EPSG:4326" else 11.3
    dataset = STACDataset(items, bands=["z"], crs=crs, res=res)
    xs, ys, t = dataset.bounds
    middle = [(s.start + s.stop) / 2 for s in (xs, ys)]
    x, y = (slice(m - 20.3 * res, m + 19.7 * res, res) for m in middle)
    sample = dataset[x, y, t]
    transform = Affine.translation(x.start, y.stop) @ Affine.scale(res, -res)
    expected = np.full((40, 40), np.nan)
    with rasterio.open(href) as raster:
        reproject(
            rasterio.band(raster, 1), expected, dst_transform=transform, dst_crs=crs,
            dst_nodata=np.nan, resampling=Resampling.bilinear, tolerance=1e-3,
            # Pixels of the grid that are no longer than the file's are not means of several.
            **({"XSCALE": 1, "YSCALE": 1} if crs == "EPSG:4326" else {}),
        )  # fmt: skip
    valid = sample["valid"][0].numpy()
    assert np.array_equal(valid, ~np.isnan(expected))
    assert valid.mean() > 0.9
    # A thousandth of a pixel is 0.01 here.
    assert np.abs(sample["image"][0].numpy() - expected)[valid].max() < 0.01


class TestZoneBorder:
    """One ground in two zones; pixels hold their place in zone 32, counted from CORNER."""

    @pytest.fixture
    def items(self, world):
        east = grid("EPSG:32633", corner=(266_900.0, 5_100_500.0), shape=(200, 200))
        world.item("west", grid(shape=(160, 160)))
        world.item(
            "east", east, when="2022-01-01T10:05:00",
            bands=dict(zip("xy", offsets(east, "EPSG:32632"), strict=True)),
        )  # fmt: skip
        return search(world.catalog())

    @pytest.mark.parametrize("options", [{}, {"crs": "EPSG:32632", "res": 10.0},
                                         {"crs": "EPSG:32633", "res": 10.0}])  # fmt: skip
    def test_no_shift_anywhere(self, items, options):
        dataset, seen = STACDataset(items, bands=["x", "y"], **options), 0
        rng = np.random.default_rng(0)
        for geometry in dataset.index.geometry:
            for _ in range(6):
                x, y = rng.uniform(geometry.bounds[:2], geometry.bounds[2:])
                x, y = slice(x - 160, x + 160, 10.0), slice(y - 160, y + 160, 10.0)
                sample, box = dataset[x, y], dataset.geobox(x, y)
                valid = sample["valid"][0].numpy()
                wrong = np.abs(sample["image"].numpy() - offsets(box, "EPSG:32632"))
                # GDAL warps to an eighth of a pixel; half a pixel at the very edge of the data.
                assert np.quantile(wrong[:, valid], 0.9) < 1.25
                assert wrong[:, valid].max() < 6
                seen += valid.mean()
        assert seen > 6

    def test_a_mosaic_of_both_zones_has_no_seam(self, items):
        dataset = STACDataset(items, bands=["x", "y"])
        across = dataset.index.geometry.iloc[0].intersection(dataset.index.geometry.iloc[1])
        middle = across.centroid
        x, y = (slice(v - 160, v + 160, 10.0) for v in (middle.x, middle.y))
        alone = [STACDataset(items[items["id"] == name], bands=["x"]) for name in ("west", "east")]
        box = dataset.geobox(x, y)
        shares = [one.onto(box, dataset.bounds[2])["valid"].float().mean() for one in alone]
        assert max(shares) < 1  # neither sees it all
        sample = dataset[x, y]
        assert sample["valid"].float().mean() > max(shares) + 0.2
        wrong = np.abs(sample["image"].numpy() - offsets(box, "EPSG:32632"))
        assert wrong[:, sample["valid"][0].numpy()].max() < 6


def test_a_zone_that_the_first_does_not_reach(world):
    """A quarter of the earth away a transverse Mercator ends: places are named in degrees."""
    world.item("a", grid(corner=(500_000.0, 4_000.0)))
    world.item("b", grid("EPSG:32647", corner=(500_000.0, 4_000.0)))
    dataset = STACDataset(search(world.catalog()), bands=["x", "y"])
    assert dataset.crs.to_epsg() == 4326
    assert np.isfinite(dataset.index.total_bounds).all()
    zones = set()
    for geometry in dataset.index.geometry:
        x, y = geometry.centroid.coords[0]
        x, y = (slice(v - 16 * r, v + 16 * r, r) for v, r in zip((x, y), dataset.res, strict=True))
        sample, box = dataset[x, y], dataset.geobox(x, y)
        assert np.abs(sample["image"].numpy() - offsets(box)).max() < 0.01
        assert sample["valid"].all()
        zones.add(str(box.crs))
    assert zones == {"EPSG:32632", "EPSG:32647"}


def test_overviews_are_read_where_pixels_are_coarse(world):
    """The file's overviews are left stale on purpose: what comes out says what was read."""
    geobox = grid(shape=(256, 256))
    items, href = lone(world, geobox, bands={"z": np.full((256, 256), 7.0)}, dtype="uint16")
    with rasterio.open(href, "r+") as raster:
        raster.build_overviews([2, 4, 8], Resampling.average)
    with rasterio.open(href, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as raster:
        raster.write(np.full((256, 256), 9, "uint16"), 1)
    found = {}
    for res in (10.0, 40.0):
        dataset = STACDataset(items, bands=["z"], crs="EPSG:32632", res=res)
        found[res] = dataset[dataset.bounds]["image"].unique().tolist()
    assert found == {10.0: [9.0], 40.0: [7.0]}


class TestOptions:
    def test_raw(self, world):
        items, href = lone(world, grid(shape=SHAPE), dtype="int16", scale=0.5, offset=-3, nodata=-9)
        with rasterio.open(href) as raster:
            numbers = raster.read()
        raw = STACDataset(items, bands=["z"], raw=True)
        assert np.array_equal(raw[raw.bounds]["image"], numbers)
        real = STACDataset(items, bands=["z"])
        assert np.array_equal(real[real.bounds]["image"], numbers * 0.5 - 3)

    def test_footprints(self, world):
        geobox = grid(shape=SHAPE)
        item = world.item("a", geobox)
        corners = np.array(footprint(geobox).exterior.coords)[:3]
        item.geometry = mapping(shapely.Polygon(corners))
        items = search(world.catalog())
        inside = STACDataset(items, bands=["x"])
        found = inside[inside.bounds]["valid"][0].numpy()
        there = shapely.Polygon([geobox.transform @ p for p in ((0, 0), (0, 120), (140, 120))])
        expected = shapely.contains_xy(there, *centres(geobox))
        assert (found == expected).mean() > 0.97  # the footprint counts with some slack
        assert 0.45 < found.mean() < 0.55
        anywhere = STACDataset(items, bands=["x"], footprints=False)
        assert anywhere[anywhere.bounds]["valid"].all()

    @pytest.mark.parametrize(("mosaic", "value"), [("first", 1), ("last", 3), ("mean", 2)])
    def test_mosaic(self, world, mosaic, value):
        for n, second in ((1, "00"), (3, "30")):
            real = {"z": np.full(SHAPE, float(n))}
            world.item(f"n{n}", grid(shape=SHAPE), bands=real, when=f"2022-01-01T10:00:{second}")
        dataset = STACDataset(search(world.catalog()), bands=["z"], mosaic=mosaic)
        assert dataset[dataset.bounds]["image"].unique().tolist() == [value]

    def test_provider_by_name(self, world):
        lone(world, grid(shape=SHAPE))
        items = search(world.folder / "stac" / "catalog.json")
        named = STACDataset(items, bands=["z"], provider="generic")
        assert named[named.bounds]["image"].max() > 0
        with pytest.raises(InputError, match="generic"):
            STACDataset(items, bands=["z"], provider="generisch")
        with pytest.raises(InputError, match=r"mosaic.*first, last, mean"):
            STACDataset(items, bands=["z"], mosaic="median")

    def test_block_shape(self, world):
        item = world.item("a", grid(shape=(128, 128)))
        path = write_raster(
            world.folder / "z.tif", np.ones((1, 128, 128), "uint8"), grid(shape=(128, 128)),
            blockxsize=64, blockysize=32,
        )  # fmt: skip
        item.add_asset("z", pystac.Asset(str(path)))
        items = search(world.catalog())
        assert STACDataset(items, bands=["z", "x"]).block_shape(0) == (32, 64)
        assert STACDataset(items, bands=["x", "z"]).block_shape(0) == (16, 16)
