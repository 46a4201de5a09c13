"""How near does a map come to the model alone, and what does it take of memory?

Scenes like Sentinel-2's are made by seed: two dates, four bands, in two neighbouring UTM zones.
Each zone's scene is one job: it is read, predicted, blended and written, with the model's forward
on random patches timed before and after. The ratio is of square kilometres a second, both at the
number of patches that the job has. Memory is that of a process of its own whose model is one
convolution, since what a model takes is the model's.

    python benchmarks/mapping.py --json runs/mapping.json
    python benchmarks/mapping.py --side 10980 --only map      # whole scenes; an hour on two cores

By default maps are of ``--side`` 2048 and memory is of ``--memory-side`` 10980 pixels.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import rasterio
import torch
from affine import Affine
from loader_data import BANDS, RES, World, make_items, make_world, torchgeo_dataset
from odc.geo.geobox import GeoBox
from torch import nn

from rscontrast.atomic import write_text
from rscontrast.mapping.bands import Layout, read_bands
from rscontrast.mapping.blend import Window
from rscontrast.mapping.job import Job, Settings
from rscontrast.mapping.model import Model
from rscontrast.mapping.predict import load, map_job
from rscontrast.models import create_segmenter, save_segmenter
from rscontrast.models.damage import PairSegmenter
from rscontrast.types import SensorContract

CLASSES = ("background", "no damage", "minor", "major", "destroyed")
NAMES = tuple(BANDS.values())
CONTRACT = SensorContract(NAMES, RES, (0.18,) * 4, (0.05,) * 4)
LEAST = 0.85
"""Of the bare model's rate that a map is to reach."""
MOST = 2000
"""MB beyond the model that a job may take."""

type Row = dict[str, object]


@dataclass
class Run:
    """The settings, a folder, and what came out so far."""

    options: argparse.Namespace
    folder: Path
    rows: list[Row] = field(default_factory=list)

    def add(
        self, name: str, value: float, unit: str, bound: float | None = None, *, most: bool = False
    ) -> None:
        """Keep and print a row."""
        holds = None if bound is None else value <= bound if most else value >= bound
        row = {"name": name, "value": value, "unit": unit, "bound": bound, "holds": holds}
        self.rows.append(row)
        told = "" if bound is None else f"  {'at most' if most else 'at least'} {bound:g}: {holds}"
        print(f"{name:<52} {value:10.4g} {unit}{told}", flush=True)

    @property
    def settings(self) -> Settings:
        """Of the maps."""
        o = self.options
        return Settings(
            str(self.folder / "model.pt"), o.patch_size, o.overlap, o.window, o.precision,
            batch_size=o.batch, device=o.device, threads=o.cores,
        )  # fmt: skip

    def world(self, side: int) -> World:
        """Scenes of a size."""
        root = self.folder / f"scenes{side}"
        root.mkdir(exist_ok=True)
        return World(str(root), side, 2, 2, self.options.seed)


def main() -> None:
    options = parse()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    if options.child:
        print(json.dumps(child(options)))
        return
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(dir=options.scratch, prefix="mapping-") as scratch:
        run = Run(options, Path(scratch))
        save_model(run)
        for measure in options.only or MEASURES:
            begun = time.perf_counter()
            MEASURES[measure](run)
            print(f"-- {measure}: {time.perf_counter() - begun:.0f} s", flush=True)
    if options.json is not None:
        facts = {k: v for k, v in vars(options).items() if k not in ("json", "child", "scratch")}
        facts |= {"load": [load_before, os.getloadavg()[0]], "torch": torch.__version__}
        facts |= {"gdal": rasterio.__gdal_version__, "torchgeo": version("torchgeo")}
        write_text(options.json, json.dumps({"settings": facts, "rows": run.rows}, indent=2))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cores", type=int, default=2, help="that the benchmark is held to")
    parser.add_argument("--side", type=int, default=2048, help="of a scene, pixels")
    parser.add_argument("--memory-side", type=int, default=10_980, help="where memory is measured")
    parser.add_argument("--patch-size", type=int, default=256)
    parser.add_argument("--overlap", type=int, default=64)
    parser.add_argument("--window", default="cosine")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3, help="forwards of a batch, each time")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--only", nargs="+", choices=MEASURES, help="parts to run; default: all")
    parser.add_argument("--quick", action="store_true", help="small sizes, in under a minute")
    parser.add_argument("--scratch", help="folder for scenes and maps; default: the system's")
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        small = {"side": 300, "memory_side": 600, "patch_size": 64, "overlap": 16, "rounds": 1}
        vars(options).update(small, encoder="tu-resnet10t")
    return options


