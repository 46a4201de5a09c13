"""How files are read: cells, overviews, masks, footprints, mosaics, and servers that fail."""

import http.server
import multiprocessing
import os
import socket
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import shapely
import shapely.affinity
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from rscontrast.errors import AssetError, InputError
from rscontrast.io import ItemSource, read_classes, read_dates, read_mosaic
from rscontrast.io import cells as cells_module
from rscontrast.io.handles import handle
from rscontrast.io.pool import LINGER, Shelf, shelf, submit
from rscontrast.io.read import block_shape
from tests.world import centres, footprint, grid, source, write_raster

BOX = grid(shape=(600, 700))


def numbers(seed=0, shape=BOX.shape, dtype="uint16"):
    return np.random.default_rng(seed).integers(1, 10_000, shape).astype(dtype)


def part(row, col, height, width, box=BOX):
    return GeoBox((height, width), box.transform @ Affine.translation(col, row), box.crs)


def scene(*paths, **fields):
    return ItemSource(tuple(source(path, **fields) for path in paths))


LAYOUTS = {
    "blocks of 64": {"blockxsize": 64, "blockysize": 64},
    "blocks of 256": {"blockxsize": 256, "blockysize": 256},
    "wide blocks": {"blockxsize": 512, "blockysize": 16},
    "strips": {"tiled": False, "blockysize": 7},
    "one strip": {"tiled": False, "blockysize": 600},
    "deflate": {"blockxsize": 128, "blockysize": 128, "compress": "deflate", "predictor": 2},
    "sparse": {"blockxsize": 128, "blockysize": 128, "sparse_ok": True, "nodata": 0},
}


class TestCells:
    @pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
    @pytest.mark.parametrize("remote", [False, True], ids=["local", "remote"])
    def test_windows_hold_what_the_file_holds(self, tmp_path, served, layout, remote):
        pixels = numbers()
        if layout.get("sparse_ok"):
            pixels[:256, 128:384] = 0
        path = write_raster(tmp_path / "a.tif", pixels[None], BOX, **layout)
        href = served.url(path) if remote else path
        for window in [(0, 0, 600, 700), (63, 64, 2, 2), (250, 250, 200, 13), (599, 699, 1, 1)]:
            image, _ = read_mosaic([scene(href)], part(*window))
            row, col, height, width = window
            assert np.array_equal(image[0], pixels[row : row + height, col : col + width])

    def test_a_block_is_read_once_for_many_windows(self, tmp_path, served):
        path = write_raster(
            tmp_path / "a.tif", numbers()[None], BOX, blockxsize=256, blockysize=256
        )
        band = scene(served.url(path))
        windows = [part(row, col, 40, 40) for row in (10, 60, 150) for col in (5, 99, 200)]
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda box: read_mosaic([band], box), windows))
        block = 256 * 256 * 2
        assert sum(length >= block for length in served.lengths) == 1

    def test_memory_is_bounded(self, tmp_path, monkeypatch):
        monkeypatch.setattr(cells_module, "BYTES", 300_000)
        kept = shelf("cells", lambda: Shelf(0, lambda cell: cell.size))
        monkeypatch.setattr(kept, "limit", 300_000)
        path = write_raster(
            tmp_path / "a.tif", numbers()[None], BOX, blockxsize=256, blockysize=256
        )
        for row in range(0, 600, 200):
            read_mosaic([scene(path)], part(row, 0, 200, 700))
            until = time.monotonic() + 10  # what is read is told before what is old is let go

            def there():
                return sum(f.result().size for f in list(kept._kept.values()))

            while not there() == kept.taken <= 300_000 and time.monotonic() < until:
                time.sleep(0.001)
            assert there() == kept.taken <= 300_000

    def test_what_is_read_is_the_callers_own(self, tmp_path):
        path = write_raster(tmp_path / "a.tif", numbers()[None], BOX)
        first, valid = read_mosaic([scene(path)], BOX)
        before = first.copy()
        first[:], valid[:] = -1, False
        again, valid = read_mosaic([scene(path)], BOX)
        assert np.array_equal(again, before)
        assert valid.all()

    def test_bands_side_by_side_come_from_one_decode(self, tmp_path, served):
        pixels = np.stack([numbers(seed) for seed in range(3)])
        path = write_raster(
            tmp_path / "a.tif", pixels, BOX, blockxsize=256, blockysize=256, interleave="pixel"
        )
        href = served.url(path)
        bands = ItemSource(tuple(source(href, index=index) for index in (3, 1)))
        image, _ = read_mosaic([bands], part(0, 0, 99, 99))
        assert np.array_equal(image, pixels[[2, 0], :99, :99])
        assert sum(length >= 256 * 256 * 6 for length in served.lengths) == 1

    def test_block_shape(self, tmp_path):
        path = write_raster(tmp_path / "a.tif", numbers()[None], BOX, blockxsize=64, blockysize=32)
        assert block_shape(source(path)) == (32, 64)


