"""Score a segmenter on whole places: the same patches and blending as the maps."""

import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from rscontrast.atomic import write_text
from rscontrast.errors import BandError
from rscontrast.io import read_classes
from rscontrast.mapping.plan import Job, Tile, part, plan, tiles
from rscontrast.mapping.predict import Predictor
from rscontrast.metrics.segmentation import Scores, confusion, scores
from rscontrast.models.checkpoint import load_segmenter
from rscontrast.stac.provider import GENERIC, BandSource
from rscontrast.types import IGNORE, PathOrStr


def evaluate(
    items: gpd.GeoDataFrame,
    pairs: gpd.GeoDataFrame,
    checkpoint: PathOrStr,
    label: str,
    *,
    out: PathOrStr | None = None,
    patch_size: int = 128,
    overlap: int = 32,
    tile_size: int = 1024,
    batch_size: int = 16,
    device: str = "cpu",
    progress: bool = True,
) -> dict[str, Scores]:
    """Compare the class map of each pair with its labels.

    Args:
        items: of :func:`rscontrast.stac.search`.
        pairs: of :func:`rscontrast.stac.pair_items`.
        checkpoint: of a segmenter.
        label: asset key of the label raster, on items of either date.
        out: JSON file to write the scores to.
        patch_size: see :func:`rscontrast.mapping.map_pairs`, as the rest.
        overlap: of neighbouring patches.
        tile_size: of what is held in memory.
        batch_size: patches at a time.
        device: of torch.
        progress: show a bar.

    Returns:
        scores of each pair by its name, and of all pixels together under "all". Pixels that are
        unusable at either date or without a label do not count.

    Raises:
        BandError: no item of a pair has the label.
        GridError: a label raster has no place on the earth.
        CheckpointError, AssetError, WriteError, InputError: as of ``map_pairs``.
    """
    segmenter = load_segmenter(checkpoint)
    predictor = Predictor(
        segmenter, patch_size=patch_size, overlap=overlap, batch_size=batch_size, device=device
    )
    names = segmenter.class_names
    nothing = np.zeros((len(names), len(names)), dtype=np.int64)
    found: dict[str, NDArray[np.int64]] = {}
    jobs = plan(items, pairs, segmenter.contract.bands[0])
    for job in tqdm(jobs, desc="evaluate", unit="pair", disable=not progress):
        sources = label_sources(job, label)
        found[job.name] = nothing.copy()
        for tile in tiles(job.geobox, tile_size):
            truth, classes = read_truth(sources, job, tile), _classes(predictor, job, tile)
            found[job.name] += confusion(truth, classes, len(names), IGNORE)
    result = {name: scores(matrix, names) for name, matrix in found.items()}
    result["all"] = scores(sum(found.values(), start=nothing), names)
    if out is not None:
        text = json.dumps({name: score.to_dict() for name, score in result.items()}, indent=2)
        write_text(Path(out), text)
    return result


def label_sources(job: Job, label: str) -> list[BandSource]:
    """Label rasters of a job, those of the later date first.

    Raises:
        BandError: no item of the pair has one.
    """
    items = [item for item in (*job.post, *job.pre) if label in item["assets"]]
    if not items:
        known = sorted({key for item in job.post for key in item["assets"]})
        raise BandError("label", label, f"an asset of pair {job.name}: {', '.join(known)}")
    return [GENERIC.band(item["id"], item["assets"], label) for item in items]


def read_truth(sources: list[BandSource], job: Job, tile: Tile) -> NDArray[np.uint8]:
    """Labels of a tile, [h, w], 255 where there is none."""
    box = part(job.geobox, tile.row, tile.col, tile.height, tile.width)
    truth = read_classes(sources[0], box)
    for source in sources[1:]:
        truth = np.where(truth == IGNORE, read_classes(source, box), truth)
    return truth


def _classes(predictor: Predictor, job: Job, tile: Tile) -> NDArray[np.uint8]:
    found = predictor.tile(job, tile)
    return np.where(found.valid, found.probabilities.argmax(axis=0), IGNORE).astype(np.uint8)


def score_table(result: dict[str, Scores]) -> pd.DataFrame:
    """One row a pair: F1 and IoU of each class."""
    rows: dict[str, dict[str, Any]] = {}
    for name, score in result.items():
        f1 = {f"F1 {c}": v for c, v in zip(score.class_names, score.f1, strict=True)}
        iou = {f"IoU {c}": v for c, v in zip(score.class_names, score.iou, strict=True)}
        rows[name] = f1 | iou
    return pd.DataFrame.from_dict(rows, orient="index")
