"""How fast is a pretraining? Each method, and TorchGeo's own tasks, on the same data in one run.

Pairs of images of reflectance are made by seed and held in memory; all are read by the same loader
and trained by the same Trainer: ours augments after the transfer to the device, TorchGeo's tasks
in their step. The methods take turns; a figure is the median over rounds.

    python benchmarks/pretrain.py --json runs/pretrain.json

On a GPU: ResNet-50, 224 pixels, bfloat16, channels_last, plain and compiled. Without one it runs
small on the CPU, says so, and has no bound.
"""

import argparse
import json
import logging
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import torchgeo.tasks
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import Dataset
from torch.utils.flop_counter import FlopCounterMode

import rscontrast.tasks
from rscontrast.atomic import write_text
from rscontrast.augment import PairViews
from rscontrast.loader import PairLoader
from rscontrast.losses import LossOutput
from rscontrast.types import SensorContract

BOUND = 15
"""Of a step on a GPU, % that augmentation and loss together may cost."""
PEAK = 989.0
"""TFLOP/s that an H100 or H200 does in bfloat16 without sparsity, as its maker says."""
WARM = 3
"""Steps that do not count: kernels are chosen and memory is asked for."""

type Row = dict[str, object]
type Make = Callable[[argparse.Namespace], pl.LightningModule]


@dataclass
class Run:
    """The settings, and what came out so far."""

    options: argparse.Namespace
    rows: list[Row] = field(default_factory=list)

    def add(self, name: str, value: float, unit: str, bound: float | None = None) -> None:
        """Keep and print a row."""
        # A ratio is to be reached, a share is not to be passed; small on a CPU neither says much.
        bound = bound if self.options.device == "cuda" else None
        holds = None if bound is None else value >= bound if unit == "ratio" else value <= bound
        self.rows.append(
            {"name": name, "value": value, "unit": unit, "bound": bound, "holds": holds}
        )
        print(line(self.rows[-1]), flush=True)


def main() -> None:
    options = parse()
    if options.device == "cpu":
        print("no GPU here: small, on the CPU; the figures say nothing of a GPU")
    torch.set_num_threads(options.cores)
    torch.set_float32_matmul_precision("high")
    load = [os.getloadavg()[0]]
    run = Run(options)
    measure(run)
    load.append(os.getloadavg()[0])
    if options.json is not None:
        report = {"settings": settings(options) | {"load": load}, "rows": run.rows}
        write_text(options.json, json.dumps(report, indent=2))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)), help="threads")
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--batch", type=int, default=256, help="pairs, of two images each")
    parser.add_argument("--bands", type=int, default=4)
    parser.add_argument("--size", type=int, default=224, help="of a patch and of a view, pixels")
    parser.add_argument("--steps", type=int, default=20, help="that count, in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--queue", type=int, default=65_536, help="keys of MoCo")
    parser.add_argument("--compile", choices=("no", "yes", "both"), default="both")
    parser.add_argument("--peak", type=float, default=PEAK, help="TFLOP/s of the device")
    parser.add_argument("--only", nargs="+", choices=[*OURS, *THEIRS], help="default: all")
    parser.add_argument("--quick", action="store_true", help="small sizes, in under a minute")
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args()
    options.device = "cuda" if torch.cuda.is_available() else "cpu"
    options.warm = WARM
    if options.quick or options.device == "cpu":
        small = {"model": "resnet18", "batch": 4, "size": 32, "steps": 2, "rounds": 1}
        vars(options).update(small | {"queue": 64, "compile": "no", "warm": 1})
    return options


# The data.


class Images(Dataset[dict[str, Tensor]]):
    """A few pairs in memory, over and over."""

    thread_safe = True

    def __init__(self, options: argparse.Namespace) -> None:
        generator = torch.Generator().manual_seed(options.seed)
        shape = (min(options.batch, 64), 2, options.bands, options.size, options.size)
        self.images = 0.6 * torch.rand(shape, generator=generator)
        self.length = options.batch * (options.steps + options.warm)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        image = self.images[index % len(self.images)]
        valid = torch.ones(2, *image.shape[-2:], dtype=torch.bool)
        return {"image": image, "valid": valid, "index": torch.tensor(index)}


class Waited:
    """A loader that notes how long it was waited for."""

    def __init__(self, loader: PairLoader) -> None:
        self.loader, self.seconds = loader, []

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self.loader)
        for _ in range(len(self)):
            begun = time.perf_counter()
            batch = next(batches)
            self.seconds.append(time.perf_counter() - begun)
            yield batch


class Data(pl.LightningDataModule):
    """The pairs, as views for our tasks, as [B, 2C, H, W] for TorchGeo's."""

    def __init__(self, options: argparse.Namespace, *, ours: bool) -> None:
        super().__init__()
        self.views = views_of(options) if ours else None
        loader = PairLoader(Images(options), options.batch, pin_memory=options.device == "cuda")
        self.loader = Waited(loader)

    def train_dataloader(self) -> Waited:
        return self.loader

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if self.views is None:
            return {"image": batch["image"].flatten(1, 2)}
        return self.views(batch)


