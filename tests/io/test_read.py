import warnings

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from rscontrast.errors import AssetError, GridError
from rscontrast.io import read_classes, read_mosaic
from rscontrast.io.read import read_mask
from rscontrast.stac.provider import MaskRule
from tests.world import (
    CORNER,
    centres,
    grid,
    mask,
    offsets,
    scene,
    source,
    sources,
    write_raster,
)

FINE = grid(shape=(96, 112))


def part(geobox, row, col, height, width):
    """Window of a grid as a grid; it may stick out."""
    return GeoBox((height, width), geobox.transform @ Affine.translation(col, row), geobox.crs)


def noise(shape, seed=0, high=10_000):
    return np.random.default_rng(seed).integers(1, high, shape)


class TestSameLattice:
    """Nothing is resampled: the numbers are those of plain rasterio."""

    @pytest.fixture
    def item(self, world):
        bands = {name: noise(FINE.shape, seed) for seed, name in enumerate("ab")}
        return world.item("a", FINE, bands=bands, dtype="uint16")

    @pytest.mark.parametrize(
        "window",
        [
            (0, 0, 96, 112), (17, 31, 33, 7), (15, 16, 1, 1), (95, 111, 1, 1),
            (-5, -9, 20, 20), (80, 100, 40, 40), (-10, -10, 150, 150), (-5, 20, 200, 3),
        ],
    )  # fmt: skip
    def test_equals_a_plain_read(self, item, window):
        row, col, height, width = window
        image, valid = read_mosaic([scene(item, "a", "b")], part(FINE, *window))
        for channel, name in enumerate("ab"):
            with rasterio.open(item.assets[name].href) as raster:
                expected = raster.read(
                    1, window=Window(col, row, width, height), boundless=True, fill_value=0
                )
            assert image.dtype == np.float32
            assert np.array_equal(image[channel], expected)
        rows, cols = np.mgrid[row : row + height, col : col + width]
        assert np.array_equal(valid, (rows >= 0) & (rows < 96) & (cols >= 0) & (cols < 112))

    def test_window_beside_the_raster_is_empty(self, item):
        image, valid = read_mosaic([scene(item, "a")], part(FINE, 500, 500, 8, 8))
        assert not valid.any()
        assert not image.any()

    def test_channel_order_is_that_of_the_bands(self, item):
        ab, ba = (read_mosaic([scene(item, *order)], FINE)[0] for order in ("ab", "ba"))
        assert np.array_equal(ab, ba[::-1])

    def test_stacked_bands(self, world):
        bands = {name: noise(FINE.shape, seed) for seed, name in enumerate("abc")}
        item = world.item("s", FINE, bands=bands, dtype="uint16", stacked=True)
        image, _ = read_mosaic([scene(item, "c", "a")], FINE)
        assert np.array_equal(image, [bands["c"], bands["a"]])

    @pytest.mark.parametrize("shift", [0.0, 0.009, -0.009])
    @pytest.mark.parametrize("stretch", [-0.009, 0.009])
    def test_a_lattice_written_with_other_digits(self, item, shift, stretch):
        """Shift and drift of under a hundredth of a pixel each are rounding, not resampling."""
        about = Affine.translation(shift, shift) @ Affine.scale(1 + stretch / 112)
        other = GeoBox((40, 112), FINE.transform @ about, FINE.crs)
        image, valid = read_mosaic([scene(item, "a")], other)
        with rasterio.open(item.assets["a"].href) as raster:
            assert np.array_equal(image[0], raster.read(1)[:40])
        assert valid.all()


