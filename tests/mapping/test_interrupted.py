"""What was finished before an end that came early stays listed and usable."""

import copy
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pystac
import pytest
import rasterio

from rscontrast.errors import AssetError
from rscontrast.mapping import map_pairs
from tests.interrupt import heed_ctrl_c
from tests.mapping.conftest import SMALL
from tests.sample_world import ROOT, asset, event_pairs, scenes

RUN = """
import sys
from rscontrast.mapping import map_pairs
from tests.sample_world import event_pairs, scenes
map_pairs(scenes(), event_pairs(), sys.argv[1], sys.argv[2],
          patch_size=32, overlap=4, tile_size=56, progress=False)
"""
# Small tiles and patches: the second place takes long enough to be interrupted in its middle.


def check(out, count):
    """``count`` results are listed; every raster under a final name is whole; no scraps."""
    items = list(pystac.Catalog.from_file(out / "catalog.json").get_items())
    assert len(items) == count
    for item in items:
        for entry in item.assets.values():
            with rasterio.open(entry.get_absolute_href()) as source:
                assert source.read().any()
    for path in out.rglob("*.tif"):
        with rasterio.open(path) as source:
            source.checksum(source.count)
    assert not [path for path in out.rglob("*") if ".tmp" in path.name]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_ctrl_c_leaves_what_is_finished(checkpoint, tmp_path):
    out = tmp_path / "out"
    threads = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", RUN, str(checkpoint), str(out)]
    pipe = {"stderr": subprocess.PIPE, "preexec_fn": heed_ctrl_c}
    with subprocess.Popen(command, cwd=ROOT, env=threads, **pipe) as run:
        try:
            deadline = time.monotonic() + 90
            while not list(out.glob("west*/.cog-*")) and time.monotonic() < deadline:
                assert run.poll() is None, run.stderr.read().decode()
                time.sleep(0.02)
            time.sleep(0.3)
            run.send_signal(signal.SIGINT)
            _, stderr = run.communicate(timeout=30)
        finally:
            run.kill()
    assert run.returncode != 0
    assert b"KeyboardInterrupt" in stderr
    check(out, 1)
    assert not list(out.glob("west*/*.tif"))


def test_a_truncated_input_ends_the_run_and_spares_earlier_results(checkpoint, tmp_path):
    items = scenes()
    (row,) = items.index[items["id"] == "west_20220824_a"]
    broken = tmp_path / "red.tif"
    whole = Path(asset("west_20220824_a", "red")[0]).read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    assets = copy.deepcopy(items.at[row, "assets"])
    assets["red"]["href"] = str(broken)
    items.at[row, "assets"] = assets
    with pytest.raises(AssetError, match=r"west_20220824_a, asset red: cannot read"):
        map_pairs(items, event_pairs(), checkpoint, tmp_path / "out", **SMALL)
    check(tmp_path / "out", 1)
    assert not list((tmp_path / "out").glob("west*/*.tif"))
