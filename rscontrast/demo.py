"""The whole job on one catalog, timed, with a report at the end."""

import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import geopandas as gpd
import numpy as np
import pystac
import rasterio
import torch

import rscontrast
from rscontrast.errors import InputError
from rscontrast.io import read_mosaic
from rscontrast.mapping.native import PairJob, Tile, item_rows, plan
from rscontrast.mapping.pairwise import map_pairs
from rscontrast.mapping.score import evaluate, label_sources, read_truth
from rscontrast.report.figure import Panel, comparison_figure
from rscontrast.report.html import Picture, Stage, stage_table, write_report
from rscontrast.stac import pair_items, search, write_items, write_pairs
from rscontrast.stac.index import instants
from rscontrast.stac.provider import BandSource
from rscontrast.stages import finetune, pretrain
from rscontrast.types import PathOrStr

BANDS = ("blue", "green", "red", "nir")
RGB = ("red", "green", "blue")


class Clock:
    """Stages as they pass, each with its seconds and its figure."""

    def __init__(self) -> None:
        """Start with none."""
        self.stages: list[Stage] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[list[str]]:
        """Time a block; what it appends to the list becomes the figure of the stage."""
        begun, figure = time.perf_counter(), list[str]()
        yield figure
        self.stages.append(Stage(name, time.perf_counter() - begun, ", ".join(figure)))


def demo(
    catalog: PathOrStr = "sample_data/catalog.json",
    out: PathOrStr = "demo_out",
    *,
    collection: str = "scenes",
    event: str = "2022-08-15",
    label: str = "damage",
    method: str = "false",
    epochs: int = 12,
    seed: int = 0,
    progress: bool = True,
) -> str:
    """Search, pair, pretrain, fine-tune on the west, evaluate on the east, map both, report.

    Args:
        catalog: static STAC catalog whose items have the property ``split`` (train, val).
        out: folder of all results.
        collection: of the imagery.
        event: date of the disaster.
        label: asset key of the label raster.
        method: of pretraining, "simclr" or "false".
        epochs: of pretraining; fine-tuning takes twice as many.
        seed: of everything that is drawn.
        progress: show bars.

    Returns:
        a table of the stages and the paths of what was written.

    Raises:
        RSContrastError: see the stages.
    """
    out, clock = Path(out), Clock()
    with clock.stage("search") as figure:
        items = search(catalog, collections=[collection])
        if "split" not in items or set(items["split"]) != {"train", "val"}:
            raise InputError("catalog", str(catalog), "items with the property split, train or val")
        write_items(items, out / "items.parquet")
        figure.append(f"{len(items)} items")
    with clock.stage("pairs") as figure:
        pairs = pair_items(items, min_gap=10, max_cloud=50).frame()
        straddling = pair_items(
            items, event=event, relation="straddle", max_gap=60, max_cloud=20, max_per_place=1
        ).frame()
        write_pairs(pairs, out / "pairs.parquet")
        figure.append(f"{len(pairs)} pairs, {len(straddling)} labelled")
    with clock.stage("pretrain") as figure:
        encoder = pretrain(
            items,
            pairs,
            out / "encoder.pt",
            bands=BANDS,
            method=method,
            epochs=epochs,
            patch_size=64,
            batch_size=32,
            length=256,
            seed=seed,
            progress=progress,
        )
        figure.append(f"{method}, {epochs * 256} pairs seen")
    splits = items.set_index("id")["split"]
    train, val = (straddling[_split(straddling, splits) == name] for name in ("train", "val"))
    with clock.stage("finetune") as figure:
        segmenter = finetune(
            items,
            train,
            out / "segmenter.pt",
            label=label,
            encoder=encoder,
            epochs=2 * epochs,
            patch_size=64,
            batch_size=8,
            length=48,
            seed=seed,
            progress=progress,
        )
        figure.append(f"{2 * epochs * 48} patches seen")
    with clock.stage("evaluate") as figure:
        result = evaluate(
            items,
            val,
            segmenter,
            label,
            out=out / "scores.json",
            patch_size=64,
            overlap=16,
            progress=progress,
        )["all"]
        figure.append(f"mean F1 {result.mean_f1:.2f} on the place not trained on")
    with clock.stage("map") as figure:
        maps = map_pairs(
            items,
            straddling,
            segmenter,
            out / "maps",
            patch_size=64,
            overlap=16,
            progress=progress,
        )
        figure.append(f"{len(straddling)} maps")
    with clock.stage("report") as figure:
        picture = out / "maps.png"
        panels = comparison_panels(items, straddling, maps.parent, label)
        comparison_figure(panels, picture, title="Damage between two dates")
        figure.append(f"{len(panels)} places")
    outputs = [encoder, segmenter, out / "scores.json", *_rasters(maps), maps, picture]
    report = out / "report.html"
    write_report(
        report,
        title="Damage map of the sample world",
        summary=_summary(items, pairs, train, val),
        stages=clock.stages,
        scores=result,
        images=[Picture(picture, "Before, after, truth and map", "Four images of each place")],
        outputs=outputs,
        environment=_environment(seed),
    )
    paths = "\n".join(f"  {path}" for path in [*outputs, report])
    return f"{result.table()}\n\n{stage_table(clock.stages)}\n\nwritten:\n{paths}"


