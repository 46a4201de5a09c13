"""A cache: the same samples bit for bit, whole or not there, from any process."""

import json
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from rscontrast.caching import cache
from rscontrast.datasets import CachedPairs, STACDataset, TemporalPairDataset
from rscontrast.datasets.cache import SHARD, write_cache
from rscontrast.errors import AssetError, InputError, WriteError
from rscontrast.loader import PairLoader
from tests.interrupt import heed_ctrl_c
from tests.sample_world import BANDS, ROOT, event_pairs, scenes

TOLD = {
    "contract": {"bands": ["a"], "res": 10.0, "mean": [0.0], "std": [1.0]},
    "seed": 0, "rules": {"patch_size": 4}, "statistics": {},
}  # fmt: skip


def made(count, seed=0, size=40):
    """Samples of which the values would show the least loss."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        image = rng.normal(size=(2, 1, size, size)).astype(np.float32)
        image[0, 0, 0, :4] = [-0.0, np.nan, np.inf, 1e-45]
        yield {
            "image": torch.from_numpy(image),
            "valid": torch.from_numpy(rng.random((2, size, size)) < 0.5),
            "dates": torch.tensor([1.7e9 + number, 1.7e9], dtype=torch.float64),
            "tries": torch.tensor(number),
        }


def bits(sample):
    return {
        name: (str(value.dtype), tuple(value.shape), value.numpy().tobytes())
        for name, value in sample.items()
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two shards, of which the second is not full."""
    path = tmp_path_factory.mktemp("store") / "made.zarr"
    write_cache(path, made(SHARD + 44), SHARD + 44, lambda: TOLD)
    return path


@pytest.fixture
def copied(store, tmp_path):
    """A store that may be broken."""
    target = tmp_path / "copy.zarr"
    for path in store.rglob("*"):
        if path.is_file():
            other = target / path.relative_to(store)
            other.parent.mkdir(parents=True, exist_ok=True)
            other.write_bytes(path.read_bytes())
    return target


def test_every_sample_comes_back_bit_for_bit(store):
    cached = CachedPairs(store)
    assert len(cached) == SHARD + 44
    for number, sample in enumerate(made(SHARD + 44)):
        assert bits(cached[number]) == bits({"index": torch.tensor(number), **sample})
    assert bits(cached[-1]) == bits({"index": torch.tensor(SHARD + 43), **sample})
    with pytest.raises(IndexError):
        cached[SHARD + 44]


def test_a_store_of_zeros_is_written_too(tmp_path):
    """Else a lost file would be read as zeros."""
    zeros = [{"image": torch.zeros(2, 1, 40, 40)}] * 3
    write_cache(tmp_path / "z.zarr", zeros, 3, lambda: TOLD)
    assert (tmp_path / "z.zarr/image/c/0/0/0/0/0").is_file()
    found = CachedPairs(tmp_path / "z.zarr")[2]
    assert bits(found) == bits({"index": torch.tensor(2), **zeros[2]})


def test_one_file_a_shard_and_chunk_a_sample(store):
    assert sorted(p.name for p in (store / "image" / "c").iterdir()) == ["0", "1"]
    assert len([p for p in store.rglob("*") if p.is_file()]) == 2 * 4 + 4 + 1
    told = json.loads((store / "image" / "zarr.json").read_text())
    assert told["zarr_format"] == 3
    (codec,) = told["codecs"]
    assert codec["name"] == "sharding_indexed"
    assert codec["configuration"]["chunk_shape"] == [1, 2, 1, 40, 40]
    blosc = codec["configuration"]["codecs"][1]["configuration"]
    assert (blosc["cname"], blosc["shuffle"]) == ("zstd", "shuffle")


def test_a_sample_may_be_changed_by_who_reads_it(store):
    cached = CachedPairs(store)
    before = bits(cached[0])
    for value in cached[0].values():
        value.zero_()
    assert bits(cached[0]) == before


def test_a_pickle_is_the_path(store):
    cached = CachedPairs(store)
    first = bits(cached[3])
    sent = pickle.dumps(cached)
    assert len(sent) < 1000
    assert bits(pickle.loads(sent)[3]) == first


