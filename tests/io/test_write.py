import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from rscontrast.errors import InputError, WriteError
from rscontrast.io import CogWriter
from tests.world import grid

BIG, SMALL = grid(shape=(700, 900)), grid(shape=(40, 50))
ROOT = Path(__file__).parents[2]


def writer(path, box=BIG, **more):
    options = {"dtype": "uint16", "nodata": 65535, "bands": ("a", "b")} | more
    return CogWriter(path, box, **options)


def pixels(box, seed=0):
    return np.random.default_rng(seed).integers(0, 60000, (2, *box.shape)).astype("uint16")


@pytest.mark.parametrize("box", [BIG, SMALL], ids=["big", "small"])
def test_a_cog_with_equal_pixels(tmp_path, box):
    path, truth = tmp_path / "deep" / "a.tif", pixels(box)
    with writer(path, box, scale=0.5, tags={"model": "m"}) as out:
        for row in range(0, box.shape[0], 123):
            for col in range(0, box.shape[1], 321):
                out.write(truth[:, row : row + 123, col : col + 321], row, col)
        assert not path.exists()
    assert list(path.parent.iterdir()) == [path]
    with rasterio.open(path) as raster:
        assert np.array_equal(raster.read(), truth)
        assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert raster.block_shapes == [(256, 256)] * 2
        assert bool(raster.overviews(1)) == (max(box.shape) > 512)
        assert raster.crs.to_epsg() == 32632
        assert raster.transform == box.transform
        assert raster.nodata == 65535
        assert raster.descriptions == ("a", "b")
        assert raster.scales == (0.5, 0.5)
        assert raster.tags()["model"] == "m"


def test_pixels_never_written_are_nodata(tmp_path):
    with writer(tmp_path / "a.tif", nodata=7) as out:
        out.write(np.ones((2, 10, 20), "uint16"), 300, 400)
    with rasterio.open(tmp_path / "a.tif") as raster:
        whole = raster.read()
        assert (raster.read(window=Window(400, 300, 20, 10)) == 1).all()
    assert (whole == 1).sum() == 2 * 10 * 20
    assert (whole == 7).sum() == whole.size - 2 * 10 * 20


def test_a_mask_colours_and_statistics_and_the_same_bytes_again(tmp_path):
    truth = np.random.default_rng(0).choice([0, 1, 2], (1, *BIG.shape)).astype("uint8")
    valid = np.zeros(BIG.shape, bool)
    valid[100:500, 50:800] = True
    colours = {0: (9, 8, 7, 255), 1: (10, 20, 30, 255), 2: (200, 100, 50, 255)}
    options = {"dtype": "uint8", "nodata": 255, "bands": ("a",), "mask": True}
    for name in ("a.tif", "b.tif"):
        with writer(tmp_path / name, colours=colours, statistics=True, **options) as out:
            for row in range(0, 600, 200):
                rows = slice(row, row + 200)
                out.write(truth[:, rows], row, 0, valid[rows])
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.tif", "b.tif"]
    with rasterio.open(tmp_path / "a.tif") as raster:
        assert np.array_equal(raster.dataset_mask() == 255, valid)
        assert raster.mask_flag_enums[0] == [rasterio.enums.MaskFlags.per_dataset]
        assert {k: raster.colormap(1)[k] for k in colours} == colours
        told = {k: float(v) for k, v in raster.tags(1).items() if k.startswith("STATISTICS")}
        inside = truth[0][valid]
        assert told["STATISTICS_MEAN"] == pytest.approx(inside.mean())
        assert told["STATISTICS_STDDEV"] == pytest.approx(inside.std())
        assert (told["STATISTICS_MINIMUM"], told["STATISTICS_MAXIMUM"]) == (0, 2)
    with rasterio.open(tmp_path / "a.tif", overview_level=0) as small:
        assert 0.4 < (small.dataset_mask() == 255).mean() / valid.mean() < 1.1


def test_an_unknown_resampling_is_refused(tmp_path):
    with pytest.raises(InputError, match="resampling: got 'cubic'"):
        writer(tmp_path / "a.tif", resampling="cubic")


