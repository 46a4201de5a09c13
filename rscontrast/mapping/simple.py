"""A job and the outputs of a run by the pairwise mapper: what stands in until there is better."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio

from rscontrast.io.grid import ground_res
from rscontrast.io.read import ItemSource
from rscontrast.mapping.job import Job, Result, Settings
from rscontrast.mapping.native import PairJob
from rscontrast.mapping.pairwise import _item, _write_catalog, _write_rasters
from rscontrast.mapping.planned import Plan
from rscontrast.mapping.predict import Predictor
from rscontrast.models.checkpoint import load_segmenter
from rscontrast.stac.provider import GENERIC, Provider
from rscontrast.types import IGNORE

NAMES = ("classes.tif", "probabilities.tif")


@dataclass(frozen=True)
class _Job(PairJob):
    provider: Provider = GENERIC

    def sources(
        self, bands: Sequence[str], provider: Provider = GENERIC
    ) -> tuple[list[ItemSource], list[ItemSource]]:
        return super().sources(bands, self.provider if provider is GENERIC else provider)


def load(settings: Settings) -> Predictor:
    """Read the model, once a process.

    Raises:
        CheckpointError: it is no segmenter.
    """
    return Predictor(
        load_segmenter(settings.checkpoint), patch_size=settings.patch_size,
        overlap=settings.overlap, batch_size=settings.batch_size, device=settings.device,
    )  # fmt: skip


def map_job(job: Job, model: Predictor, settings: Settings, folder: Path) -> Result:
    """Write both COGs of a tile.

    Raises:
        AssetError, BandError, GridError, TrainingError, WriteError: as of ``map_pairs``.
    """
    began, names = time.monotonic(), model.segmenter.class_names
    pair = _Job(job.id, job.pre, job.post, job.geobox, job.aoi, settings.provider or GENERIC)
    model.require_res(pair)
    for _ in _write_rasters(pair, model, folder / job.id, 1024):
        pass
    with rasterio.open(folder / job.id / NAMES[0]) as file:
        count = np.bincount(file.read(1).ravel(), minlength=IGNORE + 1)
    files = {f"{job.id}/{n}": _sha256(folder / job.id / n) for n in NAMES}
    valid = int(count[: len(names)].sum())
    km2 = valid * ground_res(job.geobox) ** 2 / 1e6
    share, pixels = valid / count.sum(), tuple(map(int, count[: len(names)]))
    return Result(job.id, files, km2, float(share), time.monotonic() - began, pixels)


def finish(folder: Path, plan: Plan, settings: Settings, results: Sequence[Result]) -> None:
    """Write the catalog."""
    names = load_segmenter(settings.checkpoint).class_names
    done = {result.id for result in results}
    pairs = [PairJob(j.id, j.pre, j.post, j.geobox, j.aoi) for j in plan.jobs if j.id in done]
    items = {pair.name: _item(pair, names, settings.checkpoint) for pair in pairs}
    for name in items:
        _write_catalog(items, name, folder / "catalog.json")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