@pytest.mark.parametrize("context", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_worker_processes_read_it(store, context):
    cached = CachedPairs(store)
    first = bits(cached[0])  # so that whatever reading starts is there before the fork
    draws = [7, 299, 0, 255, 256, 7]
    loader = DataLoader(
        cached, batch_size=None, sampler=draws, num_workers=1, multiprocessing_context=context
    )
    found = [bits(sample) for sample in loader]
    assert found == [bits(cached[number]) for number in draws]
    assert found[2] == first


def test_threads_read_it(store):
    cached = CachedPairs(store)
    order = np.random.default_rng(0).permutation(len(cached)).tolist()
    found = [bits(s) for s in PairLoader(cached, batch_size=None, sampler=order, threads=8)]
    assert found == [bits(cached[number]) for number in order]


def delete(path):
    path.unlink()


def halve(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def flip(path):
    data = bytearray(path.read_bytes())
    data[100] ^= 255
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("image/c/1/0/0/0/0", delete, "image/c/1/0/0/0/0 is missing"),
        ("dates/c/0/0", delete, "dates/c/0/0 is missing"),
        ("image/c/0/0/0/0/0", halve, "image of sample 0"),
        ("image/c/0/0/0/0/0", flip, "image of sample 0: .*checksum"),
        ("dates/c/0/0", flip, "dates of sample 0: .*checksum"),
        ("zarr.json", delete, "copy.zarr"),
        ("zarr.json", halve, "copy.zarr"),
        ("image/zarr.json", halve, "copy.zarr"),
    ],
)
def test_what_is_broken_is_told(copied, file, change, words):
    change(copied / file)
    with pytest.raises(
        AssetError, match=f"{words}.*make the cache .again. with `rscontrast cache`"
    ):
        CachedPairs(copied)[0]


def test_a_file_that_is_lost_later_is_no_zeros(copied):
    cached = CachedPairs(copied)
    (copied / "image/c/1/0/0/0/0").unlink()
    cached[0]
    with pytest.raises(AssetError, match="image of sample 299"):
        cached[299]


def test_what_is_no_cache_is_told(tmp_path, copied):
    with pytest.raises(AssetError, match="nowhere"):
        CachedPairs(tmp_path / "nowhere")
    told = json.loads((copied / "zarr.json").read_text())
    told["attributes"]["rscontrast"]["format"] = 99
    (copied / "zarr.json").write_text(json.dumps(told))
    with pytest.raises(AssetError, match="not a cache of pairs of format 1"):
        CachedPairs(copied)


def uneven():
    yield from made(2)
    yield next(made(1, size=8))


@pytest.mark.parametrize(
    ("samples", "words"),
    [(lambda: made(2), "count: got 3"), (uneven, "sample: got"), (list, "samples: got")],
)
def test_nothing_is_left_of_a_store_that_cannot_be_written(samples, words, tmp_path):
    with pytest.raises(InputError, match=words):
        write_cache(tmp_path / "s.zarr", samples(), 3, lambda: TOLD)
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match=r"out: got .*mine'; allowed: a new name"):
        write_cache(tmp_path / "mine", made(1), 1, lambda: TOLD)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "x"


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(WriteError, match=r"file/s\.zarr: not written"):
        write_cache(tmp_path / "file" / "s.zarr", made(1), 1, lambda: TOLD)


RUN = """
import sys
import torch
from rscontrast.datasets.cache import write_cache
samples = ({"image": torch.randn(2, 1, 40, 40)} for _ in range(10**6))
write_cache(sys.argv[1], samples, 10**6, dict)
"""


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_run_leaves_no_store(end, tmp_path):
    out = tmp_path / "s.zarr"
    command = [sys.executable, "-c", RUN, str(out)]
    pipe = {"stderr": subprocess.PIPE, "preexec_fn": heed_ctrl_c}
    with subprocess.Popen(command, cwd=ROOT, **pipe) as run:
        try:
            deadline = time.monotonic() + 90
            while not list(tmp_path.glob(".s.*/image/c/0")) and time.monotonic() < deadline:
                assert run.poll() is None, run.stderr.read().decode()
                time.sleep(0.05)
            run.send_signal(end)
            run.communicate(timeout=60)
        finally:
            run.kill()
    assert run.returncode != 0
    assert not out.exists()
    if end == signal.SIGINT:
        assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    out = tmp_path_factory.mktemp("drawn") / "pairs.zarr"
    options = {"bands": BANDS, "patch_size": 32, "by": "place", "min_valid": 0.9, "progress": False}
    return cache(scenes(), event_pairs(), out, length=12, seed=5, **options)