class TestNumbers:
    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
    @pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e-4, -0.1), (0.5, 3.0)])
    def test_scale_offset_and_nodata(self, tmp_path, dtype, scale, offset):
        numbers = noise(FINE.shape, high=200).astype(dtype)
        numbers[3:9, 5:50] = 0
        path = write_raster(tmp_path / "a.tif", numbers[None], FINE)
        src = source(path, scale=scale, offset=offset, nodata=0.0)
        image, valid = read_mosaic([_scene(src)], FINE)
        assert np.array_equal(valid, numbers != 0)
        assert np.allclose(image[0][valid], numbers[valid] * scale + offset, atol=1e-6)
        assert not image[0][~valid].any()

    def test_the_file_says_nodata_where_metadata_do_not(self, tmp_path):
        numbers = noise(FINE.shape, high=50).astype("int16")
        path = write_raster(tmp_path / "a.tif", numbers[None], FINE, nodata=7)
        assert np.array_equal(read_mosaic([_scene(source(path))], FINE)[1], numbers != 7)
        override = read_mosaic([_scene(source(path, nodata=9.0))], FINE)[1]
        assert np.array_equal(override, numbers != 9)

    def test_nan_is_no_data_always(self, tmp_path):
        numbers = noise(FINE.shape).astype("float32")
        numbers[:, 4] = np.nan
        path = write_raster(tmp_path / "a.tif", numbers[None], FINE, nodata=-1)
        image, valid = read_mosaic([_scene(source(path))], FINE)
        assert np.array_equal(valid, ~np.isnan(numbers))
        assert np.isfinite(image).all()

    def test_a_pixel_is_valid_only_with_data_in_every_band(self, world):
        holes = {name: noise(FINE.shape).astype(float) for name in "ab"}
        holes["a"][2:5], holes["b"][:, 7:9] = np.nan, np.nan
        item = world.item("h", FINE, bands=holes, dtype="uint16", nodata=0)
        _, valid = read_mosaic([scene(item, "a", "b")], FINE)
        assert np.array_equal(valid, ~np.isnan(holes["a"]) & ~np.isnan(holes["b"]))


def _scene(*srcs, masks=()):
    from rscontrast.io import ItemSource

    return ItemSource(srcs, masks)


def flipped(geobox):
    """South-up version of a grid."""
    up = geobox.transform @ Affine.translation(0, geobox.shape[0]) @ Affine.scale(1, -1)
    return GeoBox(geobox.shape, up, geobox.crs)


def rotated(geobox, degrees=25):
    turn = Affine.translation(*CORNER) @ Affine.rotation(degrees) @ Affine.scale(10, -10)
    return GeoBox((200, 200), turn, geobox.crs)


# A little inside the upper left corner of FINE.
CORNER_33 = tuple(round(float(v[4, 4]), -1) + 3 for v in centres(FINE, "EPSG:32633"))

TARGETS = {
    "half a pixel off": GeoBox((30, 40), FINE.transform @ Affine.translation(20.5, 30.3), FINE.crs),
    "other zone": grid("EPSG:32633", 10.0, CORNER_33, (80, 80)),
    "finer": GeoBox(
        (60, 60), FINE.transform @ Affine.translation(30, 20) @ Affine.scale(0.5), FINE.crs
    ),
    "coarser": GeoBox(
        (16, 20), FINE.transform @ Affine.translation(9, 7) @ Affine.scale(4), FINE.crs
    ),
    "much coarser, off": GeoBox(
        (9, 11), FINE.transform @ Affine.translation(5.3, 7.7) @ Affine.scale(7.3), FINE.crs
    ),
    "lon/lat": grid("EPSG:4326", 1e-4, tuple(centres(FINE, "EPSG:4326")[:, 4, 4]), (60, 60)),
}  # fmt: skip