class TestShelf:
    def test_who_asks_at_once_waits_for_one(self):
        made, gate = [], threading.Event()

        def make():
            gate.wait(10)
            made.append(1)
            return len(made)

        kept = Shelf(10, lambda _: 1)
        futures = [kept.get("a", make) for _ in range(5)]
        gate.set()
        assert [future.result() for future in futures] == [1] * 5

    def test_what_failed_is_tried_again(self):
        kept, answers = Shelf(10, lambda _: 1), iter([ZeroDivisionError, None])

        def make():
            error = next(answers)
            if error:
                raise error
            return 5

        with pytest.raises(ZeroDivisionError):
            kept.get("a", make).result()
        assert kept.get("a", make).result() == 5

    def test_what_several_make_at_once_is_one(self):
        kept, all_in = Shelf(10, lambda _: 1), threading.Barrier(4, timeout=10)
        found = []

        def make():
            all_in.wait()  # nobody waits for another's lock
            return object()

        threads = [
            threading.Thread(target=lambda: found.append(kept.have("a", make))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 4
        assert len(set(map(id, found))) == 1
        assert kept.taken == 1
        assert kept.have("a", make) is found[0]

    def test_the_one_unused_the_longest_goes_first(self):
        kept = Shelf(2, lambda _: 1)
        for key in "abac":
            kept.get(key, key.upper).result()
        assert len(kept) == 2
        assert kept.get("a", lambda: "made again").result() == "A"
        assert kept.get("b", lambda: "made again").result() == "made again"


class TestOverviews:
    @pytest.fixture
    def cog(self, tmp_path):
        """Overviews that say which they are: 1000 each, whatever the pixels below hold."""
        path = write_raster(
            tmp_path / "a.tif", numbers(shape=(512, 512))[None], grid(shape=(512, 512)), nodata=0
        )
        with rasterio.open(path, "r+") as raster:
            raster.build_overviews([2, 4, 8], Resampling.nearest)
        for level in range(3):
            with rasterio.open(path, "r+", overview_level=level) as raster:
                raster.write(np.full((1, *raster.shape), 1000 * (level + 1), "uint16"))
        return path

    @pytest.mark.parametrize(
        ("zoom", "value"), [(2, 1000), (3.9, 1000), (4, 2000), (7, 2000), (8, 3000), (20, 3000)]
    )
    def test_the_thinnest_that_is_not_coarser_is_read(self, cog, zoom, value):
        box = grid(res=10 * zoom, shape=(int(512 / zoom), int(512 / zoom)))
        image, valid = read_mosaic([scene(cog)], box)
        assert valid.all()
        assert (image == value).all()

    def test_none_is_read_for_finer_or_equal_pixels(self, cog):
        for res in (5, 10, 19):
            image, _ = read_mosaic([scene(cog)], grid(res=res, shape=(20, 20)))
            assert not np.isin(image, [1000, 2000, 3000]).all()

    def test_on_the_lattice_of_an_overview_it_is_read_as_it_is(self, tmp_path):
        path = write_raster(
            tmp_path / "a.tif", numbers(shape=(512, 512))[None], grid(shape=(512, 512))
        )
        with rasterio.open(path, "r+") as raster:
            raster.build_overviews([4], Resampling.average)
        with rasterio.open(path, overview_level=0) as raster:
            expected = raster.read(1)[3:40, 5:60]
        box = part(3, 5, 37, 55, grid(res=40, shape=(128, 128)))
        assert np.array_equal(read_mosaic([scene(path)], box)[0][0], expected)

    def test_no_data_that_the_file_does_not_declare_is_not_thinned_away(self, tmp_path):
        pixels = np.full((512, 512), 4000, "uint16")
        pixels[:, ::5] = 0
        path = write_raster(tmp_path / "a.tif", pixels[None], grid(shape=(512, 512)))
        with rasterio.open(path, "r+") as raster:
            raster.build_overviews([4], Resampling.average)
        box = grid(res=40, shape=(128, 128))
        image, valid = read_mosaic([scene(path, nodata=0.0)], box)
        assert (image[0][valid] == 4000).all()
        assert valid.mean() > 0.7


class TestValid:
    def test_the_mask_of_the_file_counts(self, tmp_path):
        path = tmp_path / "a.tif"
        seen = np.ones(BOX.shape, bool)
        seen[100:300, 50:600] = False
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            write_raster(path, numbers()[None], BOX)
            with rasterio.open(path, "r+") as raster:
                raster.write_mask(seen)
        _, valid = read_mosaic([scene(path)], BOX)
        assert np.array_equal(valid, seen)

    def test_an_alpha_band_counts(self, tmp_path):
        pixels = np.stack([numbers(dtype="uint8"), np.full(BOX.shape, 255, "uint8")])
        pixels[1, :50] = 0
        path = write_raster(tmp_path / "a.tif", pixels, BOX, photometric="minisblack", alpha="yes")
        with rasterio.open(path) as raster:
            assert "alpha" in str(raster.mask_flag_enums[0])
        _, valid = read_mosaic([scene(path)], BOX)
        assert np.array_equal(valid, pixels[1] > 0)

    @pytest.mark.parametrize("crs", ["EPSG:32632", "EPSG:32633", "EPSG:4326"])
    def test_pixels_outside_the_footprint_are_seen_but_not_valid(self, tmp_path, crs):
        path = write_raster(tmp_path / "a.tif", numbers()[None], BOX)
        left = footprint(part(0, 0, 600, 300))
        item = ItemSource((source(path),), footprint=left)
        image, valid = read_mosaic([item], BOX)
        assert valid[:, :300].all()
        assert not valid[:, 303:].any()
        assert image.all()
        other = BOX if crs == "EPSG:32632" else _around(BOX, crs)
        whole, all_of_it = (
            read_mosaic([ItemSource((source(path),), footprint=f)], other)[1]
            for f in (left, footprint(BOX))
        )
        assert 0.4 < whole.sum() / all_of_it.sum() < 0.46

    def test_a_whole_footprint_costs_no_pixel_of_a_large_scene(self, tmp_path):
        """In degrees the edges of a scene of 110 km are off by hundreds of metres."""
        box = grid(res=100.0, corner=(300_000.0, 7_900_020.0), shape=(1098, 1098))
        path = write_raster(tmp_path / "a.tif", np.ones((1, *box.shape), "uint8"), box)
        corners = shapely.set_precision(footprint(box), 1e-6)
        _, valid = read_mosaic([ItemSource((source(path),), footprint=corners)], box)
        assert valid.all()

    @pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
    def test_what_is_no_number_is_no_data(self, tmp_path, bad):
        pixels = numbers(dtype="float32")
        pixels[5, 7] = bad
        path = write_raster(tmp_path / "a.tif", pixels[None], BOX)
        image, valid = read_mosaic([scene(path)], BOX)
        assert (~valid).sum() == 1
        assert image[0, 5, 7] == 0


def _around(box, crs):
    x, y = centres(box, crs)
    res = 10.0 if crs != "EPSG:4326" else 1e-4
    shape = round(np.ptp(y) / res), round(np.ptp(x) / res)
    return grid(crs, res, (float(x.min()), float(y.max())), shape)


class TestMosaics:
    @pytest.fixture
    def items(self, tmp_path):
        """Three images of one value each: 1 left, 2 in the middle, 4 right, overlapping."""
        made = []
        for value, cols in ((1, (0, 400)), (2, (200, 600)), (4, (300, 700))):
            pixels = np.zeros(BOX.shape, "uint16")
            pixels[:, slice(*cols)] = value
            path = write_raster(tmp_path / f"{value}.tif", pixels[None], BOX, nodata=0)
            made.append(scene(path))
        return made

    @pytest.mark.parametrize(
        ("mosaic", "expected"),
        [
            ("first", [1, 1, 1, 2, 2, 4]),
            ("last", [1, 2, 4, 4, 4, 4]),
            ("mean", [1, 1.5, 7 / 3, 3, 3, 4]),
        ],
    )
    def test_rules(self, items, mosaic, expected):
        image, valid = read_mosaic(items, BOX, mosaic=mosaic)
        assert valid.all()
        found = [image[0, 0, col] for col in (100, 250, 350, 450, 550, 650)]
        assert np.allclose(found, expected)

    def test_dates_are_read_as_if_alone(self, items):
        for mosaic in ("first", "last", "mean"):
            dates = [items[:1], items[1:], items]
            together = read_dates(dates, BOX, mosaic=mosaic)
            for (image, valid), date in zip(together, dates, strict=True):
                alone = read_mosaic(date, BOX, mosaic=mosaic)
                assert np.array_equal(image, alone[0])
                assert np.array_equal(valid, alone[1])

    def test_no_other_rule(self, items):
        with pytest.raises(InputError, match="mosaic"):
            read_mosaic(items, BOX, mosaic="best")


class TestWarp:
    @pytest.mark.parametrize("gaps", [False, True])
    @pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:3857"])
    def test_equals_gdals_warp_of_the_whole_file(self, tmp_path, crs, gaps):
        rows, cols = np.mgrid[: BOX.shape[0], : BOX.shape[1]]
        pixels = (2000 + 900 * np.sin(rows / 9) + 700 * np.cos(cols / 7)).astype("float32")
        if gaps:
            pixels[100:140, 300:420] = np.nan
        path = write_raster(tmp_path / "a.tif", pixels[None], BOX, nodata=np.nan)
        target = part(150, 200, 256, 256, _around(BOX, crs))
        with (
            rasterio.open(path) as raster,
            WarpedVRT(
                raster,
                crs=crs,
                transform=target.transform,
                height=256,
                width=256,
                resampling=Resampling.bilinear,
                nodata=np.nan,
            ) as warped,
        ):
            expected = warped.read(1)
        image, valid = read_mosaic([scene(path)], target)
        assert np.array_equal(valid, ~np.isnan(expected))
        # An eighth of a pixel is how far GDAL approximates, here and there by another grid.
        assert np.abs(image[0] - expected)[valid].max() < 0.125 * 120

    def test_bands_of_one_grid_are_warped_as_if_alone(self, tmp_path):
        box = part(150, 200, 200, 200, _around(BOX, "EPSG:32633"))
        pixels = [numbers(seed, dtype="float32") for seed in range(3)]
        pixels[1][200:260, 100:300] = np.nan
        paths = [write_raster(tmp_path / f"{n}.tif", p[None], BOX) for n, p in enumerate(pixels)]
        together, valid = read_mosaic([scene(*paths)], box)
        alone = [read_mosaic([scene(path)], box) for path in paths]
        assert valid.any()
        assert np.array_equal(valid, np.logical_and.reduce([usable for _, usable in alone]))
        for band, (image, usable) in zip(together, alone, strict=True):
            assert np.allclose(band[usable], image[0][usable], atol=1e-2)


class Server(http.server.ThreadingHTTPServer):
    """Files by ranges; ``failures`` are the next answers to requests past a file's header."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.failures, self.lengths, self.hrefs, self.down_until = [], [], {}, 0.0

    def url(self, path):
        name = f"{len(self.hrefs)}_{path.name}"
        self.hrefs[f"/{name}"] = path
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def handle_error(self, request, client_address):
        """Say nothing of connections that are cut on purpose."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        if time.monotonic() < self.server.down_until:
            return self.answer(503)
        path = self.server.hrefs.get(self.path)
        size = path.stat().st_size if path is not None and path.is_file() else None
        span = self.headers.get("Range")
        deep = span is not None and not span.startswith("bytes=0-")
        failure = self.server.failures.pop(0) if deep and self.server.failures else None
        if size is None or isinstance(failure, int):
            return self.answer(failure or 404)
        if failure == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1] + 7 * [0]))
            self.connection.close()
            self.close_connection = True
            return None
        first, last = (span or "bytes=0-").removeprefix("bytes=").split("-")
        begin, end = int(first), min(int(last or size - 1), size - 1)
        with path.open("rb") as file:
            file.seek(begin)
            body = file.read(end - begin + 1)
        self.server.lengths.append(len(body) if self.command == "GET" else 0)
        headers = {"Content-Range": f"bytes {begin}-{end}/{size}"} if span else {}
        return self.answer(206 if span else 200, body, headers, cut=failure == "cut")

    def answer(self, status, body=b"", headers=None, *, cut=False):
        lines = {"Content-Length": len(body), "Accept-Ranges": "bytes", **(headers or {})}
        text = "".join(f"{key}: {value}\r\n" for key, value in lines.items())
        if self.command == "HEAD":
            body = b""
        body = body[: len(body) // 2] if cut else body
        self.wfile.write(f"HTTP/1.1 {status} OK\r\n{text}\r\n".encode() + body)
        if cut:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True


@pytest.fixture
def served():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class TestServers:
    @pytest.fixture(params=["none", "deflate"])
    def href(self, tmp_path, served, request):
        """One that GDAL reads, and one that is read without it."""
        sides = {"blockxsize": 256, "blockysize": 256}
        compress = {} if request.param == "none" else {"compress": request.param}
        path = write_raster(tmp_path / "a.tif", numbers()[None], BOX, **sides, **compress)
        href = served.url(path)
        assert (handle(href).raster.deflated is None) == (request.param == "none")
        return href

    @pytest.mark.parametrize("failure", [429, 500, 503, "reset", "cut"])
    @pytest.mark.parametrize("times", [1, 2])
    def test_what_passes_is_waited_for(self, served, href, failure, times):
        handle(href)
        served.failures = [failure] * times
        image, _ = read_mosaic([scene(href)], part(300, 300, 50, 50))
        assert np.array_equal(image[0], numbers()[300:350, 300:350])
        assert not served.failures

    def test_what_lasts_names_item_asset_and_window(self, served, href, monkeypatch):
        monkeypatch.setattr("rscontrast.io.handles.PAUSES", (0.01, 0.01))
        handle(href)
        served.failures = [503] * 50
        message = r"item lone, asset data: cannot read window \(300, 300, 50, 50\) of http"
        with pytest.raises(AssetError, match=message):
            read_mosaic([scene(href)], part(300, 300, 50, 50))

    @pytest.mark.parametrize("name", ["gone.tif", "nothing"])
    def test_a_missing_file_is_an_error_at_once(self, served, tmp_path, name):
        href = served.url(tmp_path / name)
        with pytest.raises(AssetError, match=r"cannot read its header of http.*404"):
            read_mosaic([scene(href)], BOX)

    def test_a_file_that_goes_in_the_midst_is_said_to_be_gone(self, served, href, tmp_path):
        handle(href)
        (tmp_path / "a.tif").unlink()
        with pytest.raises(AssetError, match="404"):
            read_mosaic([scene(href)], part(300, 300, 50, 50))

    def test_strips_are_not_asked_for_one_by_one(self, served, tmp_path):
        path = write_raster(tmp_path / "s.tif", numbers()[None], BOX, tiled=False, blockysize=1)
        image, _ = read_mosaic([scene(served.url(path))], part(100, 0, 256, 256))
        assert np.array_equal(image[0], numbers()[100:356, :256])
        assert len(served.lengths) < 20

    def test_the_environment_stays_as_it_is(self, href):
        before = dict(os.environ)
        read_mosaic([scene(href)], part(0, 0, 50, 50))
        assert dict(os.environ) == before
        with rasterio.Env() as env:
            assert "AWS_NO_SIGN_REQUEST" not in env.options
            assert "GDAL_DISABLE_READDIR_ON_OPEN" not in env.options


def fork_and_read(band, answer):
    answer.put(read_mosaic([band], part(0, 0, 50, 50))[0].sum())


def test_a_fork_in_the_midst_of_reading(tmp_path):
    """Other threads go on asking while processes are forked; none waits for ever."""
    pixels = numbers()
    bands = [
        scene(write_raster(tmp_path / f"{n}.tif", pixels[None], BOX, compress="deflate"))
        for n in range(4)
    ]
    stop, context = threading.Event(), multiprocessing.get_context("fork")

    def read_on(band):
        reads = 0
        while not stop.is_set() and reads < 10_000:
            read_mosaic([band], part(13 * reads % 500, 7 * reads % 600, 90, 90))
            reads += 1
        return reads

    answer = context.SimpleQueue()
    with ThreadPoolExecutor(4) as threads:
        readers = [threads.submit(read_on, band) for band in bands]
        children = [context.Process(target=fork_and_read, args=(b, answer)) for b in 3 * bands]
        with warnings.catch_warnings():
            # The readers' own threads are still there; what they share with GDAL is not.
            warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)
            for child in children:
                child.start()
        for child in children:
            child.join(60)
        stop.set()
        assert all(reader.result(60) for reader in readers)
    assert [child.exitcode for child in children] == [0] * len(children)
    assert {answer.get() for _ in children} == {float(pixels[:50, :50].sum())}


