"""Does pretraining on a place's own two dates help to find what changed in other places?

On the OSCD pairs: pretrain an encoder on the train cities' two dates (no labels), fine-tune a
Siamese U-Net on their change masks, score the change class on the val cities, map them. Three
starts (random, SimCLR, FALSE), some seeds each. Whatever comes out is reported.

    python benchmarks/oscd.py --data ../shared/data/oscd/catalog.json --json runs/oscd.json

A finished (start, seed) is kept in --out and not run again, so the table can be resumed.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import torch

import rscontrast
from rscontrast.atomic import write_text
from rscontrast.demo import comparison_panels
from rscontrast.mapping.pairwise import map_pairs
from rscontrast.mapping.score import evaluate
from rscontrast.metrics.segmentation import Scores
from rscontrast.report.figure import comparison_figure
from rscontrast.report.palette import CHANGE_PALETTE
from rscontrast.stac import pair_items, search
from rscontrast.stages import finetune, pretrain

BANDS = ("blue", "green", "red", "nir")
STARTS = ("random", "simclr", "false")
CHANGE = 1


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    items = search(options.data)
    train = items[items["split"] == "train"].reset_index(drop=True)
    val = items[items["split"] == "val"].reset_index(drop=True)
    require_same_settings(options)
    found: dict[tuple[str, int], dict[str, dict[str, float]]] = {}
    for seed in options.seeds:
        for start in STARTS:
            found[start, seed] = run(start, seed, train, val, options)
            print(table(found), flush=True)
    if options.json is not None:
        report = {"settings": settings(options), "rows": rows(found)}
        write_text(options.json, json.dumps(report, indent=2))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="../shared/data/oscd/catalog.json", help="STAC catalog")
    parser.add_argument("--out", type=Path, default=Path("runs/oscd"), help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--label_share", type=float, default=1.0, help="share of the train labels")
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--select", default="nearest", help="FALSE: global, nearest or above")
    parser.add_argument("--patch_size", type=int, default=64)
    parser.add_argument("--pretrain_epochs", type=int, default=8)
    parser.add_argument("--finetune_epochs", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=1024, help="pairs an epoch of pretraining")
    parser.add_argument("--patches", type=int, default=320, help="patches an epoch of fine-tuning")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="the same path in under a minute")
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.pretrain_epochs, options.finetune_epochs = [0], 1, 1
        options.pairs, options.patches = 64, 16
        options.out = options.out.with_name(f"{options.out.name}-quick")
    return options


def require_same_settings(options: argparse.Namespace) -> None:
    """A folder holds runs of one setting, so that a resumed table does not mix two."""
    free = ("data", "out", "json", "seeds", "label_share", "threads")
    mine = {k: v for k, v in vars(options).items() if k not in free}
    kept = options.out / "settings.json"
    if kept.is_file() and json.loads(kept.read_text()) != mine:
        raise SystemExit(f"{kept}: runs of other settings lie there; choose another --out")
    write_text(kept, json.dumps(mine, indent=2))


def run(
    start: str,
    seed: int,
    train: gpd.GeoDataFrame,
    val: gpd.GeoDataFrame,
    options: argparse.Namespace,
) -> dict[str, dict[str, float]]:
    """F1 and IoU of change in each val city and over all of them; read back if it was run."""
    folder = options.out / f"{start}-{seed}-share{options.label_share:g}"
    kept = folder / "result.json"
    if kept.is_file():
        return json.loads(kept.read_text())
    begun = time.perf_counter()
    segmenter = finetune(
        train,
        pair_items(train),
        folder / "segmenter.pt",
        label="change",
        encoder=options.encoder if start == "random" else encoder(start, seed, train, options),
        bands=BANDS,
        epochs=options.finetune_epochs,
        patch_size=options.patch_size,
        batch_size=16,
        length=options.patches,
        label_share=options.label_share,
        seed=seed,
        progress=False,
    )
    sizes = {"patch_size": options.patch_size, "overlap": 16, "progress": False}
    scores = evaluate(val, pair_items(val), segmenter, "change", **sizes)
    if seed == options.seeds[0]:
        maps = map_pairs(val, pair_items(val), segmenter, folder / "maps", **sizes)
        panels = comparison_panels(val, pair_items(val), maps.parent, "change")
        comparison_figure(panels, folder / "maps.png", title=start, palette=CHANGE_PALETTE)
    result = {city: change(score) for city, score in scores.items()}
    result["run"] = {"seconds": time.perf_counter() - begun}
    write_text(kept, json.dumps(result, indent=2))
    return result


def encoder(start: str, seed: int, train: gpd.GeoDataFrame, options: argparse.Namespace) -> Path:
    """Pretrain on the train cities; once for all shares of labels."""
    path = options.out / f"{start}-{seed}" / "encoder.pt"
    if path.is_file():
        return path
    return pretrain(
        train,
        pair_items(train),
        path,
        bands=BANDS,
        method=start,
        encoder=options.encoder,
        epochs=options.pretrain_epochs,
        patch_size=options.patch_size,
        batch_size=64,
        length=options.pairs,
        method_args={"select": options.select} if start == "false" else {},
        seed=seed,
        progress=False,
    )


def change(score: Scores) -> dict[str, float]:
    return {"F1": float(score.f1[CHANGE]), "IoU": float(score.iou[CHANGE])}


def gather(found: dict, start: str, city: str, figure: str) -> np.ndarray:
    return np.array([r[city][figure] for (s, _), r in found.items() if s == start])


def table(found: dict) -> str:
    """Mean and standard deviation over the seeds, in percent."""
    cities = [city for city in next(iter(found.values())) if city != "run"]
    lines = [f"{'start':8} {'figure':6} " + " ".join(f"{c.split('_')[0]:>14}" for c in cities)]
    for start in STARTS:
        for figure in ("F1", "IoU"):
            cells = []
            for city in cities:
                values = 100 * gather(found, start, city, figure)
                if values.size:
                    spread = values.std(ddof=1) if values.size > 1 else 0.0
                    cells.append(f"{values.mean():7.1f} ± {spread:4.1f}")
            lines.append(f"{start:8} {figure:6} " + " ".join(cells))
    return "\n".join(lines) + f"\n({len(found)} runs)\n"


def rows(found: dict) -> list[dict[str, object]]:
    """One row a run and figure, and the ratio of each pretrained start to the random one."""
    out: list[dict[str, object]] = []
    for (start, seed), result in found.items():
        for city, figures in result.items():
            unit = "s" if city == "run" else "share"
            out += [
                {"name": f"{start}/{seed}/{city}/{k}", "value": v, "unit": unit}
                for k, v in figures.items()
            ]
    base = gather(found, "random", "all", "F1").mean()
    for start in STARTS[1:]:
        ratio = gather(found, start, "all", "F1").mean() / base if base else float("nan")
        value = None if np.isnan(ratio) else ratio
        out.append({"name": f"{start} to random, F1 of change", "value": value, "unit": "ratio"})
    # Nothing is promised of the outcome, so no row has a bound.
    return [{**row, "bound": None, "holds": None} for row in out]


def settings(options: argparse.Namespace) -> dict[str, object]:
    kept = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()}
    versions = {"rscontrast": rscontrast.__version__, "torch": torch.__version__}
    return kept | versions | {"python": platform.python_version(), "cores": os.cpu_count()}


if __name__ == "__main__":
    main()