def views_of(options: argparse.Namespace) -> PairViews:
    bands = options.bands
    names = tuple(f"band{number}" for number in range(bands))
    contract = SensorContract(names, 10.0, (0.3,) * bands, (0.2,) * bands)
    return PairViews(contract, options.size, preset="simclr").to(options.device)


# The methods.


def ours(name: str, **more: Any) -> Make:
    def make(options: argparse.Namespace) -> pl.LightningModule:
        given = {name: getattr(options, value) for name, value in more.items()}
        fast = {"channels_last": True, "compile": options.compiled}
        return getattr(rscontrast.tasks, name)(
            model=options.model,
            in_channels=options.bands,
            optimizer="sgd",
            lr=0.03,
            **fast,
            **given,
        )

    return make


def their_simclr(options: argparse.Namespace) -> pl.LightningModule:
    return torchgeo.tasks.SimCLR(
        model=options.model, in_channels=options.bands, version=1, layers=2, hidden_dim=512,
        output_dim=128, lr=0.03, temperature=0.5, memory_bank_size=0, size=options.size,
    )  # fmt: skip


def their_moco(options: argparse.Namespace) -> pl.LightningModule:
    return torchgeo.tasks.MoCo(
        model=options.model, in_channels=options.bands, version=2, layers=2, hidden_dim=2048,
        output_dim=128, lr=0.03, weight_decay=1e-4, temperature=0.07, moco_momentum=0.999,
        memory_bank_size=options.queue, size=options.size,
    )  # fmt: skip


ALL: dict[str, Make] = {
    "SimCLR": ours("SimCLR"),
    "FALSE": ours("FALSE"),
    "MoCo": ours("MoCo", queue_size="queue"),
    "BYOL": ours("BYOL"),
    "PixPro": ours("PixPro"),
    "DenseCL": ours("DenseCL", queue_size="queue"),
}
OURS = {name: make for name, make in ALL.items() if hasattr(rscontrast.tasks, name)}
THEIRS: dict[str, Make] = {"TorchGeo SimCLR": their_simclr, "TorchGeo MoCo": their_moco}
PAIRED = {"SimCLR": "TorchGeo SimCLR", "MoCo": "TorchGeo MoCo"}


# Timing.


class Clock(Callback):
    """Seconds of the steps that count, together; the device is waited for at both ends alone."""

    def __init__(self, warm: int) -> None:
        self.warm, self.seconds, self.begun = warm, 0.0, 0.0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any,
        batch_idx: int,
    ) -> None:  # fmt: skip
        if batch_idx == self.warm - 1:
            self.begun = now()
        elif batch_idx == trainer.num_training_batches - 1:
            self.seconds = now() - self.begun


class Counting(Callback):
    """Counts the operations of the first step, and keeps what its losses were given."""

    def __init__(self) -> None:
        self.flops = 0
        self.calls: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        parts = losses(pl_module)
        self.hooks = [p.register_forward_pre_hook(self._keep, with_kwargs=True) for p in parts]
        # Losses of cells are functions: what finds their positives, and what is made of these.
        for name in dense_parts(pl_module):
            setattr(pl_module, name, self._noting(getattr(pl_module, name)))

    def _noting(self, part: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*given: Any, **named: Any) -> Any:
            self._keep(part, given, named)
            return part(*given, **named)

        return noted

    def _keep(
        self, part: Callable[..., Any], given: tuple[Any, ...], named: dict[str, Any]
    ) -> None:
        self.calls.append((part, given, named))

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.counter = FlopCounterMode(display=False)
        self.counter.__enter__()

    def on_train_batch_end(self, *_: Any) -> None:
        self.counter.__exit__(None, None, None)
        self.flops = self.counter.get_total_flops()
        for hook in self.hooks:
            hook.remove()


def losses(task: nn.Module) -> list[nn.Module]:
    """The losses of a task: its outermost parts that the package of losses defines."""
    found = [
        (name, part) for name, part in task.named_modules()
        if type(part).__module__.startswith("rscontrast.losses")
    ]  # fmt: skip
    within = tuple(f"{name}." for name, _ in found)
    return [part for name, part in found if not name.startswith(within)]


def dense_parts(task: nn.Module) -> tuple[str, ...]:
    """Methods of a dense task that make up its loss of cells; none of others."""
    if not hasattr(task, "level"):
        return ()
    return ("_positives" if hasattr(task, "_positives") else "near", "level")


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def trained(
    options: argparse.Namespace, make: Make, data: Data, callback: Callback, steps: int
) -> pl.LightningModule:
    torch.manual_seed(options.seed)
    task = make(options)
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            accelerator="gpu" if options.device == "cuda" else "cpu", devices=1, max_epochs=1,
            precision="bf16-mixed" if options.device == "cuda" else "32-true",
            limit_train_batches=steps, limit_val_batches=0, callbacks=[callback], logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            default_root_dir=folder,
        )  # fmt: skip
        trainer.fit(task, datamodule=data)
    return task


