import multiprocessing
import os
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil

from rscontrast.io import ItemSource, read_mosaic
from rscontrast.io.handles import LIMIT, handle
from rscontrast.io.pool import Shelf, shelf
from tests.world import grid, source, write_raster

BOX = grid(shape=(32, 32))


def raster(path, value=1):
    return write_raster(path, np.full((1, *BOX.shape), value, "uint16"), BOX)


def read(path):
    return read_mosaic([ItemSource((source(path),))], BOX)[0]


def read_in_child(path, value, answer):
    answer.put(bool((read(path) == value).all()))


def test_a_file_written_anew_is_read_anew(tmp_path):
    path = tmp_path / "a.tif"
    for value in (1, 2, 3):
        raster(path, value)
        os.utime(path, ns=(value * 10**9, value * 10**9))
        assert (read(path) == value).all()


def test_a_removed_file_is_missed(tmp_path):
    path = raster(tmp_path / "a.tif")
    read(path)
    path.unlink()
    with pytest.raises(OSError, match=r"a\.tif"):
        read(path)


def test_the_same_handle_serves_again(tmp_path):
    path = raster(tmp_path / "a.tif")
    assert handle(str(path)) is handle(str(path))


@pytest.fixture
def few(monkeypatch):
    """Handles of 20 files at most."""
    handles = shelf("handles", lambda: Shelf(LIMIT, lambda _: 1))
    handles.clear()
    monkeypatch.setattr(handles, "limit", 20)
    return handles


def test_handles_are_bounded_and_the_oldest_is_let_go(tmp_path, few):
    paths = [raster(tmp_path / f"{n}.tif", n) for n in range(30)]
    first = weakref.ref(handle(str(paths[0])))
    for path in paths[1:]:
        handle(str(path))
    assert len(few) == 20
    assert first() is None
    assert (read(paths[0]) == 0).all()


def test_a_file_let_go_is_read_by_who_has_it(tmp_path, few):
    held = handle(str(raster(tmp_path / "held.tif", 5)))
    for n in range(30):
        handle(str(raster(tmp_path / f"{n}.tif", n)))
    assert (held.read([1]) == 5).all()


def test_no_file_stays_open(tmp_path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for n in range(30):
        assert (read(raster(tmp_path / f"{n}.tif", n)) == n).all()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_all_threads_share_one(tmp_path):
    path = str(raster(tmp_path / "a.tif", 5))
    with ThreadPoolExecutor(8) as threads:
        handles = list(threads.map(lambda _: handle(path), range(64)))
        assert len(set(map(id, handles))) == 1
        assert all((pixels == 5).all() for pixels in threads.map(lambda h: h.read([1]), handles))


@pytest.mark.parametrize(
    ("file", "driver", "options"),
    [
        ("a.tif", "GTiff", {"NBITS": 12}),
        ("a.jp2", "JP2OpenJPEG", {"QUALITY": 100, "REVERSIBLE": True}),
        ("a.img", "HFA", {}),
    ],
)
def test_what_the_fast_driver_does_not_know(tmp_path, file, driver, options):
    pixels = np.arange(BOX.shape[0] * BOX.shape[1], dtype="uint16").reshape(1, *BOX.shape)
    plain = write_raster(tmp_path / "plain.tif", pixels, BOX)
    path = tmp_path / file
    rasterio.shutil.copy(plain, path, driver=driver, **options)
    assert handle(str(path)).raster.driver == driver
    with ThreadPoolExecutor(4) as threads:
        for read_back in threads.map(lambda _: handle(str(path)).read([1]), range(16)):
            assert np.array_equal(read_back, pixels)


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_children_read_while_the_parent_holds_the_file(tmp_path, method):
    path = raster(tmp_path / "a.tif", 7)
    assert (read(path) == 7).all()
    context = multiprocessing.get_context(method)
    answer = context.Queue()
    children = [context.Process(target=read_in_child, args=(path, 7, answer)) for _ in range(2)]
    for child in children:
        child.start()
    assert [answer.get(timeout=60) for _ in children] == [True, True]
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert (read(path) == 7).all()
