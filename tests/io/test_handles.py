import multiprocessing
import os
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

from rscontrast.io import ItemSource, read_mosaic
from rscontrast.io.handles import LIMIT, _handles, handle
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


def test_handles_are_bounded_and_the_oldest_is_closed(tmp_path):
    paths = [raster(tmp_path / f"{n}.tif", n) for n in range(LIMIT + 5)]
    first = handle(str(paths[0])).data
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in paths[1:]:
        handle(str(path))
    assert len(_handles.open) == LIMIT
    assert first.closed
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + LIMIT
    assert (read(paths[0]) == 0).all()


def test_each_thread_has_its_own(tmp_path):
    path = raster(tmp_path / "a.tif", 5)
    seen = []

    def work():
        seen.append(handle(str(path)).data)
        seen.append(bool((read(path) == 5).all()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen[0] is not handle(str(path)).data
    assert seen[1]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_read_while_the_parent_holds_the_file(tmp_path, method):
    path = raster(tmp_path / "a.tif", 7)
    assert (read(path) == 7).all()
    context = multiprocessing.get_context(method)
    answer = context.Queue()
    children = [context.Process(target=read_in_child, args=(path, 7, answer))]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)
        for child in children:
            child.start()
    assert [answer.get(timeout=60) for _ in children] == [True]
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert (read(path) == 7).all()
