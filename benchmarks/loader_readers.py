"""What is timed: readers of pairs, each in a process of its own that waits while others run.

A reader takes a list of pairs and says how long it took. Those of this interpreter are forked
after the imports; the others are started by an interpreter that has them.
"""

import ctypes
import json
import mmap
import os
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import rasterio
import tifffile
import torch
from loader_data import (
    BANDS,
    BLOCK,
    PATCH,
    RES,
    SCALE,
    Pair,
    World,
    make_items,
    torchgeo_dataset,
)
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import from_bounds
from torch.utils.data import DataLoader, Dataset, Sampler
from torchgeo.datasets import stack_samples

from rscontrast.datasets import STACDataset, TemporalPairDataset
from rscontrast.loader import PairLoader
from rscontrast.samplers import BlockAlignedPairSampler

BATCH = 8

type Round = dict[str, float]
"""``seconds`` for the pairs; ``mean`` digital number, where it was asked for."""
type Read = Callable[[list[Pair], bool], Round]
"""Reads the pairs; the mean is taken only if asked, since it costs."""


class Forked:
    """A reader in a forked process, made there: no file is open before the fork."""

    most: int | None = None
    """Pairs of a round that it reads at most."""

    def __init__(self, make: Callable[..., Read], *args: Any, **options: Any) -> None:
        context = get_context("fork")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, make, args, options))
        self.process.start()
        theirs.close()
        self.answer()

    def run(self, pairs: list[Pair], *, check: bool = False) -> Round:
        """Read the pairs."""
        self.pipe.send((pairs, check))
        return self.answer()

    def answer(self) -> Round:
        """Await the end of what was asked."""
        try:
            return self.pipe.recv()
        except EOFError:
            raise SystemExit("a reader failed, see above") from None

    def close(self) -> None:
        """End the process."""
        self.pipe.send(None)
        self.process.join()


def _serve(pipe, make, args, options) -> None:
    read = make(*args, **options)
    pipe.send({})
    while (asked := pipe.recv()) is not None:
        pipe.send(read(*asked))


class Peer:
    """A reader of loader_peers.py in another interpreter, the same to use as ``Forked``.

    Its first answer says that it is ready; so several can get ready at once.
    """

    most = BATCH

    def __init__(self, name: str, python: str, world: World, dates: int, threads: int) -> None:
        job = json.dumps(peer_job(world, dates, threads))
        script = str(Path(__file__).with_name("loader_peers.py"))
        self.said = tempfile.TemporaryFile("w+")  # noqa: SIM115  # it lives as long as the process
        self.process = subprocess.Popen(
            [python, "-W", "ignore", script, name, job],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            text=True,
            env=os.environ | QUIET,
        )

    def run(self, pairs: list[Pair], *, check: bool = False) -> Round:
        """Read the pairs; the mean always comes along."""
        asked = [
            {
                "bounds": (p.x, p.y, p.x + PATCH * RES, p.y + PATCH * RES),
                "pre": "_".join(p.pre),
                "post": "_".join(p.post),
            }
            for p in pairs
        ]
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        return self.answer()

    def answer(self) -> Round:
        """Await the end of what was asked."""
        line = self.process.stdout.readline()
        if not line:
            self.said.seek(0)
            raise OSError((self.said.read().splitlines() or ["it ended"])[-1])
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


QUIET = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_CACHEMAX": "256"}
"""For those that set nothing themselves.

Else GDAL lists the folder of each file, a request more; and a dozen of processes that wait, each
with a cache of 5 % of the memory, would push the files out of the page cache.
"""


def peer_job(world: World, dates: int, threads: int) -> dict[str, Any]:
    scenes = [("T32", day) for day in world.days("T32")[:dates]]
    items = make_items(world, scenes)
    return {
        "root": world.root,
        "bands": list(BANDS),
        "patch": PATCH,
        "res": RES,
        "block": BLOCK,
        "epsg": world.epsg("T32"),
        "bounds": world.bounds("T32"),
        "threads": threads,
        "scenes": [
            {
                "id": item["id"],
                "bbox": list(item["geometry"].bounds),
                "hrefs": {key: asset["href"] for key, asset in item["assets"].items()},
                "properties": {
                    "proj:code": item["proj:code"],
                    "proj:epsg": world.epsg("T32"),
                    "proj:shape": list(item["proj:shape"]),
                    "proj:transform": [float(n) for n in item["proj:transform"]],
                },
            }
            for item in items.to_dict("records")
        ],
    }


