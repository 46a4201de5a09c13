"""How fast are views made? Beside torchvision, lightly and TorchGeo, in one run.

Images of reflectance are made by seed. All make two views of each, by the recipe of SimCLR: ours
and TorchGeo's a batch at a time in this process, the others a sample at a time in two workers.
They take turns; a figure is the median over rounds, a ratio that of the rounds' ratios.

    python benchmarks/augment.py --json runs/augment.json

Where the time goes: each part of ours is timed alone, on what it gets from the part before.
"""

import argparse
import json
import os
import platform
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from augment_peers import PEERS
from torch import Tensor
from torchgeo.models import resnet50

from rscontrast.atomic import write_text
from rscontrast.augment import PairViews
from rscontrast.augment.operations import Affine, Operation
from rscontrast.augment.operations import run as apply
from rscontrast.augment.views import CACHED
from rscontrast.augment.warp import Warp
from rscontrast.types import SensorContract

STEP_SHARE = 10
"""Of a training step on a GPU, % that views may cost."""

type Row = dict[str, object]


@dataclass
class Run:
    """The settings, the images, and what came out so far."""

    options: argparse.Namespace
    images: Tensor
    rows: list[Row] = field(default_factory=list)

    def add(self, name: str, value: float, unit: str, bound: float | None = None) -> None:
        """Keep and print a row."""
        # A ratio is to be reached, a share is not to be passed.
        holds = None if bound is None else value >= bound if unit == "ratio" else value <= bound
        self.rows.append(
            {"name": name, "value": value, "unit": unit, "bound": bound, "holds": holds}
        )
        print(line(self.rows[-1]), flush=True)


def main() -> None:
    options = parse()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    torch.set_num_threads(options.cores)
    torch.manual_seed(options.seed)
    load = [os.getloadavg()[0]]
    shape = (options.batch, 2, options.bands, options.size, options.size)
    run = Run(options, 0.6 * torch.rand(shape))
    for measure in options.only or MEASURES:
        begun = time.perf_counter()
        MEASURES[measure](run)
        print(f"-- {measure}: {time.perf_counter() - begun:.0f} s", flush=True)
    load.append(os.getloadavg()[0])
    if options.json is not None:
        report = {"settings": settings(options) | {"load": load}, "rows": run.rows}
        write_text(options.json, json.dumps(report, indent=2))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cores", type=int, default=2, help="that the benchmark is held to")
    parser.add_argument("--batch", type=int, default=256, help="images, of which each has 2 views")
    parser.add_argument("--bands", type=int, default=4)
    parser.add_argument("--size", type=int, default=224, help="of an image and of a view, pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--only", nargs="+", choices=MEASURES, help="parts to run; default: all")
    parser.add_argument("--quick", action="store_true", help="small sizes, in under a minute")
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args()
    if options.quick:
        vars(options).update(batch=8, size=64, rounds=2)
    return options


def views_of(options: argparse.Namespace, device: str = "cpu") -> PairViews:
    bands = options.bands
    names = tuple(f"band{number}" for number in range(bands))
    contract = SensorContract(names, 10.0, (0.3,) * bands, (0.2,) * bands)
    return PairViews(contract, options.size, preset="simclr").to(device)


def seconds(what: Callable[[], object], rounds: int, device: str = "cpu") -> float:
    """Median over the rounds, after one that does not count."""
    found = []
    for _ in range(rounds + 1):
        begun = time.perf_counter()
        what()
        if device != "cpu":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - begun)
    return float(np.median(found[1:]))


# Speed.


def speed(run: Run) -> None:
    """Views a second, by turns."""
    views, images = views_of(run.options), run.images
    valid = torch.ones(images.shape[:2] + images.shape[3:], dtype=torch.bool)
    makers: dict[str, Callable[[], int]] = {}
    for name in run.options.peers:
        makers[name] = PEERS[name](images[:, 0], run.options)

    def ours() -> int:
        return views({"image": images, "valid": valid})["image"].shape[:2].numel()

    makers["ours"] = ours
    speeds: dict[str, list[float]] = {name: [] for name in makers}
    for round_ in range(run.options.rounds + 1):
        for name, make in makers.items():
            begun = time.perf_counter()
            done = make()
            taken = time.perf_counter() - begun
            if round_:  # in the first one workers start and memory is asked for
                speeds[name].append(done / taken)
    for name, each in speeds.items():
        run.add(name, float(np.median(each)), "views/s")
    for name in run.options.peers:
        ratios = np.divide(speeds["ours"], speeds[name])
        run.add(f"ours to {name}", float(np.median(ratios)), "ratio", 1)