def test_the_stage_keeps_what_the_dataset_gives(drawn):
    """Each sample says where and when it is: there the files are read again."""
    import pandas as pd

    cached, pairs = CachedPairs(drawn), TemporalPairDataset(STACDataset(scenes(), bands=BANDS))
    assert len(cached) == 12
    for sample in cached:
        xmin, xmax, dx, ymin, ymax, dy = sample["bounds"][:6].tolist()
        times = [pd.Timestamp(date, unit="s") for date in sample["dates"].tolist()]
        day = pd.Timedelta("1h")
        place = slice(xmin, xmax, dx), slice(ymin, ymax, dy)
        again = pairs[(*place, tuple(slice(time, time + day) for time in times))]
        for name in ("image", "valid", "transform"):
            assert bits({name: sample[name]}) == bits({name: again[name]})
        assert sample["valid_share"] >= 0.9 or sample["tries"] == 5


def test_what_is_told_of_a_cache(drawn):
    cached = CachedPairs(drawn)
    assert cached.contract.bands == BANDS
    assert cached.contract.res == pytest.approx(2.5)
    told = cached.attributes
    assert told["seed"] == 5
    assert told["rules"]["patch_size"] == 32
    assert told["rules"]["min_valid"] == 0.9
    every = [(s["image"], s["valid"]) for s in cached]
    pixels = torch.cat([i.movedim(1, 0)[:, v] for i, v in every], dim=1).double()
    np.testing.assert_allclose(cached.contract.mean, pixels.mean(dim=1), rtol=1e-9)
    np.testing.assert_allclose(cached.contract.std, pixels.std(dim=1, correction=0), rtol=1e-9)
    assert told["statistics"]["pixels"] == pixels.shape[1]
    assert told["statistics"]["patches"] == 12


def test_a_seed_repeats_the_cache(drawn, tmp_path):
    options = {"bands": BANDS, "patch_size": 32, "by": "place", "min_valid": 0.9, "progress": False}
    again = cache(
        scenes(), event_pairs(), tmp_path / "a.zarr", length=12, seed=5, threads=1, **options
    )
    for one, two in zip(CachedPairs(drawn), CachedPairs(again), strict=True):
        assert bits(one) == bits(two)


def test_numbers_of_numpy_are_told_too(tmp_path):
    numbers = {"length": np.int64(2), "patch_size": np.int64(16), "seed": np.int64(3)}
    numbers |= {"register": np.float32(2), "tries": np.int64(2)}
    options = {"bands": BANDS, "progress": False}
    told = CachedPairs(
        cache(scenes(), event_pairs(), tmp_path / "n.zarr", **numbers, **options)
    ).attributes
    assert (told["samples"], told["seed"], told["statistics"]["seed"]) == (2, 3, 3)
    assert told["rules"]["patch_size"] == 16
    assert told["rules"]["register"] == 2.0


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"seed": -1}, "seed: got -1"),
        ({"seed": "x"}, "seed: got 'x'"),
        ({"weights_by": object()}, "rules: got .*numbers and text"),
    ],
)
def test_what_cannot_be_told_is_refused_before_anything_is_read(more, words, tmp_path):
    nothing = scenes().iloc[:0]
    with pytest.raises(InputError, match=words):
        cache(nothing, event_pairs(), tmp_path / "c.zarr", bands=BANDS, progress=False, **more)


def test_a_stage_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match="length"):
        cache(scenes(), event_pairs(), tmp_path / "c.zarr", bands=BANDS, length=0)
    with pytest.raises(InputError, match="size"):
        cache(
            scenes(), event_pairs(), tmp_path / "c.zarr", bands=BANDS, patch_size=4096,
            length=2, progress=False,
        )  # fmt: skip
    assert not list(tmp_path.iterdir())
