"""One job: read, predict, blend, write; each on a thread of its own, none waits for the whole.

A thread reads a row of patches ahead; the model sees patches of two rows in one batch where a row
does not fill it; a thread writes rows behind. Memory is a few rows of patches, whatever the height
of the tile.
"""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rscontrast.errors import TrainingError
from rscontrast.io.grid import ground_res
from rscontrast.mapping.bands import Band, Layout, read_bands
from rscontrast.mapping.blend import RowBlend
from rscontrast.mapping.job import Job, Result, Settings
from rscontrast.mapping.model import Model
from rscontrast.mapping.model import load as load
from rscontrast.mapping.pipeline import Ahead, Behind
from rscontrast.mapping.products import Embedding, Maps, Numbers

type Rows = tuple[int, Numbers, NDArray[np.bool_]]
"""First row in the tile; pixels of each file [bands, h, w]; where they are data [h, w]."""

WAITING = 2
"""Rows of patches that wait for a batch to fill: more would take memory where little is usable."""


def map_job(job: Job, model: Model, settings: Settings, folder: Path) -> Result:
    """Map a tile: a segmenter's classes and probabilities, or an encoder's embedding.

    The same bytes come out whoever runs it; equal to a step of 255 with another batch size, or
    as part of another tile of the same lattice.

    Args:
        job: the tile.
        model: of :func:`load`.
        settings: of the run.
        folder: of the run; files go to ``folder / job.id``, each whole or not at all.

    Raises:
        AssetError: a file cannot be read.
        BandError: an item lacks a band.
        GridError: pixels of another size than the model knows; a file without a place.
        TrainingError: the model says NaN.
        WriteError: the disk does not take the result.
    """
    began = time.monotonic()
    model.require(job)
    layout, home = Layout(job, model), folder / job.id
    product = _product(home, job, layout, model, settings)
    counts = np.zeros(max(1, len(model.class_names)), dtype=np.int64)

    def write(rows: Rows) -> None:
        product.write(*rows)
        kept = rows[1][0][0][rows[2]] if model.class_names else np.zeros(rows[2].sum(), np.uint8)
        counts[:] += np.bincount(kept, minlength=len(counts))

    with (
        product,
        Behind(write) as writer,
        Ahead(read_bands(layout, model, settings.provider)) as bands,
    ):
        for row, values, valid in blended(bands, layout, model, settings.batch_size):
            writer.put((row, product.numbers(values), valid))
    files = {f"{job.id}/{name}": _sha256(home / name) for name in product.names}
    mapped, cells = int(counts.sum()), layout.height * layout.width
    km2 = mapped * (ground_res(job.geobox) * model.cell) ** 2 / 1e6
    pixels = tuple(map(int, counts)) if model.class_names else ()
    return Result(job.id, files, km2, mapped / cells, time.monotonic() - began, pixels)


def _product(
    home: Path, job: Job, layout: Layout, model: Model, settings: Settings
) -> Maps | Embedding:
    if model.class_names:
        return Maps(home, job, layout.geobox, model, settings)
    return Embedding(home, job, layout.geobox, model)


def blended(
    bands: Iterator[Band], layout: Layout, model: Model, batch_size: int
) -> Iterator[tuple[int, Tensor, NDArray[np.bool_]]]:
    """Rows of a tile as they are finished, from its top.

    Yields:
        the first row in the tile, what the model says [K, h, w], which cells count [h, w].

    Raises:
        TrainingError: the model says NaN.
    """
    batches = _Batches(layout, model)
    for number, band in enumerate(bands):
        batches.begin(band)
        images = band.images.to(model.device, non_blocking=True)
        size, cell = model.size, model.cell
        for col in band.cols:
            patch = images[..., col * cell : col * cell + size]
            batches.patches.append((number, col, patch))
            if len(batches.patches) == batch_size:
                yield from batches.run()
        if not batches.patches or len(batches.waiting) > WAITING:
            yield from batches.run()
            yield from batches.finish(number + 1)
    yield from batches.run()
    yield from batches.finish(len(layout.rows))


class _Batches:
    """Patches that wait for their batch, and rows that wait for their patches."""

    def __init__(self, layout: Layout, model: Model) -> None:
        self.layout, self.model = layout, model
        self.blend = RowBlend(model.window, model.channels, layout.span, model.device)
        self.patches: list[tuple[int, int, Tensor]] = []
        self.waiting: list[NDArray[np.bool_]] = []
        self.row = 0

    def begin(self, band: Band) -> None:
        """Take what is usable of the next row."""
        self.waiting.append(band.usable)

    @torch.inference_mode()
    def run(self) -> list[tuple[int, Tensor, NDArray[np.bool_]]]:
        """Predict what waits."""
        if not self.patches:
            return []
        places, self.patches = self.patches, []
        batch = torch.stack([patch for _, _, patch in places])
        found = self.blend.weigh(self.model.infer(batch))
        done = []
        for (number, col, _), patch in zip(places, found, strict=True):
            done += self.finish(number)
            self.blend.add(col, patch)
        return done

    @torch.inference_mode()
    def finish(self, number: int) -> list[tuple[int, Tensor, NDArray[np.bool_]]]:
        """Rows before those of a row of patches, as far as they are not out."""
        done = []
        while self.row < number:
            first, cut = self.layout.done(self.row)
            usable, lead = self.waiting.pop(0), self.layout.window.lead
            values = self.blend.advance()[:, cut, self.layout.inner]
            if not torch.isfinite(values).all():
                raise TrainingError("the model says NaN: its weights are broken, train it again")
            rows = slice(lead + cut.start, lead + cut.stop)
            done.append((first, values, usable[rows, self.layout.inner]))
            self.row += 1
        return done


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
