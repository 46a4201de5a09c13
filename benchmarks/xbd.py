"""Does pretraining on the pairs alone help to find buildings and damage with few labels?

On xBD tiles in TorchGeo's layout: pretrain an encoder on the train pairs (no labels), fine-tune a
Siamese segmenter with 10 % and with all of the labels, score it on the test tiles. Starts are
random, SimCLR and FALSE, and "given" with --weights; some seeds each. Whatever comes out is
reported.

    python benchmarks/xbd.py --data ../shared/data/xbd_mexico --json runs/xbd.json
    python benchmarks/xbd.py --setting full --data ../xbd --out runs/xbd-full  # a GPU, hours

The time that is left is told first, from steps that are timed. A finished run is kept in --out and
not run again, so what was cut goes on. A fifth of the train tiles validate: they calibrate, and
choices are made on them (--score val); nothing is chosen on the test tiles.
"""

import argparse
import json
import logging
import os
import platform
import time
import warnings
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch

import rscontrast
from rscontrast.atomic import write_text
from rscontrast.datamodules import XBDDataModule
from rscontrast.fit import fit
from rscontrast.metrics import CalibrationError, XView2Score
from rscontrast.models import load_encoder, load_segmenter, save_encoder, save_segmenter
from rscontrast.models.device import torch_device
from rscontrast.stages import METHODS
from rscontrast.tasks import DamageSegmentation
from rscontrast.tasks.scored import MapScores
from rscontrast.types import DAMAGE_CLASSES, IGNORE

SETTINGS = {
    "small": {
        "encoder": "resnet18", "patch_size": 128, "batch_size": 8, "length": 480, "epochs": 4,
        "view_size": 96, "pretrain_batch": 64, "pretrain_length": 512, "pretrain_epochs": 16,
        "precision": "32-true",
    },
    "full": {
        "encoder": "resnet50", "patch_size": 256, "batch_size": 32, "length": 2048, "epochs": 60,
        "view_size": 192, "pretrain_batch": 256, "pretrain_length": 4096, "pretrain_epochs": 200,
        "precision": "bf16-mixed",
    },
    "quick": {
        "encoder": "tu-resnet10t", "patch_size": 64, "batch_size": 4, "length": 8, "epochs": 1,
        "view_size": 32, "pretrain_batch": 8, "pretrain_length": 8, "pretrain_epochs": 1,
        "precision": "32-true",
    },
}  # fmt: skip
FIGURES = {
    "building_iou": "building IoU",
    "damaged_f1": "damaged F1",
    "xview2": "xView2",
    "xview2_occurring": "xView2, classes that occur",
    "ece": "ECE",
    "ece_buildings": "ECE, buildings",
    "ece_uncalibrated": "ECE at T = 1",
}
"""What is reported of a run, and how it is called. Damaged is minor, major and destroyed as one."""
RECIPE = {"decoder": "unet", "loss": "cross_entropy+dice", "heads": "one", "lr": 1e-3}


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    require_same_settings(options)
    todo = [
        (start, seed, share)
        for seed in options.seeds for share in options.shares for start in options.starts
    ]  # fmt: skip
    left = [run for run in todo if not result_file(*run, options).is_file()]
    print(estimate(left, options), flush=True)
    found = {}
    for run in todo:
        found[run] = result(*run, options)
        print(table(found, options), flush=True)
    if options.json is not None:
        report = {"settings": settings(options), "rows": rows(found, options)}
        write_text(options.json, json.dumps(report, indent=2))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="../shared/data/xbd_mexico", help="train/ and test/")
    parser.add_argument("--out", type=Path, default=Path("runs/xbd"), help="folder of the runs")
    parser.add_argument("--setting", choices=("small", "full"), default="small")
    parser.add_argument("--starts", nargs="+", default=["random", "simclr", "false"])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 1.0], help="of the labels")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--repeats", type=int, default=3, help="seeds")
    parser.add_argument("--weights", help="start 'given': an encoder's file or TorchGeo's name")
    parser.add_argument("--select", default="nearest", help="FALSE: global, nearest or above")
    parser.add_argument("--score", choices=("test", "val"), default="test")
    parser.add_argument("--recipe", type=json.loads, default={}, help="JSON: of the segmenter")
    parser.add_argument("--views", type=json.loads, default={}, help="JSON: of the pretraining")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--quick", action="store_true", help="the same path in under a minute")
    parser.add_argument("--json", type=Path, help="file for the rows")
    for name, default in SETTINGS["small"].items():
        parser.add_argument(f"--{name}", type=type(default), help="default: the setting's")
    options = parser.parse_args()
    if options.quick:
        options.setting, options.repeats, options.shares = "quick", 1, [1.0]
        options.starts = ["random", "simclr"]
        options.out = options.out.with_name(f"{options.out.name}-quick")
    for name, value in SETTINGS[options.setting].items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.weights and "given" not in options.starts:
        options.starts.append("given")
    options.seeds = range(options.seed, options.seed + options.repeats)
    options.recipe = RECIPE | options.recipe
    return options


