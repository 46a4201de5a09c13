"""Blocks that are read without GDAL hold what GDAL reads."""

import shutil
import threading

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from odc.geo.geobox import GeoBox

from rscontrast.errors import AssetError
from rscontrast.io import ItemSource, read_mosaic
from rscontrast.io.handles import handle
from tests.io.test_reader import BOX, numbers, part
from tests.world import source, write_raster

BLOCKS = {"compress": "deflate", "blockxsize": 256, "blockysize": 256}
KINDS = {
    "plain": {"predictor": 1},
    "differences": {"predictor": 2},
    "fast": {"predictor": 2, "zlevel": 1},
    "oblong": {"predictor": 2, "blockxsize": 512, "blockysize": 256},
}


def whole(path, index=1):
    with rasterio.open(path, driver="GTiff") as raster:
        return raster.read(index)


def bands(path, *indexes):
    return ItemSource(tuple(source(path, index=index) for index in indexes))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32"])
def test_windows_in_any_order(tmp_path, kind, dtype):
    low, high = (0, 200) if dtype == "uint8" else (-30_000 * (dtype[0] == "i"), 30_000)
    pixels = np.random.default_rng(1).integers(low, high, BOX.shape).astype(dtype)
    path = write_raster(tmp_path / "a.tif", pixels[None], BOX, **{**BLOCKS, **kind})
    assert handle(str(path)).raster.deflated is not None
    rng = np.random.default_rng(2)
    for _ in range(40):
        height, width = rng.integers(1, 300, 2)
        row, col = rng.integers(0, BOX.shape[0] - height), rng.integers(0, BOX.shape[1] - width)
        image, _ = read_mosaic([bands(path, 1)], part(row, col, height, width))
        expected = pixels[row : row + height, col : col + width]
        assert np.array_equal(image[0], expected.astype("float32"))


@pytest.mark.parametrize("interleave", ["band", "pixel"])
def test_several_bands(tmp_path, interleave):
    pixels = np.stack([numbers(seed) for seed in range(3)])
    path = write_raster(
        tmp_path / "a.tif", pixels, BOX, predictor=2, interleave=interleave, **BLOCKS
    )
    assert handle(str(path)).raster.deflated is not None
    image, _ = read_mosaic([bands(path, 3, 1, 3)], part(200, 300, 100, 90))
    assert np.array_equal(image, pixels[[2, 0, 2], 200:300, 300:390])


def test_an_overview(tmp_path):
    path = tmp_path / "a.tif"
    plain = write_raster(tmp_path / "plain.tif", numbers()[None], BOX)
    rasterio.shutil.copy(plain, path, driver="COG", COMPRESS="DEFLATE", BLOCKSIZE=256)
    assert handle(str(path), level=0).raster.deflated is not None
    with rasterio.open(path, overview_level=0) as raster:
        expected, transform = raster.read(1), raster.transform
    box = GeoBox(expected.shape, transform, BOX.crs)
    assert np.array_equal(read_mosaic([bands(path, 1)], box)[0][0], expected)


@pytest.mark.parametrize("nodata", [None, 0, 77])
def test_blocks_that_were_left_out(tmp_path, nodata):
    pixels = numbers()
    pixels[:256] = nodata or 0
    path = write_raster(
        tmp_path / "a.tif", pixels[None], BOX, predictor=2, sparse_ok=True, nodata=nodata, **BLOCKS
    )
    assert handle(str(path)).raster.deflated.sizes.min() == 0
    image, valid = read_mosaic([bands(path, 1)], BOX)
    assert np.array_equal(valid, pixels != nodata if nodata is not None else np.ones(BOX.shape))
    assert np.array_equal(image[0][valid], pixels[valid])


@pytest.mark.parametrize(
    "options",
    [
        {"endianness": "big"},
        {"nbits": 12},
        {"compress": "lzw"},
        {"compress": "zstd"},
        {"compress": None},
        {"tiled": False, "blockxsize": None, "blockysize": 16},
    ],
)
def test_other_files_are_left_to_gdal(tmp_path, options):
    pixels = numbers() % 4096
    path = write_raster(tmp_path / "a.tif", pixels[None], BOX, **{**BLOCKS, **options})
    assert handle(str(path)).raster.deflated is None
    assert np.array_equal(read_mosaic([bands(path, 1)], BOX)[0][0], whole(path))


@pytest.mark.parametrize("predictor", [1, 2, 3])
def test_floats(tmp_path, predictor):
    pixels = numbers(dtype="float32") / 7
    path = write_raster(tmp_path / "a.tif", pixels[None], BOX, predictor=predictor, **BLOCKS)
    assert np.array_equal(read_mosaic([bands(path, 1)], BOX)[0][0], pixels)


def test_no_row_is_inflated_before_it_is_asked_for(tmp_path):
    path = write_raster(tmp_path / "a.tif", numbers()[None], BOX, predictor=2, **BLOCKS)
    file = handle(str(path)).raster.deflated
    block = file.block(handle(str(path)).fetch, 0, 0, 0)
    for stop in (10, 100, 40, 256):
        before = block._known
        assert np.array_equal(
            block.rows(stop - 10, stop, 256)[..., 0], numbers()[stop - 10 : stop, :256]
        )
        assert block._known == max(before, stop * 256 * 2)


def test_many_threads_share_a_block(tmp_path):
    path = write_raster(tmp_path / "a.tif", numbers()[None], BOX, predictor=2, **BLOCKS)
    block = handle(str(path)).raster.deflated.block(handle(str(path)).fetch, 0, 1, 1)
    wrong = []

    def read(seed):
        for start in np.random.default_rng(seed).integers(0, 250, 50):
            rows = block.rows(int(start), int(start) + 6, 256)[..., 0]
            if not np.array_equal(rows, numbers()[256 + start : 262 + start, 256:512]):
                wrong.append(start)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("damage", ["garbage", "cut"])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, damage):
    good = write_raster(tmp_path / "good.tif", numbers()[None], BOX, predictor=2, **BLOCKS)
    file = handle(str(good)).raster.deflated
    offset, size = int(file.offsets[0, 1, 1]), int(file.sizes[0, 1, 1])
    path = tmp_path / "bad.tif"
    shutil.copy(good, path)
    with path.open("r+b") as raw:
        if damage == "garbage":
            raw.seek(offset)
            raw.write(bytes(size))
        else:
            raw.truncate(offset + size // 2)
    with pytest.raises(AssetError, match=r"item lone, asset data: cannot read window .*bad\.tif"):
        read_mosaic([bands(path, 1)], part(300, 300, 200, 200))


def test_a_file_that_comes_back_is_read_on(tmp_path):
    path = write_raster(tmp_path / "a.tif", numbers()[None], BOX, predictor=2, **BLOCKS)
    block = handle(str(path)).raster.deflated.block(handle(str(path)).fetch, 0, 0, 0)
    block.rows(0, 10, 256)
    path.rename(tmp_path / "away.tif")
    with pytest.raises(FileNotFoundError):
        block.rows(20, 30, 256)
    (tmp_path / "away.tif").rename(path)
    assert np.array_equal(block.rows(0, 256, 256)[..., 0], numbers()[:256, :256])


def test_a_band_that_is_not_there(tmp_path):
    path = write_raster(tmp_path / "a.tif", numbers()[None], BOX, predictor=2, **BLOCKS)
    with pytest.raises(AssetError, match="band"):
        read_mosaic([bands(path, 2)], BOX)