def test_a_fork_while_samples_are_read(tmp_path):
    """Threads that wait for the reading ones ask for more of it while the fork waits for these."""
    path = write_raster(tmp_path / "a.tif", numbers()[None], BOX, compress="deflate")
    band, stop = scene(path), threading.Event()

    def read_on():
        reads = 0
        while not stop.is_set() and reads < 10_000:
            read_mosaic([band], part(13 * reads % 500, 7 * reads % 600, 90, 90))
            reads += 1
        return reads

    context = multiprocessing.get_context("fork")
    answer = context.SimpleQueue()
    readers = [submit("sample", read_on) for _ in range(3)]
    children = [context.Process(target=fork_and_read, args=(band, answer)) for _ in range(6)]
    begun = time.monotonic()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)
        for child in children:
            child.start()
    assert time.monotonic() - begun < 6 * LINGER  # nor is the end of these threads waited for
    for child in children:
        child.join(60)
    stop.set()
    assert all(reader.result(60) for reader in readers)
    assert [child.exitcode for child in children] == [0] * len(children)


class TestMasksBesideNodata:
    """The fast driver knows none of these; what reads them must."""

    @pytest.fixture
    def seen(self):
        shape = np.ones(BOX.shape, bool)
        shape[100:300, 50:600] = False
        return shape

    @pytest.mark.parametrize("internal", [True, False])
    def test_a_mask_counts_although_there_is_a_nodata(self, tmp_path, seen, internal):
        path = tmp_path / "a.tif"
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal):
            write_raster(path, numbers()[None], BOX, nodata=0)
            with rasterio.open(path, "r+") as raster:
                raster.write_mask(seen)
        assert (tmp_path / "a.tif.msk").exists() is not internal
        assert np.array_equal(read_mosaic([scene(path)], BOX)[1], seen)

    def test_a_nodata_beside_the_file_counts(self, tmp_path):
        path = write_raster(tmp_path / "a.tif", numbers()[None], BOX)
        plain = numbers()
        band = f'<PAMRasterBand band="1"><NoDataValue>{plain[3, 4]}</NoDataValue></PAMRasterBand>'
        (tmp_path / "a.tif.aux.xml").write_text(f"<PAMDataset>{band}</PAMDataset>")
        assert np.array_equal(read_mosaic([scene(path)], BOX)[1], plain != plain[3, 4])


