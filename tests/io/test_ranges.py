"""Files behind HTTP that are read without GDAL: the same pixels, and fewer bytes."""

import numpy as np
import pytest
import rasterio

from rscontrast.errors import AssetError
from rscontrast.io import read_mosaic
from rscontrast.io.handles import handle
from rscontrast.io.inflate import LEAST
from rscontrast.io.ranges import fetch, plain
from rscontrast.io.tiff import find_tiles
from tests.io.test_reader import BOX, numbers, part, scene, served
from tests.world import write_raster

__all__ = ["served"]

BLOCKS = {"compress": "deflate", "predictor": 2, "blockxsize": 256, "blockysize": 256}


def bytes_of(path):
    data = path.read_bytes()
    return lambda start, stop: data[start:stop]


def directory(path, level=None):
    options = {} if level is None else {"overview_level": level}
    with rasterio.open(path, driver="GTiff", **options) as raster:
        return int(raster.get_tag_item("IFD_OFFSET", "TIFF", bidx=1))


class TestTiles:
    @pytest.mark.parametrize("bigtiff", ["yes", "no"])
    @pytest.mark.parametrize("interleave", ["band", "pixel"])
    @pytest.mark.parametrize("side", [16, 256, 1024])
    def test_they_lie_where_gdal_says(self, tmp_path, bigtiff, interleave, side):
        options = {"bigtiff": bigtiff, "interleave": interleave, "compress": "deflate"}
        pixels = np.stack([numbers(seed) for seed in range(2)])
        sides = {"blockxsize": side, "blockysize": side}
        path = write_raster(tmp_path / "a.tif", pixels, BOX, **sides, **options)
        tiles = find_tiles(bytes_of(path), directory(path))
        with rasterio.open(path, driver="GTiff") as raster:
            planes = range(1, 3 if interleave == "band" else 2)
            rows, cols = (-(-length // side) for length in raster.shape)
            for name, found in (("OFFSET", tiles.offsets), ("SIZE", tiles.sizes)):
                said = [
                    int(raster.get_tag_item(f"BLOCK_{name}_{col}_{row}", "TIFF", bidx=plane))
                    for plane in planes
                    for row in range(rows)
                    for col in range(cols)
                ]
                assert found.tolist() == said

    def test_overviews_have_their_own(self, tmp_path):
        path = write_raster(tmp_path / "a.tif", numbers()[None], BOX, **BLOCKS)
        with rasterio.open(path, "r+") as raster:
            raster.build_overviews([2, 4])
        lengths = [len(find_tiles(bytes_of(path), directory(path, n)).sizes) for n in (None, 0, 1)]
        assert lengths == sorted(lengths, reverse=True)
        assert lengths[0] > lengths[2]

    def test_the_other_byte_order_and_strips_are_left_to_gdal(self, tmp_path):
        other = write_raster(tmp_path / "b.tif", numbers()[None], BOX, endianness="big", **BLOCKS)
        assert find_tiles(bytes_of(other), directory(other)) is None
        strips = write_raster(
            tmp_path / "s.tif", numbers()[None], BOX, tiled=False, compress="deflate"
        )
        assert find_tiles(bytes_of(strips), directory(strips)) is None

    @pytest.mark.parametrize("cut", [3, 9, 100])
    def test_what_is_no_directory_is_an_error(self, tmp_path, cut):
        path = write_raster(tmp_path / "a.tif", numbers()[None], BOX, **BLOCKS)
        data = path.read_bytes()[:cut]
        with pytest.raises(ValueError, match="no directory"):
            find_tiles(lambda start, stop: data[start:stop], 8)


class TestReading:
    @pytest.mark.parametrize("options", [{}, {"interleave": "pixel"}, {"bigtiff": "yes"}])
    def test_windows_in_any_order_hold_what_the_file_holds(self, tmp_path, served, options):
        pixels = np.stack([numbers(seed) for seed in range(2)])
        path = write_raster(tmp_path / "a.tif", pixels, BOX, **BLOCKS, **options)
        href = served.url(path)
        assert handle(href).raster.deflated is not None
        rng = np.random.default_rng(2)
        for _ in range(20):
            height, width = rng.integers(1, 300, 2)
            row, col = rng.integers(0, BOX.shape[0] - height), rng.integers(0, BOX.shape[1] - width)
            image, _ = read_mosaic([scene(href)], part(row, col, height, width))
            assert np.array_equal(image[0], pixels[0, row : row + height, col : col + width])

    def test_no_more_bytes_come_than_the_rows_take(self, tmp_path, served):
        path = write_raster(
            tmp_path / "a.tif",
            numbers()[None],
            BOX,
            **BLOCKS | {"blockxsize": 512, "blockysize": 512},
        )
        href = served.url(path)
        size = int(handle(href).raster.deflated.sizes[0, 0, 0])
        served.lengths.clear()
        read_mosaic([scene(href)], part(0, 0, 60, 60))
        assert served.lengths == [pytest.approx(1.1 * size * 60 / 512, abs=LEAST)]
        read_mosaic([scene(href)], part(0, 0, 512, 60))
        assert sum(served.lengths) == size

    def test_a_sparse_file(self, tmp_path, served):
        path = tmp_path / "a.tif"
        profile = {"driver": "GTiff", "width": 600, "height": 600, "count": 1, "dtype": "uint16"}
        place = {"transform": BOX.transform, "crs": str(BOX.crs), "tiled": True}
        with rasterio.open(path, "w", **profile, **place, **BLOCKS, sparse_ok=True) as raster:
            raster.write(np.full((1, 20, 20), 7, np.uint16), window=((0, 20), (0, 20)))
        served.lengths.clear()
        image, _ = read_mosaic([scene(served.url(path))], part(0, 0, 300, 300))
        assert image.sum() == 7 * 400

    def test_damage_names_item_asset_and_window(self, tmp_path, served):
        path = write_raster(tmp_path / "a.tif", numbers()[None], BOX, **BLOCKS)
        href = served.url(path)
        tiles = handle(href).raster.deflated
        with path.open("r+b") as raw:
            raw.seek(int(tiles.offsets[0, 1, 1]))
            raw.write(bytes(int(tiles.sizes[0, 1, 1])))
        with pytest.raises(AssetError, match=r"item lone, asset data: cannot read window .*a\.tif"):
            read_mosaic([scene(href)], part(300, 300, 200, 200))


class TestFetch:
    @pytest.fixture
    def url(self, tmp_path, served):
        path = tmp_path / "a.bin"
        path.write_bytes(bytes(range(200)))
        return served.url(path)

    def test_a_part_and_what_there_is_of_one(self, url):
        assert fetch(url, 10, 20) == bytes(range(10, 20))
        assert fetch(url, 190, 500) == bytes(range(190, 200))

    @pytest.mark.parametrize("failure", [403, 404, 429, 500, 503, "reset", "cut"])
    def test_what_is_not_that_part_is_an_error(self, served, url, failure):
        served.failures = [failure]
        with pytest.raises(OSError, match=r"status|[Cc]onnection|cut off"):
            fetch(url, 10, 20)
        assert fetch(url, 10, 20) == bytes(range(10, 20))

    def test_no_server_is_an_error(self, served, url):
        served.shutdown()
        served.server_close()
        with pytest.raises(OSError, match=r"refused"):
            fetch(url.replace("a.bin", "b.bin"), 10, 20)

    def test_what_a_url_does_not_say_is_left_to_gdal(self, monkeypatch):
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        assert plain("https://example.com/a.tif")
        assert not plain("s3://bucket/a.tif")
        assert not plain("/vsicurl/https://example.com/a.tif")
        assert not plain("/data/a.tif")
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
        assert not plain("https://example.com/a.tif")
        monkeypatch.setenv("no_proxy", "example.com")
        assert plain("https://example.com/a.tif")
        monkeypatch.setenv("GDAL_HTTP_USERPWD", "me:secret")
        assert not plain("https://example.com/a.tif")