# Loaders.


class Draws(Sampler):
    """The slices of the round, drawn before."""

    def __init__(self) -> None:
        self.slices: Sequence[Any] = ()

    def __iter__(self) -> Iterator[Any]:
        """Yield them in their order."""
        return iter(self.slices)

    def __len__(self) -> int:
        """Count them."""
        return len(self.slices)


def ours(world: World, tiles: Sequence[str], dates: int, workers: int) -> Read:
    dataset, draws = our_dataset(world, tiles, dates), Draws()
    return timed(our_loader(dataset, draws, workers), draws, SCALE)


def our_dataset(world: World, tiles: Sequence[str], dates: int):
    scenes = [(tile, day) for tile in tiles for day in world.days(tile)[:dates]]
    dataset = STACDataset(make_items(world, scenes), bands=list(BANDS))
    if dataset.crs.to_epsg() != world.epsg("T32"):
        raise SystemExit(f"pairs are asked for in zone 32, not in {dataset.crs}")
    return TemporalPairDataset(dataset)


def our_loader(dataset, sampler, workers: int, **options: Any):
    keep = {"persistent_workers": True} if workers else {}
    return PairLoader(
        dataset, batch_size=BATCH, sampler=sampler, num_workers=workers, **keep, **options
    )


def aligned(world: World, dates: int, workers: int, length: int, seed: int) -> Read:
    """Patches of its own draw: eight of each visited block."""
    dataset = our_dataset(world, ["T32"], dates)
    sampler = BlockAlignedPairSampler(dataset, size=PATCH, length=length, generator=seed)
    return timed(our_loader(dataset, sampler, workers), None, SCALE)


class Both(Dataset):
    """Two dates of a TorchGeo dataset, the least that makes a pair of it."""

    def __init__(self, dataset) -> None:
        self.dataset = dataset

    def __getitem__(self, index):
        """Read both dates."""
        x, y, times = index
        return {"image": torch.stack([self.dataset[x, y, t]["image"] for t in times])}


def torchgeo(world: World, local: World, tiles: Sequence[str], dates: int, workers: int) -> Read:
    os.environ |= QUIET
    dataset, draws = torchgeo_dataset(local, tiles, dates), Draws()
    # Its index opens every file; over HTTP it would hang in a forked worker after that.
    paths = dataset.index["filepath"].str.replace(local.root, world.root, regex=False)
    dataset.index["filepath"] = paths
    loader = DataLoader(
        Both(dataset),
        batch_size=BATCH,
        sampler=draws,
        num_workers=workers,
        collate_fn=stack_samples,
        persistent_workers=workers > 0,
    )
    return timed(loader, draws, 1)


def timed(loader, draws: Draws | None, scale: float) -> Read:
    def read(pairs: list[Pair], check: bool) -> Round:
        if draws is not None:
            draws.slices = [pair.slices() for pair in pairs]
        begun, count, means = time.perf_counter(), 0, []
        for batch in loader:
            count += len(batch["image"])
            if check:
                means.append(float(batch["image"].double().mean()) / scale)
        seconds = time.perf_counter() - begun
        if draws is not None and count != len(pairs):
            raise SystemExit(f"{count} pairs came of {len(pairs)}")
        mean = {"mean": sum(means) / len(means)} if check and draws is not None else {}
        return {"seconds": seconds, "count": count} | mean

    return read


# Below the loaders.


