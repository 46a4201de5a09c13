"""Score a segmenter on whole places: the same patches and blending as the maps."""

import json
from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from tqdm import tqdm

from rscontrast.atomic import write_text
from rscontrast.errors import BandError, InputError
from rscontrast.io.grid import footprint
from rscontrast.io.labels import label_source, read_labels, require_label
from rscontrast.mapping.native import Item, PairJob, Tile, item_rows, part, plan, tiles
from rscontrast.mapping.tilewise import Predictor
from rscontrast.metrics.segmentation import Scores, confusion, scores
from rscontrast.models.checkpoint import load_segmenter
from rscontrast.stac.index import native_geobox
from rscontrast.stac.pairing.file import SomePairs, as_frame
from rscontrast.stac.provider import GENERIC, BandSource
from rscontrast.types import IGNORE, PathOrStr


def evaluate(
    items: gpd.GeoDataFrame,
    pairs: SomePairs,
    checkpoint: PathOrStr,
    label: str,
    *,
    out: PathOrStr | None = None,
    patch_size: int = 128,
    overlap: int = 32,
    tile_size: int = 1024,
    batch_size: int = 16,
    device: str = "auto",
    progress: bool = True,
) -> dict[str, Scores]:
    """Compare the class map of each pair with its labels.

    Args:
        items: of :func:`rscontrast.stac.search`.
        pairs: of :func:`rscontrast.stac.pair_items`.
        checkpoint: of a segmenter.
        label: asset key of the label raster; those dated within a pair are its labels, and the
            latest counts, as in :func:`rscontrast.finetune`.
        out: JSON file to write the scores to.
        patch_size: see :func:`rscontrast.mapping.map_pairs`, as the rest.
        overlap: of neighbouring patches.
        tile_size: of what is held in memory.
        batch_size: patches at a time.
        device: "auto", "cpu" or "gpu".
        progress: show a bar.

    Returns:
        scores of each pair by its name, and of all pixels together under "all". Pixels that are
        unusable at either date or without a label do not count.

    Raises:
        BandError: no item dated within a pair has the label.
        GridError: a label raster lies off its imagery, or the pixels are of another size than
            those that the segmenter learned from.
        InputError: a pair has no pixel that is labelled and usable at both dates.
        CheckpointError, AssetError, WriteError, InputError: as of ``map_pairs``.
    """
    segmenter = load_segmenter(checkpoint)
    predictor = Predictor(
        segmenter, patch_size=patch_size, overlap=overlap, batch_size=batch_size, device=device
    )
    names = segmenter.class_names
    nothing = np.zeros((len(names), len(names)), dtype=np.int64)
    found: dict[str, NDArray[np.int64]] = {}
    pairs = as_frame(pairs)
    jobs = plan(items, pairs, segmenter.contract.bands[0])
    named = item_rows(items, pairs)
    require_label(named, label)
    for job in tqdm(jobs, desc="evaluate", unit="pair", disable=not progress):
        predictor.require_res(job)
        found[job.name] = _confusion(predictor, job, label_sources(job, named, label), tile_size)
        if not found[job.name].any():
            raise InputError("label", label, f"labels on usable pixels of pair {job.name}")
    result = {name: scores(matrix, names) for name, matrix in found.items()}
    result["all"] = scores(sum(found.values(), start=nothing), names)
    if out is not None:
        text = json.dumps({name: score.to_dict() for name, score in result.items()}, indent=2)
        write_text(Path(out), text)
    return result


def label_sources(job: PairJob, items: Sequence[Item], label: str) -> list[BandSource]:
    """Label rasters dated within a pair, on its ground, the latest first.

    Args:
        job: the pair.
        items: rows of the items' frame that the pairs name.
        label: asset key.

    Raises:
        BandError: there is none.
        GridError: one lies off its imagery.
    """
    first, last = job.pre[0]["datetime"], job.post[-1]["datetime"]
    ground = footprint(job.geobox, "EPSG:4326")
    within = [
        item
        for item in items
        if label in item["assets"]
        and first <= item["datetime"] <= last
        and ground.intersects(item["geometry"])
    ]
    if not within:
        known = sorted({key for item in job.post for key in item["assets"]})
        raise BandError("label", label, f"an asset of pair {job.name}: {', '.join(known)}")
    within.sort(key=lambda item: item["datetime"], reverse=True)
    return [label_source(item, label, _image_grid(item, job), GENERIC) for item in within]


def _image_grid(item: Item, job: PairJob) -> GeoBox:
    """Grid of the imagery that a label belongs to: that of its first raster that is no label."""
    data = [k for k, a in item["assets"].items() if "labels" not in (a.get("roles") or ())]
    return native_geobox(item, data[0]) if data else job.geobox


def read_truth(sources: Sequence[BandSource], job: PairJob, tile: Tile) -> NDArray[np.uint8]:
    """Labels of a tile, [h, w], 255 where there is none."""
    return read_labels(sources, part(job.geobox, tile.row, tile.col, tile.height, tile.width))


def _confusion(
    predictor: Predictor, job: PairJob, sources: Sequence[BandSource], tile_size: int
) -> NDArray[np.int64]:
    classes = len(predictor.segmenter.class_names)
    matrix = np.zeros((classes, classes), dtype=np.int64)
    for tile in tiles(job.geobox, tile_size):
        found = predictor.tile(job, tile)
        best = np.where(found.valid, found.probabilities.argmax(axis=0), IGNORE).astype(np.uint8)
        matrix += confusion(read_truth(sources, job, tile), best, classes, IGNORE)
    return matrix