def save_model(run: Run) -> None:
    torch.manual_seed(run.options.seed)
    module = create_segmenter(run.options.encoder, "unet", len(NAMES), len(CLASSES))
    save_segmenter(run.folder / "model.pt", module, CONTRACT, CLASSES)


def job_of(world: World, tile: str, other: str | None = None, height: int | None = None) -> Job:
    """A scene as one job; the date after is of another tile, in its own CRS, if one is named."""
    first, last = world.days(tile)[0], world.days(other or tile)[-1]
    items = make_items(world, [(tile, first), (other or tile, last)]).to_dict("records")
    transform = Affine.translation(*world.corner(tile)) @ Affine.scale(RES, -RES)
    box = GeoBox((height or world.size, world.size), transform, f"EPSG:{world.epsg(tile)}")
    return Job(f"{world.epsg(tile)}_{other or tile}", box, (items[0],), (items[1],))


def measure_map(run: Run) -> None:
    """Two zones, and a pair across both: beside the bare model."""
    world = run.world(run.options.side)
    make_world(world, run.options.cores)
    model = load(run.settings)
    km2, spent, bare = 0.0, 0.0, 0.0
    for tile in ("T32", "T33"):
        job = job_of(world, tile)
        result, second = both(run, model, job)
        km2, spent, bare = km2 + result.km2, spent + result.seconds, bare + second
    run.add("map: ours", km2 / spent, "km2/s")
    run.add("map: the bare model's forward", km2 / bare, "km2/s")
    run.add(f"map: ours to the bare model, side {world.size}", bare / spent, "ratio", LEAST)
    result, second = both(run, model, job_of(world, "T32", "T33"))
    run.add("map, date after of the other zone: ours", result.km2 / result.seconds, "km2/s")
    run.add(
        "map, date after of the other zone: to the bare model", second / result.seconds, "ratio"
    )


def both(run: Run, model: Model, job: Job):
    """A job's result, and the seconds that its patches take the bare model."""
    before = forward(run, model)
    result = map_job(job, model, run.settings, run.folder / "maps")
    after = forward(run, model)
    return result, patches(job, model) * (before + after) / 2


def patches(job: Job, model: Model) -> int:
    """Those that are predicted; the rows of a job that lies within its scenes are all alike."""
    layout = Layout(job, model)
    return sum(len(band.cols) for band in read_bands(layout, model, None))


@torch.inference_mode()
def forward(run: Run, model: Model) -> float:
    """Seconds a patch takes the bare model, on random numbers."""
    batch = torch.randn(run.options.batch, 2, len(NAMES), model.size, model.size)
    batch = batch.to(model.device)
    spent = []
    for number in range(run.options.rounds + 1):
        begun = time.perf_counter()
        with torch.autocast(model.device.type, torch.bfloat16, enabled=model.half):
            model.module(batch)
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        if number:  # the first one finds its kernels
            spent.append(time.perf_counter() - begun)
    return statistics.median(spent) / run.options.batch


def measure_parts(run: Run) -> None:
    """Processor seconds of a job outside the model, as a share of those in it."""
    world = run.world(run.options.side)
    make_world(world, run.options.cores)
    model, job = load(run.settings), job_of(world, "T32")
    mute = replace(model, module=OneConv(), tta=False)
    parts = {
        "reading": lambda: patches(job, model),
        "reading, blending, writing": lambda: map_job(
            job, mute, run.settings, run.folder / "parts"
        ),
    }
    for name, part in parts.items():
        begun = time.process_time()
        part()
        run.add(f"part: {name}", time.process_time() - begun, "CPU s")
    begun = time.process_time()
    second = forward(run, model)
    count = (run.options.rounds + 1) * run.options.batch
    each = (time.process_time() - begun) / count
    run.add("part: the model", each * patches(job, model), "CPU s")
    run.add("part: the model's time", second * patches(job, model), "s")


class OneConv(PairSegmenter):
    """The least that is a segmenter."""

    def __init__(self) -> None:
        """Take five classes of four bands."""
        arguments = {"classes": len(CLASSES), "in_channels": len(NAMES), "heads": "one"}
        super().__init__(arguments)
        self.conv = nn.Conv2d(2 * len(NAMES), len(CLASSES), 3, padding=1)

    def classify(self, pair: torch.Tensor) -> torch.Tensor:
        """Logits."""
        logits: torch.Tensor = self.conv(pair.flatten(1, 2))
        return logits