# Where the time goes.


def parts(run: Run) -> None:
    """Each part alone, on what it gets, of as many images as go through at once."""
    o = run.options
    views = views_of(o)
    images = run.images[: max(1, CACHED // (4 * 2 * o.bands * o.size**2))]
    valid = torch.ones(images.shape[:2] + images.shape[3:], dtype=torch.bool)
    batch: dict[str, Any] = {"image": images, "valid": valid}
    params = views(batch)["params"]
    shape = images.shape[-2:]

    def geometry() -> Tensor:
        readings = views.geometry.readings(shape)
        return Warp(params.matrix, views.geometry.size, shape, readings).continuous(images)

    made = geometry().flatten(0, 1)
    drawn = [{k: v.flatten(0, 1) for k, v in one.items()} for one in params.operations]
    groups: dict[bool, list[tuple[Operation, Any]]] = {True: [], False: []}
    for operation, one in zip(views.operations, drawn, strict=True):
        groups[isinstance(operation, Affine)].append((operation, one))

    def run_group(group: list[tuple[Operation, Any]]) -> Tensor:
        return apply([one for one, _ in group], made, [given for _, given in group])[0]

    usable = torch.ones(len(made), *made.shape[-2:], dtype=torch.bool)
    makers: dict[str, Callable[[], object]] = {
        "geometry": geometry,
        "colour": lambda: run_group(groups[True]),
        "blur": lambda: run_group(groups[False]),
        "normalise": lambda: views.normalise(made, usable),
        "all": lambda: views(batch, params),
    }
    taken: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(10 * o.rounds):
        for name, make in makers.items():
            begun = time.perf_counter()
            make()
            taken[name].append(time.perf_counter() - begun)
    done = {name: float(np.median(each)) for name, each in taken.items()}
    whole = done.pop("all")
    done["valid and the rest"] = whole - sum(done.values())
    for name, part in done.items():
        run.add(f"part: {name}", 100 * part / whole, "%")
    run.add(f"part: all of {len(images)} images", 1e3 * whole, "ms")


# Beside a training step.


def step(run: Run) -> None:
    """What views cost of a ResNet-50's step on them, in bfloat16; it has a bound on a GPU."""
    o = run.options
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not o.quick:
        print("a training step: not run, there is no GPU")
        return
    views, model = views_of(o, device), resnet50(in_chans=o.bands, num_classes=128).to(device)
    batch: dict[str, Any] = {"image": run.images.to(device)}
    batch["valid"] = torch.ones_like(batch["image"][:, :, 0], dtype=torch.bool)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    inputs = views(batch)["image"].flatten(0, 1)

    def train() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = model(inputs).float().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    stepped = seconds(train, o.rounds, device)
    made = seconds(lambda: views(batch), o.rounds, device)
    run.add(f"step: ResNet-50 on {device}", 1e3 * stepped, "ms")
    run.add(f"step: views on {device}", 1e3 * made, "ms")
    bound = STEP_SHARE if device == "cuda" else None
    run.add("step: views to the step", 100 * made / stepped, "%", bound)


MEASURES = {"speed": speed, "parts": parts, "step": step}


# The table.


def line(row: Row) -> str:
    bound = "" if row["bound"] is None else f"{row['bound']:g}"
    holds = {None: "", True: "yes", False: "NO"}[row["holds"]]
    return f"{row['name']:40} {row['value']:10.3f} {row['unit']:8} {bound:>5}  {holds}"


def settings(options: argparse.Namespace) -> dict[str, object]:
    kept = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()}
    names = ("rscontrast", "torch", "torchvision", "kornia", "torchgeo", "lightly", "pillow")
    versions = {name: version(name) for name in names}
    machine = {"python": platform.python_version(), "machine_cores": os.cpu_count()}
    return kept | versions | machine


if __name__ == "__main__":
    # A fork of a process with threads, and TorchGeo's own uses of what is deprecated.
    warnings.simplefilter("ignore")
    main()
