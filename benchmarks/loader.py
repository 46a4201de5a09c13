"""How fast are pairs read? Beside the decoder's own limit, TorchGeo and others, in one run.

Scenes like those of Sentinel-2 are made by seed: 4 bands, uint16, blocks of 1024, deflate with
predictor 2. A pair is 4 bands x 2 dates x 256 x 256 pixels. All readers read the same pairs, from
the page cache, by turns; a figure is the median over rounds, a ratio that of the rounds' ratios.

    python benchmarks/loader.py --json runs/loader.json

rasteret and stackstac hold back rasterio and pandas: --peers names an interpreter that has them.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from multiprocessing import active_children, get_context
from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
from loader_data import BANDS, PATCH, RES, Pair, World, draw_pairs, make_items, make_world
from loader_fresh import MB, fresh
from loader_readers import (
    BATCH,
    Forked,
    Peer,
    aligned,
    decode,
    inflater,
    ours,
    python_with,
    torchgeo,
    touched,
    warped,
)

from rscontrast.atomic import write_text
from rscontrast.stac import write_items

PEERS = {"odc-stac": "odc.stac", "xbatcher": "xbatcher", "stackstac": "stackstac"}
PEERS |= {"rasteret": "rasteret"}
FLAT = 32
"""MB between the second and the last quarter of the patches that still count as flat."""

type Row = dict[str, object]


@dataclass
class Run:
    """The settings, the scenes, and what came out so far."""

    options: argparse.Namespace
    world: World
    rows: list[Row] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    """Readers that did not run, and why."""

    def add(self, name: str, value: float, unit: str, bound: float | None = None) -> None:
        """Keep and print a row."""
        # A ratio is to be reached, seconds and bytes are not to be passed.
        holds = None if bound is None else value >= bound if unit == "ratio" else value <= bound
        self.rows.append(
            {"name": name, "value": value, "unit": unit, "bound": bound, "holds": holds}
        )
        print(line(self.rows[-1]), flush=True)


def main() -> None:
    options = parse()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    with folder(options) as root:
        world = World(str(root), options.size, options.made, options.dates, options.seed)
        begun = time.perf_counter()
        make_world(world, options.cores)
        print(f"scenes: {time.perf_counter() - begun:.0f} s", flush=True)
        run = Run(options, world)
        try:
            for measure in options.only or MEASURES:
                begun = time.perf_counter()
                MEASURES[measure](run)
                print(f"-- {measure}: {time.perf_counter() - begun:.0f} s", flush=True)
        finally:  # readers that wait for their turn would wait forever
            for child in active_children():
                child.terminate()
    for name, why in run.missing.items():
        print(f"{name}: not run, {why}")
    if options.json is not None:
        report = {"settings": settings(options), "missing": run.missing, "rows": run.rows}
        write_text(options.json, json.dumps(report, indent=2))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, help="keep the scenes here; default: a temporary")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cores", type=int, default=2, help="that the benchmark is held to")
    parser.add_argument("--latency", type=float, default=0.05, help="of the server, s a request")
    parser.add_argument("--size", type=int, default=8192, help="of a scene, pixels")
    parser.add_argument("--made", type=int, default=1, help="dates with pixels of their own")
    parser.add_argument("--dates", type=int, default=24, help="dates of a tile")
    parser.add_argument("--far_dates", type=int, default=16, help="dates read with latency")
    parser.add_argument("--pairs", type=int, default=64, help="pairs a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--patches", type=int, default=20_000, help="patches of the memory test")
    parser.add_argument("--scenes", type=int, default=2_000, help="scenes of the memory test")
    parser.add_argument("--peers", nargs="*", default=[], help="interpreters of other readers")
    parser.add_argument("--only", nargs="+", choices=MEASURES, help="parts to run; default: all")
    parser.add_argument("--quick", action="store_true", help="small sizes, in under a minute")
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args()
    if options.quick:
        quick = {"size": 2048, "made": 1, "dates": 4, "far_dates": 2, "pairs": 16, "rounds": 1}
        vars(options).update(quick, patches=160, scenes=100)
    options.far_dates = min(options.far_dates, options.dates)
    return options


@contextmanager
def folder(options: argparse.Namespace) -> Iterator[Path]:
    if options.folder is None:
        with tempfile.TemporaryDirectory(prefix="loader-") as made:
            yield Path(made)
        return
    # Scenes of other settings do not mix.
    name = f"{options.size}-{options.made}-{options.dates}-{options.seed}"
    kept = options.folder / name
    kept.mkdir(parents=True, exist_ok=True)
    yield kept


# Speed.


def local(run: Run) -> None:
    """Files in the page cache."""
    o, world = run.options, run.world
    pairs = rounds(world, o, dates=o.dates)
    readers: Readers = {"decode limit": Forked(decode, world, o.cores)}
    for name, workers in PROCESSES.items():
        readers[f"ours, {name}"] = Forked(ours, world, ["T32"], o.dates, workers)
        readers[f"TorchGeo, {name}"] = Forked(torchgeo, world, world, ["T32"], o.dates, workers)
        whole = Forked(aligned, world, o.dates, workers, 4 * o.pairs, o.seed)
        readers[f"block-aligned, {name}"] = whole
    readers |= peers(run, "local", world, o.dates, o.cores)
    speeds = race(readers, pairs)
    report(run, "local", speeds)
    blocks(run, "local", pairs)
    limit = speeds["decode limit"]
    for name in PROCESSES:
        near, plain = speeds[f"ours, {name}"], speeds[f"TorchGeo, {name}"]
        run.add(f"local: ours to the limit, {name}", ratio(near, limit), "ratio", 0.7)
        run.add(f"local: ours to TorchGeo, {name}", ratio(near, plain), "ratio", 1.6)
        whole = speeds[f"block-aligned, {name}"]
        run.add(f"local: block-aligned to the limit, {name}", ratio(whole, limit), "ratio", 2)
        run.add(f"local: block-aligned to TorchGeo, {name}", ratio(whole, plain), "ratio", 4)


def far(run: Run) -> None:
    """The same files from a server that answers each request late."""
    o = run.options
    pairs = rounds(run.world, o, dates=o.far_dates)
    with server(run) as url:
        world = replace(run.world, root=url)
        readers: Readers = {}
        for name, workers in PROCESSES.items():
            readers[f"ours, {name}"] = Forked(ours, world, ["T32"], o.far_dates, workers)
            plain = Forked(torchgeo, world, run.world, ["T32"], o.far_dates, workers)
            readers[f"TorchGeo, {name}"] = plain
        readers |= peers(run, "latency", world, o.far_dates, THREADS_FAR)
        speeds = race(readers, pairs)
    report(run, "latency", speeds)
    blocks(run, "latency", pairs)
    for name in PROCESSES:
        value = ratio(speeds[f"ours, {name}"], speeds[f"TorchGeo, {name}"])
        run.add(f"latency: ours to TorchGeo, {name}", value, "ratio", 8)


def zones(run: Run) -> None:
    """The second date lies in the other zone and is warped onto the grid of the first."""
    o, world = run.options, run.world
    pairs = rounds(world, o, dates=o.far_dates, share=0.5, zones=True)
    both = ["T32", "T33"]
    readers: Readers = {
        "ours, 1 process": Forked(ours, world, both, o.far_dates, 0),
        "WarpedVRT, 1 process": Forked(warped, world),
        "TorchGeo, 1 process": Forked(torchgeo, world, world, both, o.far_dates, 0),
    }
    # The borders of pixels are resampled by each in its own way.
    speeds = race(readers, pairs, tolerance=0.01)
    report(run, "two zones", speeds)
    near, plain = speeds["ours, 1 process"], speeds["TorchGeo, 1 process"]
    value = ratio(near, speeds["WarpedVRT, 1 process"])
    run.add("two zones: ours to a WarpedVRT", value, "ratio", 5)
    run.add("two zones: ours to TorchGeo", ratio(near, plain), "ratio")


PROCESSES = {"1 process": 0, "2 workers": 2}
THREADS_FAR = 16
"""With latency, for those readers that take a number of threads."""

type Readers = dict[str, Forked | Peer]
type Speeds = dict[str, list[float]]
"""Pairs a second of each reader in each round."""


def rounds(
    world: World,
    options: argparse.Namespace,
    *,
    dates: int,
    share: float = 1.0,
    zones: bool = False,
) -> list[list[Pair]]:
    """Pairs to warm up on, then those of each round."""
    count = max(2 * BATCH, round(options.pairs * share))
    wanted = count * (options.rounds + 1)
    rule = {"seed": options.seed, "dates": dates, "zones": zones}
    with get_context("fork").Pool(1) as child:  # this process opens no file of GDAL's
        drawn = child.apply(draw_pairs, (world, 8 * wanted), rule)
    drawn = unlike(world, drawn)[:wanted]
    warm, *each = [drawn[n : n + count] for n in range(0, wanted, count)]
    return [cover(warm), *each]


def unlike(world: World, pairs: Sequence[Pair]) -> list[Pair]:
    """Those first that touch no block of an earlier one: readers keep blocks, GDAL a gigabyte."""
    known: set[tuple[str, int, int]] = set()
    anew: list[Pair] = []
    again: list[Pair] = []
    for pair in pairs:
        blocks = set(touched(world, pair))
        (again if blocks & known else anew).append(pair)
        known |= set() if blocks & known else blocks
    return anew + again


def cover(pairs: Sequence[Pair]) -> list[Pair]:
    """Batches that open the files, each twice in a row, so that both workers open them."""
    known: set[tuple[str, str]] = set()
    found: list[Pair] = []
    for pair in pairs:
        if not {pair.pre, pair.post} <= known:
            known |= {pair.pre, pair.post}
            found.append(pair)
    found += pairs[: -len(found) % BATCH]
    batches = [found[n : n + BATCH] for n in range(0, len(found), BATCH)]
    return [pair for batch in batches for pair in batch * 2]


def race(readers: Readers, pairs: list[list[Pair]], tolerance: float = 1e-5) -> Speeds:
    """Time the readers by turns, after a look whether they read the same."""
    warm = pairs[0]
    checked = {name: r.run(warm[:BATCH], check=True).get("mean") for name, r in readers.items()}
    means = [mean for mean in checked.values() if mean is not None]
    if np.ptp(means) > tolerance * max(means):
        raise SystemExit(f"the readers do not read the same: {checked}")
    for reader in readers.values():
        # One process has nothing to gain from a batch that comes twice.
        reader.run(warm if reader.most is None else list(dict.fromkeys(warm)))
    speeds: Speeds = {name: [] for name in readers}
    for some in pairs[1:]:
        for name, reader in readers.items():
            asked = some[: reader.most]
            done = reader.run(asked)
            speeds[name].append(done.get("count", len(asked)) / done["seconds"])
    for reader in readers.values():
        reader.close()
    return speeds


def ratio(ours: list[float], theirs: list[float]) -> float:
    return float(np.median(np.divide(ours, theirs)))


def report(run: Run, what: str, speeds: Speeds) -> None:
    for name, each in speeds.items():
        with_what = f" ({inflater()[0]}, {run.options.cores} threads)"
        full = name + with_what * (name == "decode limit")
        run.add(f"{what}: {full}", float(np.median(each)), "pairs/s")


def blocks(run: Run, what: str, pairs: list[list[Pair]]) -> None:
    """How many blocks a pair touches, and how many of them an earlier pair of any round did."""
    every = [block for some in pairs[1:] for pair in some for block in touched(run.world, pair)]
    count = sum(map(len, pairs[1:]))
    run.add(f"{what}: blocks of a pair", len(every) / count, "blocks")
    run.add(f"{what}: of these read before", 100 * (1 - len(set(every)) / len(every)), "%")


def peers(run: Run, what: str, world: World, dates: int, threads: int) -> Readers:
    """Readers that some interpreter has; of the others it is said that none does."""
    pythons = {name: python_with(module, run.options.peers) for name, module in PEERS.items()}
    started = {n: Peer(n, python, world, dates, threads) for n, python in pythons.items() if python}
    found: Readers = {}
    for name in PEERS:
        try:
            if name not in started:
                raise OSError("no interpreter that was named has it")
            started[name].answer()
            found[f"{name}, {threads} threads"] = started[name]
        except OSError as error:
            run.missing[f"{what}: {name}"] = str(error)
    return found


@contextmanager
def server(run: Run) -> Iterator[str]:
    script = str(Path(__file__).with_name("loader_server.py"))
    command = [sys.executable, script, run.world.root, "--latency", str(run.options.latency)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()


# The first patch, and memory.


def start(run: Run) -> None:
    """1,000 items, of which two have files: an index that opened any would fail."""
    o, world = run.options, run.world
    absent = replace(world, root=f"{world.root}/absent")
    frames = [make_items(world, [("T32", day) for day in world.days("T32")[:2]])]
    for place in range(50):
        moved = replace(absent, dates=20, north=place * world.size * RES)
        scenes = [("T32", day) for day in moved.days("T32")]
        frames.append(make_items(moved, scenes[2 if place == 0 else 0 :]))
        frames[-1]["id"] += f"_{place}"
    items = pd.concat(frames, ignore_index=True)
    path = f"{world.root}/thousand.parquet"
    write_items(items, path)
    left, bottom, _, _ = world.bounds("T32")
    job = {"items": path, "count": len(items), "bands": list(BANDS), "side": PATCH * RES}
    job |= {"corner": (left + 2000, bottom + 2000), "day": world.days("T32")[0]}
    runs = []
    for _ in range(o.rounds):
        drop_cache(path, *(world.href("T32", job["day"], band) for band in BANDS))
        runs.append(fresh("cold", job))
    run.add("start: items", len(items), "items")
    run.add("start: first patch", float(np.median([one["seconds"] for one in runs])), "s", 2)
    run.add("start: the imports before", float(np.median([one["imports"] for one in runs])), "s")


def drop_cache(*paths: str) -> None:
    """Ask the system to forget the files' pages: no rights are needed for one's own files."""
    for path in paths:
        with Path(path).open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def memory(run: Run) -> None:
    """Patches of many scenes; of smooth ones, which are quicker to inflate and as large then."""
    o = run.options
    root = Path(run.world.root, "many")
    root.mkdir(exist_ok=True)
    world = World(str(root), 2048, 1, o.scenes, o.seed, noise=0)
    make_world(world, o.cores, ("T32",))
    path = f"{root}/items.parquet"
    write_items(make_items(world, [("T32", day) for day in world.days("T32")]), path)
    job = {
        "items": path,
        "bands": list(BANDS),
        "side": PATCH * RES,
        "corner": world.bounds("T32")[:2],
        "room": world.size - PATCH,
        "days": world.days("T32"),
        "seed": o.seed,
        "pairs": o.patches // 2,
    }
    few = job | {"pairs": o.patches // 20}
    jobs = {"threads": job, "bare": job, "fork": few, "spawn": few}
    with ThreadPoolExecutor(o.cores) as pool:  # the clock does not count here
        found = dict(zip(jobs, pool.map(fresh, jobs, jobs.values()), strict=True))
    threads = found["threads"]
    run.add("memory: threads, beyond the bare process", threads["peak"] / MB, "MB", 500)
    run.add("memory: threads, growth over the patches", threads["growth"] / MB, "MB", FLAT)
    imports = found["bare"]["imports"]
    run.add("memory: what importing torch and TorchGeo costs", imports / MB, "MB")
    for method in ("fork", "spawn"):
        beyond = (found[method]["peak"] - imports) / MB
        run.add(f"memory: worker, {method}, beyond that", beyond, "MB", 300)


MEASURES = {"local": local, "latency": far, "zones": zones, "start": start, "memory": memory}


# The table.


def line(row: Row) -> str:
    bound = "" if row["bound"] is None else f"{row['bound']:g}"
    holds = {None: "", True: "yes", False: "NO"}[row["holds"]]
    return f"{row['name']:52} {row['value']:10.3f} {row['unit']:8} {bound:>5}  {holds}"


def settings(options: argparse.Namespace) -> dict[str, object]:
    kept = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()}
    names = ("rscontrast", "torch", "torchgeo", "rasterio", "numpy")
    versions = {name: version(name) for name in names}
    gdal = {"gdal": rasterio.__gdal_version__, "inflate": inflater()[0]}
    machine = {"python": platform.python_version(), "machine_cores": os.cpu_count()}
    return kept | versions | gdal | machine | {"cache": "files in the page cache, but for start"}


if __name__ == "__main__":
    main()