class TestWhere:
    """Pixels that hold their own coordinates: what is read must say where it was asked for."""

    @pytest.mark.parametrize(
        "build", [lambda box: box, flipped, rotated], ids=["up", "down", "rot"]
    )
    @pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
    def test_coordinates_survive(self, world, build, target):
        box = build(FINE)
        image, valid = read_mosaic([scene(world.item("a", box), "x", "y")], target)
        wanted = offsets(target, str(box.crs))
        error = np.abs(image - wanted)
        # At the border a thinned pixel speaks for the part of it that the raster covers.
        assert error[:, valid].max() < (5.0 if _ratio(target) == 1 else 1.5 * 10 * _ratio(target))
        _, core = _inside(box, target, margin=2 + 4 * _ratio(target))
        assert valid[core].all()
        # A linear ramp comes through bilinear interpolation as it is.
        assert core.sum() >= 20
        # GDAL approximates the way between two CRS to an eighth of a pixel.
        assert error[:, core].max() < 0.125 * 10 * _ratio(target)
        inside, _ = _inside(box, target, margin=0)
        assert (valid == inside).mean() > 0.8
        assert valid.any()

    @pytest.mark.parametrize(("fine", "coarse"), [(10.0, 20.0), (10.0, 60.0), (10.0, 40.0)])
    def test_a_coarse_band_onto_the_fine_grid_and_back(self, world, fine, coarse):
        boxes = {r: grid(res=r, shape=(int(960 / r), int(1200 / r))) for r in (fine, coarse)}
        items = {r: world.item(f"r{r:.0f}", box) for r, box in boxes.items()}
        for frm, onto in ((coarse, fine), (fine, coarse)):
            image, valid = read_mosaic([scene(items[frm], "x", "y")], boxes[onto])
            inner = np.s_[:, 3 * int(coarse / onto) : -3 * int(coarse / onto)]
            assert valid.all()
            error = np.abs(image - offsets(boxes[onto]))[(..., *inner[1:], slice(None))]
            assert error[..., 6:-6].max() < 0.02 * coarse

    def test_thinned_reads_average_instead_of_picking(self, world):
        """Onto a 4 times coarser grid white noise loses most of its variance."""
        box = grid(shape=(256, 256))
        white = np.random.default_rng(0).normal(100, 10, box.shape)
        item = world.item("n", box, bands={"n": white})
        image, _ = read_mosaic([scene(item, "n")], grid(res=40.0, shape=(64, 64)))
        assert image.std() < 0.5 * white.std()
        assert image.mean() == pytest.approx(white.mean(), abs=0.2)

    @pytest.mark.parametrize("name", ["half a pixel off", "other zone", "lon/lat", "finer"])
    def test_agrees_with_warped_vrt(self, world, name):
        target, smooth = TARGETS[name], np.hypot(*(offsets(FINE) / 100)) ** 2
        item = world.item("s", FINE, bands={"s": smooth})
        image, valid = read_mosaic([scene(item, "s")], target)
        with (
            rasterio.open(item.assets["s"].href) as raster,
            WarpedVRT(
                raster,
                crs=str(target.crs),
                transform=target.transform,
                height=target.shape[0],
                width=target.shape[1],
                resampling=Resampling.bilinear,
            ) as vrt,
        ):
            expected = vrt.read(1)
        _, core = _inside(FINE, target, margin=3)
        assert valid[core].all()
        assert core.sum() > 100
        assert np.abs(image[0] - expected)[core].max() < 0.01 * np.ptp(smooth)


def _ratio(target):
    return max(1.0, abs(target.transform.a) / 10 if target.crs.projected else 1.0)


def _inside(box, target, margin):
    """Pixels of the target whose centre lies in the box, and those deeper than ``margin``."""
    cols, rows = ~box.transform @ tuple(centres(target, str(box.crs)))
    deep = [
        (cols > m) & (rows > m) & (cols < box.shape[1] - m) & (rows < box.shape[0] - m)
        for m in (0, margin)
    ]
    return deep[0], deep[1]


class TestMasksAndMosaics:
    def test_cloud_mask(self, world):
        cloud = (noise(FINE.shape, high=4) - 1).astype("uint8")
        bands = {"a": noise(FINE.shape, 3)}
        item = world.item("c", FINE, bands=bands, extra={"m": cloud}, roles={"m": ["cloud"]})
        image, valid = read_mosaic([scene(item, "a")], FINE)
        assert np.array_equal(valid, cloud == 0)
        assert np.array_equal(image[0], bands["a"])

    @pytest.mark.parametrize("role", ["data", "overview"])
    def test_other_roles_are_no_masks(self, world, role):
        item = world.item("c", FINE, extra={"m": np.ones(FINE.shape, "uint8")}, roles={"m": [role]})
        assert read_mosaic([scene(item, "x")], FINE)[1].all()

    def test_a_coarse_mask_covers_its_ground(self, world):
        """A 20 m mask on a 10 m image: each of its pixels hides 2 x 2."""
        coarse = grid(res=20.0, shape=(48, 56))
        cloud = (noise(coarse.shape, high=3) - 1).astype("uint8")
        path = write_raster(world.folder / "m.tif", cloud[None], coarse)
        image = sources(world.item("c", FINE), "x")
        _, valid = read_mosaic([_scene(*image, masks=(mask(path),))], FINE)
        assert np.array_equal(valid, np.kron(cloud, np.ones((2, 2))) == 0)

    def test_first_usable_pixel_wins(self, world):
        rng = np.random.default_rng(1)
        data = {n: rng.integers(1, 100, FINE.shape).astype(float) for n in "abc"}
        clouds = {n: (rng.random(FINE.shape) < 0.4).astype("uint8") for n in "abc"}
        for name in data:
            data[name][rng.random(FINE.shape) < 0.3] = np.nan
        items = [
            world.item(
                n, FINE, bands={"v": data[n]}, dtype="uint16", nodata=0,
                extra={"m": clouds[n]}, roles={"m": ["cloud"]},
            )
            for n in "abc"
        ]  # fmt: skip
        image, valid = read_mosaic([scene(i, "v") for i in items], FINE)
        expected, usable = np.zeros(FINE.shape), np.zeros(FINE.shape, bool)
        for row, col in np.ndindex(*FINE.shape):
            seen = [n for n in "abc" if not np.isnan(data[n][row, col])]
            clear = [n for n in seen if not clouds[n][row, col]]
            usable[row, col] = bool(clear)
            best = (clear or seen or [None])[0]
            expected[row, col] = data[best][row, col] if best else 0
        assert np.array_equal(valid, usable)
        assert np.array_equal(image[0], expected)

    def test_adjacent_scenes_become_one(self, world):
        whole = noise(FINE.shape)
        items = []
        for name, cols in (("l", slice(0, 64)), ("r", slice(48, 112))):
            box = part(FINE, 0, cols.start, 96, cols.stop - cols.start)
            items.append(world.item(name, box, bands={"v": whole[:, cols]}, dtype="uint16"))
        for order in (items, items[::-1]):
            image, valid = read_mosaic([scene(i, "v") for i in order], FINE)
            assert valid.all()
            assert np.array_equal(image[0], whole)