def require_same_settings(options: argparse.Namespace) -> None:
    """A folder holds runs of one setting, so that a table that goes on does not mix two."""
    names = [*SETTINGS["small"], "select", "score", "recipe", "views", "weights"]
    mine = {name: getattr(options, name) for name in names}
    kept = options.out / "settings.json"
    if kept.is_file() and json.loads(kept.read_text()) != mine:
        raise SystemExit(f"{kept}: runs of other settings lie there; choose another --out")
    write_text(kept, json.dumps(mine, indent=2))


def result_file(start: str, seed: int, share: float, options: argparse.Namespace) -> Path:
    return options.out / f"{start}-{seed}-share{share:g}" / "result.json"


def encoder_file(start: str, seed: int, options: argparse.Namespace) -> Path:
    return options.out / f"{start}-{seed}" / "encoder.pt"


def result(start: str, seed: int, share: float, options: argparse.Namespace) -> dict[str, float]:
    """Figures of one run; read back if it was run."""
    kept = result_file(start, seed, share, options)
    if kept.is_file():
        return json.loads(kept.read_text())
    weights = {"random": None, "given": options.weights}.get(start, "own")
    if weights == "own":
        weights = str(pretrained(start, seed, options))
    begun = time.perf_counter()
    pl.seed_everything(seed, verbose=False)
    data = labelled(seed, share, options, contract_of(weights))
    task = segmenter(data, weights, options)
    out = kept.with_name("segmenter.pt")

    def save(path: Path) -> None:
        save_segmenter(path, task.model, data.contract, DAMAGE_CLASSES)

    fit(task, data, out, save, options.epochs, options.device, options.precision, progress=False)
    trained = time.perf_counter()
    figures = score(out, data, options)
    figures |= {"train_s": trained - begun, "score_s": time.perf_counter() - trained}
    write_text(kept, json.dumps(figures, indent=2))
    return figures


def contract_of(weights: str | None):
    """Of our own encoders: the images are normalised as theirs were."""
    own = weights is not None and Path(weights).suffix == ".pt"
    return load_encoder(weights).contract if own else None


def labelled(seed: int, share: float, options: argparse.Namespace, contract=None) -> XBDDataModule:
    data = XBDDataModule(
        options.data, options.patch_size, options.batch_size, options.length, share,
        contract=contract, in_memory=True, seed=seed,
    )  # fmt: skip
    data.setup("fit")
    return data


def segmenter(data: XBDDataModule, weights: str | None, options: argparse.Namespace):
    return DamageSegmentation(
        options.encoder, in_channels=3, classes=len(DAMAGE_CLASSES), weights=weights,
        class_weights=data.class_weights, **options.recipe,
    )  # fmt: skip


def pairs(seed: int, options: argparse.Namespace) -> XBDDataModule:
    """Pairs of the train tiles, without their labels."""
    return XBDDataModule(
        options.data, options.patch_size, options.pretrain_batch, options.pretrain_length,
        views=options.views, view_size=options.view_size, in_memory=True, seed=seed,
    )  # fmt: skip


def method(start: str, seed: int, options: argparse.Namespace):
    more = {"select": options.select} if start == "false" else {}
    return METHODS[start](options.encoder, 3, seed=seed, **more)


def pretrained(start: str, seed: int, options: argparse.Namespace) -> Path:
    """Pretrain; once for all shares of labels."""
    path = encoder_file(start, seed, options)
    if path.is_file():
        return path
    begun = time.perf_counter()
    pl.seed_everything(seed, verbose=False)
    data, task = pairs(seed, options), method(start, seed, options)

    def save(path: Path) -> None:
        save_encoder(path, task.model, options.encoder, data.contract)

    epochs = options.pretrain_epochs
    fit(task, data, path, save, epochs, options.device, options.precision, progress=False)
    print(f"{start} {seed}: pretrained in {time.perf_counter() - begun:.0f} s", flush=True)
    return path


@torch.inference_mode()
def score(path: Path, data: XBDDataModule, options: argparse.Namespace) -> dict[str, float]:
    """Figures over whole tiles, calibrated by the temperature of validation."""
    device, model = torch_device(options.device), load_segmenter(path).module
    model.to(device).eval()
    if options.score == "test":
        data.setup("test")
        loader, normalise = data.test_dataloader(), data.test_aug
    else:
        loader, normalise = data.val_dataloader(), data.val_aug
    scores = MapScores(DAMAGE_CLASSES).to(device)
    occurring = XView2Score("leave_out").to(device)
    plain = CalibrationError().to(device)
    for number, batch in enumerate(loader):
        if options.quick and number == 2:
            break
        tiles = normalise({k: v.to(device) for k, v in batch.items()})
        mask = tiles["mask"].masked_fill(~tiles["valid"].all(dim=1), IGNORE)
        logits = model(tiles["image"])
        found = model.probabilities(logits)
        scores.update(found, mask)
        occurring.update(found, mask)
        plain.update(model.probabilities(logits * model.temperature), mask)
    figures = {name: float(value) for name, value in scores.compute().items()}
    figures["xview2_occurring"] = float(occurring.compute()["xview2"])
    figures["ece_uncalibrated"] = float(plain.compute())
    figures["temperature"] = model.temperature
    return figures | {"damaged_f1": damaged_f1(occurring.confusion.cpu().numpy())}