def alone(what: Callable[[], object], options: argparse.Namespace) -> float:
    """Median seconds of something by itself."""
    taken = []
    for _ in range(options.warm + options.steps):
        begun = now()
        what()
        taken.append(now() - begun)
    return float(np.median(taken[options.warm :]))


def replayed(counting: Counting) -> Callable[[], object] | None:
    """The losses of a step again, forward and backward, on what they were given."""
    if not counting.calls:
        return None

    def leaf(value: Any) -> Any:
        is_float = isinstance(value, Tensor) and value.is_floating_point()
        return value.detach().requires_grad_(value.requires_grad) if is_float else value

    def run() -> None:
        for part, given, named in counting.calls:
            found = part(*map(leaf, given), **{k: leaf(v) for k, v in named.items()})
            if isinstance(found, LossOutput):
                found.loss.backward()

    return run


# What is measured.


def measure(run: Run) -> None:
    """Images a second by turns; then where the time of ours goes."""
    o = run.options
    chosen = [name for name in (*OURS, *THEIRS) if o.only is None or name in o.only]
    kinds = {"no": [False], "yes": [True], "both": [False, True]}[o.compile]
    turns = [(name, kind) for name in chosen for kind in (kinds if name in OURS else [False])]
    speeds: dict[str, list[float]] = {label(*turn): [] for turn in turns}
    waits: dict[str, list[float]] = {label(*turn): [] for turn in turns}
    for _ in range(o.rounds):
        for name, o.compiled in turns:
            clock, data = Clock(o.warm), Data(o, ours=name in OURS)
            trained(o, (OURS | THEIRS)[name], data, clock, o.steps + o.warm)
            speeds[label(name, o.compiled)].append(2 * o.batch * o.steps / clock.seconds)
            waited = sum(data.loader.seconds[o.warm :])
            waits[label(name, o.compiled)].append(100 * waited / clock.seconds)
    for turn, each in speeds.items():
        run.add(turn, float(np.median(each)), "images/s")
    for name, kind in turns:
        peer = PAIRED.get(name)
        if peer in speeds:
            ratios = np.divide(speeds[label(name, kind)], speeds[peer])
            run.add(f"{label(name, kind)} to {peer}", float(np.median(ratios)), "ratio", 1)
    o.compiled = False
    for name in [name for name in chosen if name in OURS]:
        steps = {
            label(name, kind): 2 * o.batch / float(np.median(speeds[label(name, kind)]))
            for kind in kinds
        }
        shares(run, name, steps, waits)


def shares(run: Run, name: str, steps: dict[str, float], waits: dict[str, list[float]]) -> None:
    """Parts of a method's step, each timed alone, beside the whole."""
    o, counting = run.options, Counting()
    trained(o, OURS[name], Data(o, ours=True), counting, 1)
    views, batch = views_of(o), next(iter(Data(o, ours=True).loader))
    moved = {key: value.to(o.device) for key, value in batch.items()}
    augmented, again = alone(lambda: views(moved), o), replayed(counting)
    lost = None if again is None else alone(again, o)
    for turn, seconds in steps.items():
        run.add(f"{turn}: augmentation", 100 * augmented / seconds, "%")
        if lost is not None:
            run.add(f"{turn}: loss", 100 * lost / seconds, "%")
            run.add(f"{turn}: both", 100 * (augmented + lost) / seconds, "%", BOUND)
        run.add(f"{turn}: waiting for data", float(np.median(waits[turn])), "%")
        rate = counting.flops / seconds / 1e12
        run.add(f"{turn}: model", rate, "TFLOP/s")
        if o.device == "cuda":
            run.add(f"{turn}: utilisation of {o.peak:g} TFLOP/s", 100 * rate / o.peak, "%")


def label(name: str, compiled: bool) -> str:
    return f"{name}, compiled" if compiled else name


# The table.


def line(row: Row) -> str:
    bound = "" if row["bound"] is None else f"{row['bound']:g}"
    holds = {None: "", True: "yes", False: "NO"}[row["holds"]]
    return f"{row['name']:50} {row['value']:10.3f} {row['unit']:8} {bound:>5}  {holds}"


def settings(options: argparse.Namespace) -> dict[str, object]:
    kept = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()}
    names = ("rscontrast", "torch", "torchgeo", "lightning", "timm", "kornia")
    versions = {name: version(name) for name in names}
    gpu = torch.cuda.get_device_name() if options.device == "cuda" else None
    machine = {"python": platform.python_version(), "machine_cores": os.cpu_count(), "gpu": gpu}
    return kept | versions | machine


if __name__ == "__main__":
    # What Lightning and TorchGeo's tasks say of themselves, and a schedule of a single epoch.
    warnings.simplefilter("ignore")
    for part in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{part}").setLevel(logging.ERROR)
    main()