class TestClasses:
    def test_no_class_comes_from_a_mean(self, tmp_path):
        classes = np.random.default_rng(0).choice([0, 4], (512, 512)).astype("uint8")
        plain = write_raster(tmp_path / "p.tif", classes[None], grid(shape=(512, 512)))
        path = tmp_path / "a.tif"
        rasterio.shutil.copy(
            plain, path, driver="COG", BLOCKSIZE=128, OVERVIEW_RESAMPLING="AVERAGE"
        )
        with rasterio.open(path, overview_level=0) as raster:
            assert len(np.unique(raster.read(1))) > 2
        for zoom in (2, 2.5, 4):
            box = grid(res=10 * zoom, shape=(int(512 / zoom), int(512 / zoom)))
            assert set(np.unique(read_classes(source(path), box))) == {0, 4}


class TestRoundTheWorld:
    def test_a_footprint_over_the_antimeridian(self, tmp_path):
        box = grid("EPSG:32660", 1000.0, (700_000.0, 1_000_000.0), (200, 220))
        path = write_raster(tmp_path / "a.tif", numbers(shape=box.shape)[None], box)
        x, _ = centres(box, "EPSG:4326")
        assert x.max() > 179
        assert x.min() < -179
        whole = footprint(box)
        ring = np.array(whole.exterior.coords) % 360
        east, west = (
            shapely.intersection(shapely.Polygon(ring), shapely.box(*side, 90))
            for side in ((0, -90, 180), (180, -90, 360))
        )
        both = shapely.union_all([east, shapely.affinity.translate(west, -360)])
        item = ItemSource((source(path),), footprint=both)
        for crs, corner in [("EPSG:4326", (-179.9, 8.5)), ("EPSG:4326", (179.5, 8.5))]:
            image, valid = read_mosaic([item], grid(crs, 0.01, corner, (20, 20)))
            assert image.all()
            assert valid.all()
        assert read_mosaic([item], box)[1].all()

    def test_degrees_counted_beyond_180(self, tmp_path):
        degrees = grid("EPSG:4326", 0.01, (179.0, 1.0), (200, 200))
        path = write_raster(tmp_path / "a.tif", numbers(shape=(200, 200))[None], degrees)
        box = grid("EPSG:32601", 1000.0, (190_000.0, 60_000.0), (40, 40))
        _, valid = read_mosaic([scene(path)], box)
        assert valid.all()

    def test_a_grid_over_a_pole(self, tmp_path):
        degrees = grid("EPSG:4326", 0.5, (-180.0, 90.0), (360, 720))
        path = write_raster(tmp_path / "a.tif", numbers(shape=(360, 720))[None], degrees)
        box = grid("EPSG:3413", 25_000.0, (-1_000_000.0, 1_000_000.0), (80, 80))
        _, valid = read_mosaic([scene(path)], box)
        assert valid.mean() > 0.98