def random_numbers(dtype, high):
    rng = np.random.default_rng(5)
    return (rng.random(FINE.shape) * high).astype(dtype)


class TestMaskRules:
    """Each rule against what it says, pixel by pixel, on a real file."""

    @pytest.mark.parametrize(
        ("rule", "dtype", "high", "hides"),
        [
            (MaskRule(), "uint8", 3, lambda n: n != 0),
            (MaskRule(values=(0, 3, 8)), "uint8", 12, lambda n: n in (0, 3, 8)),
            (MaskRule(bits=(1, 3)), "uint16", 65536, lambda n: n // 2 % 2 or n // 8 % 2),
            (MaskRule(bits=(15,)), "uint16", 65536, lambda n: n >= 32768),
            (MaskRule(above=0.4), "float32", 1, lambda n: n > 0.4),
            (MaskRule(above=40), "uint8", 100, lambda n: n > 40),
        ],
        ids=["nonzero", "values", "bits", "high bit", "probability", "percent"],
    )  # fmt: skip
    def test_hides_what_it_says(self, tmp_path, rule, dtype, high, hides):
        numbers = random_numbers(dtype, high)
        path = write_raster(tmp_path / "m.tif", numbers[None], FINE)
        expected = np.vectorize(hides, otypes=[bool])(numbers)
        assert 0.05 < expected.mean() < 0.95
        assert np.array_equal(read_mask(mask(path, rule=rule), FINE), expected)
        beside = read_mask(mask(path, rule=rule), part(FINE, -3, 0, 10, 112))
        assert beside[:3].all()
        assert np.array_equal(beside[3:], expected[:7])

    def test_no_number_is_unusable_but_a_nodata_of_zero_is_a_number(self, tmp_path):
        chance = random_numbers("float32", 0.3)
        chance[5] = np.nan
        path = write_raster(tmp_path / "p.tif", chance[None], FINE)
        hidden = read_mask(mask(path, rule=MaskRule(above=0.4)), FINE)
        assert np.array_equal(hidden, np.isnan(chance))
        for nodata, usable in ((0, True), (255, False)):
            flat = np.full((1, *FINE.shape), nodata, "uint8")
            path = write_raster(tmp_path / f"{nodata}.tif", flat, FINE, nodata=nodata)
            hidden = read_mask(mask(path, rule=MaskRule(above=40)), FINE)
            assert hidden.all() != usable

    def test_warped_masks_stay_masks(self, tmp_path):
        """Half the raster is hidden: onto another zone, that half of the ground is."""
        numbers = np.zeros(FINE.shape, "uint16")
        numbers[:, 56:] = 1 << 4
        path = write_raster(tmp_path / "m.tif", numbers[None], FINE)
        target = TARGETS["other zone"]
        hidden = read_mask(mask(path, rule=MaskRule(bits=(4,))), target)
        cols, _ = ~FINE.transform @ tuple(centres(target, str(FINE.crs)))
        inside, _ = _inside(FINE, target, margin=1)
        near = np.abs(cols - 56) < 1
        assert np.array_equal(hidden[inside & ~near], (cols > 56)[inside & ~near])
        assert 0.1 < hidden[inside].mean() < 0.9
        outside = (cols < -1) | (cols > FINE.shape[1] + 1)
        assert hidden[outside].all()

    def test_bits_of_fractions_are_refused(self, tmp_path):
        path = write_raster(tmp_path / "m.tif", random_numbers("float32", 9)[None], FINE)
        with pytest.raises(AssetError, match=r"lone.*whole numbers.*float32"):
            read_mask(mask(path, rule=MaskRule(bits=(1,))), FINE)


class TestClasses:
    def test_nearest_keeps_the_classes(self, tmp_path):
        classes = noise(FINE.shape, high=5).astype("uint8")
        path = write_raster(tmp_path / "c.tif", classes[None], FINE, nodata=3)
        read = read_classes(source(path), FINE)
        assert np.array_equal(read, np.where(classes == 3, 255, classes))
        warped = read_classes(source(path), TARGETS["other zone"])
        assert set(np.unique(warped)) <= {1, 2, 4, 255}

    def test_outside_is_filled(self, tmp_path):
        path = write_raster(tmp_path / "c.tif", np.ones((1, *FINE.shape), "uint8"), FINE)
        assert (read_classes(source(path), part(FINE, 500, 0, 5, 5)) == 255).all()
        assert (read_classes(source(path), part(FINE, -5, 0, 5, 5), fill=9) == 9).all()

    @pytest.mark.parametrize(("dtype", "value"), [("int16", -1), ("uint16", 300), ("float32", 1.5)])
    def test_values_that_are_no_class(self, tmp_path, dtype, value):
        raster = np.full((1, *FINE.shape), value, dtype)
        path = write_raster(tmp_path / "c.tif", raster, FINE)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(AssetError, match="is no class"):
                read_classes(source(path), FINE)

    def test_float_file_of_whole_numbers_with_nan(self, tmp_path):
        raster = noise(FINE.shape, high=4).astype("float32")
        raster[4] = np.nan
        path = write_raster(tmp_path / "c.tif", raster[None], FINE)
        read = read_classes(source(path), FINE)
        assert np.array_equal(read, np.where(np.isnan(raster), 255, raster))


class TestUnreadable:
    def test_truncated(self, tmp_path):
        path = write_raster(tmp_path / "a.tif", noise((1, *FINE.shape)).astype("uint16"), FINE)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(AssetError, match="item lone, asset data: cannot read window"):
            read_mosaic([_scene(source(path))], FINE)

    @pytest.mark.parametrize("content", [None, b"", b"no raster"])
    def test_missing_empty_or_no_raster(self, tmp_path, content):
        path = tmp_path / "a.tif"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(AssetError, match=r"item lone, asset data: .*header.*a\.tif"):
            read_mosaic([_scene(source(path))], FINE)

    def test_missing_band(self, tmp_path):
        path = write_raster(tmp_path / "a.tif", np.ones((2, *FINE.shape), "uint8"), FINE)
        with pytest.raises(AssetError, match="item lone, asset data"):
            read_mosaic([_scene(source(path, index=3))], FINE)

    def test_a_grid_out_of_reach_of_the_files_crs(self, world):
        item = world.item("far", grid())
        beyond = GeoBox((4, 4), Affine(1.0, 0, 1e12, 0, -1.0, 1e12), "EPSG:32633")
        with pytest.raises(GridError, match="has no place in the CRS of"):
            read_mosaic([scene(item, "x")], beyond)

    def test_without_crs(self, tmp_path):
        path = write_raster(tmp_path / "a.tif", np.ones((1, *FINE.shape), "uint8"), FINE, crs=False)
        with pytest.raises(GridError, match="no CRS"):
            read_mosaic([_scene(source(path))], FINE)

    def test_an_unreadable_mask_is_named_too(self, world):
        item = world.item(
            "c", FINE, extra={"m": np.ones(FINE.shape, "uint8")}, roles={"m": ["cloud"]}
        )
        (world.folder / "c" / "m.tif").unlink()
        with pytest.raises(AssetError, match="item c, asset m"):
            read_mosaic([scene(item, "x")], FINE)