def test_overviews_never_invent_classes(tmp_path):
    truth = np.random.default_rng(0).choice([0, 9, 200], (1, *BIG.shape)).astype("uint8")
    with writer(tmp_path / "a.tif", dtype="uint8", nodata=255, bands=["class"]) as out:
        out.write(truth, 0, 0)
    with rasterio.open(tmp_path / "a.tif") as raster:
        small = raster.read(1, out_shape=(350, 450))
    assert set(np.unique(small)) <= {0, 9, 200}


@pytest.mark.parametrize("former", [False, True])
@pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt])
def test_an_unfinished_raster_leaves_nothing(tmp_path, stop, former):
    path = tmp_path / "a.tif"
    if former:
        path.write_bytes(b"former")
    with pytest.raises(stop), writer(path) as out:  # noqa: PT012
        out.write(pixels(BIG), 0, 0)
        raise stop
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([b"former"] if former else [])


def test_a_finished_raster_replaces_the_former(tmp_path):
    for seed in (0, 1):
        with writer(tmp_path / "a.tif", SMALL) as out:
            out.write(pixels(SMALL, seed), 0, 0)
        with rasterio.open(tmp_path / "a.tif") as raster:
            assert np.array_equal(raster.read(), pixels(SMALL, seed))


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "f").write_text("a file")
    with pytest.raises(WriteError, match=r"a\.tif: cannot be begun"), writer(tmp_path / "f/a.tif"):
        pass


def test_a_raster_that_cannot_be_begun_leaves_no_scratch(tmp_path):
    with (
        pytest.raises(ValueError, match="nodata"),
        writer(tmp_path / "a.tif", dtype="uint8", nodata=-5),
    ):
        pass
    assert not list(tmp_path.iterdir())


CHILD = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from rscontrast.errors import WriteError
from rscontrast.io import CogWriter
from rscontrast.stac import pair_items, search, write_items, write_pairs
from rscontrast.atomic import write_text
from tests.world import grid

folder, catalog = Path(sys.argv[1]), sys.argv[2]
items = search(catalog, collections=["scenes"])
pairs = pair_items(items)


def cog(side, path):
    noise = np.random.default_rng(0).integers(0, 60_000, (1, side, side)).astype("uint16")
    box = grid(shape=(side, side))
    with CogWriter(path, box, dtype="uint16", nodata=0, bands=["a"]) as out:
        out.write(noise, 0, 0)


jobs = {
    "text.json": lambda path: write_text(path, "x" * 10_000),
    "items.parquet": lambda path: write_items(items, path),
    "pairs.parquet": lambda path: write_pairs(pairs, path),
    "writing.tif": lambda path: cog(700, path),
    "closing.tif": lambda path: cog(40, path),
}
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
for name, job in jobs.items():
    for former in (False, True):
        path = folder / str(former) / name
        try:
            job(path)
        except WriteError as error:
            print(name, str(error).startswith(f"{path}: not written"))
"""
NAMES = ["text.json", "items.parquet", "pairs.parquet", "writing.tif", "closing.tif"]


def test_full_disk(tmp_path, sample_catalog):
    """A real limit on the size of files, in a process of its own."""
    for former in (False, True):
        (tmp_path / str(former)).mkdir()
    for name in NAMES:
        (tmp_path / "True" / name).write_bytes(b"former")
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path), str(sample_catalog)],
        capture_output=True, text=True, timeout=120, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{name} True" for name in NAMES for _ in range(2)]
    assert list((tmp_path / "False").iterdir()) == []
    left = {path.name: path.read_bytes() for path in (tmp_path / "True").iterdir()}
    assert left == dict.fromkeys(NAMES, b"former")


def test_disk_that_fills_between_the_raster_and_the_cog(tmp_path, monkeypatch):
    """The plain raster fits and the COG does not: GDAL's own error must come out as ours."""
    import resource
    import signal

    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(WriteError, match="not wr"), writer(tmp_path / "a.tif") as out:  # noqa: PT012
            out.write(pixels(BIG), 0, 0)
            out.raster.close()
            out.raster = rasterio.open(out.folder / "plain.tif", "r+")
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, former)
    assert not list(tmp_path.iterdir())