def measure_memory(run: Run) -> None:
    """A whole scene, and the half of it, each in a process of its own."""
    world = run.world(run.options.memory_side)
    make_world(world, run.options.cores, ("T32",))
    taken = {}
    for part, height in (("half", world.size // 2), ("whole", world.size)):
        command = [sys.executable, __file__, *sys.argv[1:], "--child", str(run.folder), str(height)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        taken[part] = json.loads(done.stdout.splitlines()[-1])
    whole = taken["whole"]["peak"]
    run.add(f"memory: of a job, side {world.size}, beyond the model", whole, "MB", MOST, most=True)
    ratio = whole / taken["half"]["peak"]
    run.add("memory: of a scene to that of half of it", ratio, "ratio", 1.1, most=True)
    run.add("memory: seconds of that job without a model", taken["whole"]["seconds"], "s")


def child(options: argparse.Namespace) -> dict[str, float]:
    """Peak memory of one job, beyond what the process takes before, MB."""
    folder, height = Path(options.child[0]), int(options.child[1])
    run = Run(options, folder)
    torch.set_num_threads(options.cores)
    window = Window(options.patch_size, options.overlap, options.window)
    model = Model(OneConv().eval(), CONTRACT, CLASSES, window, 1, len(CLASSES), torch.device("cpu"))
    forward(run, model)
    before = peak_memory()
    world = run.world(options.memory_side)
    result = map_job(job_of(world, "T32", height=height), model, run.settings, folder / "memory")
    return {"peak": peak_memory() - before, "seconds": result.seconds}


def peak_memory() -> float:
    """Of this program since it was started, MB; getrusage would count that which started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def measure_peer(run: Run) -> None:
    """TorchGeo's own way on the same scene and model; what it says is stitched by hand."""
    world = run.world(run.options.side)
    make_world(world, run.options.cores)
    model, job = load(run.settings), job_of(world, "T32")
    ours, _ = both(run, model, job)
    begun = time.perf_counter()
    area = torchgeo_way(run, world, model)
    theirs = area / (time.perf_counter() - begun)
    run.add("peer: TorchGeo", theirs, "km2/s")
    run.add("peer: ours to TorchGeo", ours.km2 / ours.seconds / theirs, "ratio")


def torchgeo_way(run: Run, world: World, model: Model) -> float:
    """GriddedPatchSampler, DataLoader, mean of what overlaps, one GeoTIFF; km2."""
    from torch.utils.data import DataLoader
    from torchgeo.samplers import GriddedPatchSampler

    dataset = torchgeo_dataset(world, ["T32"], 2)
    size, stride = run.options.patch_size, run.options.patch_size - run.options.overlap
    sampler = GriddedPatchSampler(dataset, size=size, stride=stride)
    days = [slice(i.left, i.right) for i in sorted(dataset.index.index, key=lambda i: i.left)]
    places = list(sampler)
    left, top = world.bounds("T32")[0], world.bounds("T32")[3]

    class Pairs(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(places)

        def __getitem__(self, number: int) -> torch.Tensor:
            x, y = places[number]
            images = [dataset[x, y, day]["image"] for day in (days[0], days[-1])]
            return torch.stack(images)

    total = np.zeros((len(CLASSES), world.size, world.size), np.float32)
    weight = np.zeros((world.size, world.size), np.float32)
    done = 0
    for batch in DataLoader(Pairs(), batch_size=run.options.batch):
        with torch.inference_mode():
            pair = (batch * 1e-4 - 0.18) / 0.05
            found = model.module.probabilities(model.module(pair)).numpy()
        for said in found:
            x, y = places[done]
            done += 1
            col, row = round((x.start - left) / RES), round((top - y.stop) / RES)
            skip_row, skip_col = max(0, -row), max(0, -col)
            part = said[:, skip_row : world.size - row, skip_col : world.size - col]
            rows = slice(row + skip_row, row + skip_row + part.shape[1])
            cols = slice(col + skip_col, col + skip_col + part.shape[2])
            total[:, rows, cols] += part
            weight[rows, cols] += 1
    total /= np.maximum(weight, 1)
    with rasterio.open(
        run.folder / "peer.tif", "w", driver="GTiff", width=world.size, height=world.size,
        count=len(CLASSES) + 1, dtype="uint8", compress="deflate", tiled=True,
        crs="EPSG:32632", transform=Affine.translation(left, top) @ Affine.scale(RES, -RES),
    ) as raster:  # fmt: skip
        raster.write(np.rint(total * 254).astype(np.uint8), range(1, len(CLASSES) + 1))
        raster.write(total.argmax(axis=0).astype(np.uint8), len(CLASSES) + 1)
    return float((weight > 0).sum()) * RES**2 / 1e6


MEASURES = {
    "map": measure_map,
    "parts": measure_parts,
    "memory": measure_memory,
    "peer": measure_peer,
}


if __name__ == "__main__":
    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
    main()