class TestNumbersThatDoNotFit:
    def test_beyond_float32_is_no_data(self, tmp_path):
        pixels = numbers(dtype="float64")
        pixels[4, 5], pixels[6, 7] = 1e300, np.finfo("float64").min
        path = write_raster(tmp_path / "a.tif", pixels[None], BOX, nodata=np.finfo("float64").min)
        image, valid = read_mosaic([scene(path)], BOX)
        assert np.argwhere(~valid).tolist() == [[4, 5], [6, 7]]
        assert np.isfinite(image).all()

    def test_complex_numbers_are_refused(self, tmp_path):
        path = write_raster(tmp_path / "a.tif", numbers(dtype="complex64")[None], BOX)
        with pytest.raises(AssetError, match="no real numbers"):
            read_mosaic([scene(path)], BOX)

    def test_no_item_is_refused(self):
        with pytest.raises(InputError, match="items"):
            read_mosaic([], BOX)


class TestBadMoments:
    def test_an_outage_of_seconds_is_waited_for(self, served, tmp_path):
        path = write_raster(tmp_path / "a.tif", numbers()[None], BOX)
        href = served.url(path)
        served.down_until = time.monotonic() + 2.5
        image, _ = read_mosaic([scene(href)], part(300, 300, 50, 50))
        assert np.array_equal(image[0], numbers()[300:350, 300:350])

    def test_a_server_that_falls_silent_is_given_up(self, monkeypatch):
        monkeypatch.setattr("rscontrast.io.handles.SILENCE", 1)
        monkeypatch.setattr("rscontrast.io.handles.PAUSES", (0.01,))
        with socket.create_server(("127.0.0.1", 0)) as silent:
            href = f"http://127.0.0.1:{silent.getsockname()[1]}/a.tif"
            with pytest.raises(AssetError, match="cannot read its header"):
                read_mosaic([scene(href)], BOX)