def warped(world: World) -> Read:
    """One cached WarpedVRT a file of the other zone, a plain handle a file of the first."""
    os.environ |= QUIET
    opened: dict[str, Any] = {}
    x, y = world.corner("T32")
    crs = f"EPSG:{world.epsg('T32')}"
    grid = rasterio.Affine.translation(x, y) @ rasterio.Affine.scale(RES, -RES)

    def handle(tile: str, day: str, band: str):
        href = world.href(tile, day, band)
        if href not in opened:
            file = rasterio.open(href)
            same = tile == "T32"
            options = {"transform": grid, "width": world.size, "height": world.size}
            bilinear = {"crs": crs, "resampling": Resampling.bilinear}
            opened[href] = file if same else WarpedVRT(file, **bilinear, **options)
        return opened[href]

    def read(pairs: list[Pair], check: bool) -> Round:
        begun, total = time.perf_counter(), 0.0
        for pair in pairs:
            side = PATCH * RES
            window = from_bounds(pair.x, pair.y, pair.x + side, pair.y + side, grid)
            for scene in (pair.pre, pair.post):
                for band in BANDS:
                    pixels = torch.from_numpy(handle(*scene, band).read(1, window=window))
                    total += float(pixels.float().mean()) if check else 0
        seconds = time.perf_counter() - begun
        return {"seconds": seconds, "mean": total / len(pairs) / 2 / len(BANDS)}

    return read


def decode(world: World, threads: int) -> Read:
    """Inflate the blocks that the pairs touch, and nothing else; reading them is not timed."""
    pages: dict[str, Any] = {}
    _, inflate = inflater()

    def page(href: str):
        if href not in pages:
            with tifffile.TiffFile(href) as file:
                one = file.pages.first
                where = (one.dataoffsets, one.databytecounts, one.chunked)
            with Path(href).open("rb") as file:
                pages[href] = (mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), *where)
        return pages[href]

    def block(href: str, row: int, col: int) -> bytes:
        data, offsets, counts, (_, across) = page(href)
        number = row * across + col
        return data[offsets[number] : offsets[number] + counts[number]]

    def read(pairs: list[Pair], _: bool) -> Round:
        seconds, count = 0.0, 0
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(pairs), 16):  # all of them would not fit small memories
                some = pairs[start : start + 16]
                found = [block(*where) for pair in some for where in touched(world, pair)]
                begun = time.perf_counter()
                list(pool.map(inflate, found))
                seconds += time.perf_counter() - begun
                count += len(found)
        return {"seconds": seconds, "blocks": count}

    return read


def touched(world: World, pair: Pair) -> Iterator[tuple[str, int, int]]:
    """Blocks under a pair in zone 32: file, row and column."""
    x, y = world.corner("T32")
    left, top = round((pair.x - x) / RES), round((y - pair.y) / RES) - PATCH
    rows = range(top // BLOCK, (top + PATCH - 1) // BLOCK + 1)
    cols = range(left // BLOCK, (left + PATCH - 1) // BLOCK + 1)
    for scene in (pair.pre, pair.post):
        for band in BANDS:
            yield from ((world.href(*scene, band), row, col) for row in rows for col in cols)


def inflater() -> tuple[str, Callable[[bytes], None]]:
    """Name and function of what inflates one block: GDAL's own libdeflate, of rasterio's wheel."""
    folder = Path(rasterio.__file__).parents[1] / "rasterio.libs"
    found = sorted(folder.glob("libdeflate*")) or ["libdeflate.so.0"]
    try:
        library = ctypes.CDLL(str(found[0]))  # gives the GIL away while it runs
    except OSError:
        return "zlib", lambda data: bool(zlib.decompress(data))
    library.libdeflate_alloc_decompressor.restype = ctypes.c_void_p
    mine = threading.local()
    size = BLOCK * BLOCK * 2

    def inflate(data: bytes) -> None:
        if not hasattr(mine, "out"):
            mine.tool = ctypes.c_void_p(library.libdeflate_alloc_decompressor())
            mine.out = ctypes.create_string_buffer(size)
        lengths = ctypes.c_size_t(len(data)), ctypes.c_size_t(size)
        failed = library.libdeflate_zlib_decompress(
            mine.tool, data, lengths[0], mine.out, lengths[1], None
        )
        if failed:
            raise SystemExit("a block cannot be inflated")

    return "libdeflate", inflate


def python_with(module: str, pythons: Sequence[str]) -> str | None:
    """The first interpreter that has a module."""
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    for python in (sys.executable, *pythons):
        if subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0:
            return python
    return None