def damaged_f1(confusion: np.ndarray) -> float:
    """F1 of damaged pixels: classes 2 to 4 as one, against all others."""
    hits = confusion[2:, 2:].sum()
    whole = confusion[2:].sum() + confusion[:, 2:].sum()
    return float(2 * hits / whole) if whole else float("nan")


def estimate(left: list, options: argparse.Namespace) -> str:
    """Time that the runs will take, from two steps of each kind."""
    if not left:
        return "nothing is left to run"
    missing = {
        (start, seed) for start, seed, _ in left
        if start in METHODS and not encoder_file(start, seed, options).is_file()
    }  # fmt: skip
    data = labelled(0, 1.0, options)
    step = seconds_a_step(segmenter(data, None, options), data, options)
    fine = len(left) * options.epochs * (options.length // options.batch_size) * step
    own = 0.0
    for start in sorted({start for start, _ in missing}):
        some = pairs(0, options)
        some.setup("fit")
        each = seconds_a_step(method(start, 0, options), some, options)
        steps = options.pretrain_epochs * (options.pretrain_length // options.pretrain_batch)
        own += sum(s == start for s, _ in missing) * steps * each
    minutes = f"{own / 60:.0f} min of pretraining and {fine / 60:.0f} min of fine-tuning"
    return f"{len(missing)} encoders and {len(left)} segmenters to train: about {minutes}"


def seconds_a_step(task, data: XBDDataModule, options: argparse.Namespace) -> float:
    """Between the ends of two steps, after one to warm up."""
    ends: list[float] = []

    class Ends(pl.Callback):
        def on_train_batch_end(self, *_: object) -> None:
            ends.append(time.perf_counter())

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*workers.*|.*LeafSpec.*")
        pl.Trainer(
            max_steps=3, max_epochs=3, limit_val_batches=0, logger=False, callbacks=[Ends()],
            enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=False,
            accelerator="gpu" if torch_device(options.device).type == "cuda" else "cpu",
            devices=1, precision=options.precision,
        ).fit(task, datamodule=data)  # fmt: skip
    return (ends[-1] - ends[0]) / max(1, len(ends) - 1)


def gather(found: dict, start: str, share: float, figure: str) -> np.ndarray:
    return np.array([r[figure] for (s, _, p), r in found.items() if (s, p) == (start, share)])


def table(found: dict, options: argparse.Namespace) -> str:
    """Mean and standard deviation over the seeds, in percent."""
    lines = [f"{'labels':>7} {'start':8}" + "".join(f"{n:>28}" for n in FIGURES.values())]
    for share in options.shares:
        for start in options.starts:
            values = [100 * gather(found, start, share, figure) for figure in FIGURES]
            if values[0].size:
                cells = [f"{v.mean():18.2f} ± {spread(v):5.2f}  " for v in values]
                lines.append(f"{share:7.0%} {start:8}" + "".join(cells))
    return "\n".join(lines) + f"\n({len(found)} runs)\n"


def spread(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if values.size > 1 else 0.0


def rows(found: dict, options: argparse.Namespace) -> list[dict[str, object]]:
    """One row a run and figure, and the ratios of the pretrained starts to the random one."""
    out = [
        row(f"{start}/{seed}/{share:g}/{name}", value, "s" if name.endswith("_s") else "share")
        for (start, seed, share), figures in found.items()
        for name, value in figures.items()
    ]
    for share in options.shares:
        base = gather(found, "random", share, "building_iou")
        for start in options.starts:
            if start != "random" and base.size and base.mean():
                ratio = gather(found, start, share, "building_iou").mean() / base.mean()
                out.append(row(f"{start} to random, building IoU, {share:g}", ratio, "ratio", 1))
    return out


def row(name: str, value: float, unit: str, bound: float | None = None) -> dict[str, object]:
    known = None if np.isnan(value) else float(value)
    holds = None if bound is None or known is None else known > bound
    return {"name": name, "value": known, "unit": unit, "bound": bound, "holds": holds}


def settings(options: argparse.Namespace) -> dict[str, object]:
    plain = (str, int, float, list, dict, type(None))
    kept = {k: v if isinstance(v, plain) else str(v) for k, v in vars(options).items()}
    versions = {"rscontrast": rscontrast.__version__, "torch": torch.__version__}
    return kept | versions | {"python": platform.python_version(), "cores": os.cpu_count()}


if __name__ == "__main__":
    main()