def _split(pairs: gpd.GeoDataFrame, splits: "gpd.pd.Series") -> np.ndarray:
    return np.array([splits[ids[0]] for ids in pairs["pre_ids"]])


def comparison_panels(
    items: gpd.GeoDataFrame, pairs: gpd.GeoDataFrame, maps: Path, label: str
) -> list[Panel]:
    """Read back what was mapped, beside the imagery and the labels.

    Args:
        items: of the search.
        pairs: that were mapped.
        maps: folder of the output catalog.
        label: asset key of the label raster.

    Returns:
        one panel a pair, whole, so for places that fit in memory.

    Raises:
        BandError: a pair has no label, or an item no red, green or blue.
        AssetError: a file cannot be read.
    """
    named = item_rows(items, pairs)
    return [
        _panel(job, maps / job.name / "classes.tif", label_sources(job, named, label))
        for job in plan(items, pairs, "red")
    ]


def _panel(job: PairJob, classes: Path, labels: Sequence[BandSource]) -> Panel:
    (pre, before), (post, after) = (read_mosaic(date, job.geobox) for date in job.sources(RGB))
    truth = read_truth(labels, job, Tile(0, 0, *job.geobox.shape))
    with rasterio.open(classes) as raster:
        return Panel(job.name, pre, post, truth, raster.read(1), before & after)


def _rasters(catalog: Path) -> list[Path]:
    items = pystac.Catalog.from_file(str(catalog)).get_items()
    return [catalog.parent / item.id / f"{k}.tif" for item in items for k in item.assets]


def _summary(
    items: gpd.GeoDataFrame, pairs: gpd.GeoDataFrame, train: Sequence[object], val: Sequence[object]
) -> dict[str, str]:
    times = instants(items)
    first, last = times.min(), times.max()
    gap = pairs["gap_days"]
    return {
        "items": f"{len(items)}, {first:%Y-%m-%d} to {last:%Y-%m-%d}",
        "pairs to pretrain on": f"{len(pairs)}, {gap.min():.0f} to {gap.max():.0f} days apart",
        "labelled pairs": f"{len(train)} to fine-tune on, {len(val)} of another place to score",
        "bands": ", ".join(BANDS),
    }


def _environment(seed: int) -> dict[str, str]:
    return {
        "rscontrast": rscontrast.__version__,
        "torch": torch.__version__,
        "rasterio": rasterio.__version__,
        "python": platform.python_version(),
        "threads": str(torch.get_num_threads()),
        "seed": str(seed),
    }
