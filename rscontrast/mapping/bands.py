"""The imagery of a job, one row of patches after the other, from its top to its bottom."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.features import geometry_mask
from shapely.geometry.base import BaseGeometry
from torch import Tensor

from rscontrast.errors import GridError
from rscontrast.io.cells import keep_cells
from rscontrast.io.read import ItemSource, block_shape, read_dates
from rscontrast.mapping.job import Job
from rscontrast.mapping.model import Model
from rscontrast.mapping.native import part
from rscontrast.stac.provider import Provider

MOST = 512 * 2**20
"""Bytes of decoded blocks that are kept at most, so that a row of blocks is decoded once."""


@dataclass(frozen=True)
class Band:
    """A row of patches."""

    images: Tensor
    """Normalised reflectance [dates, C, size, W], 0 where unusable."""
    usable: NDArray[np.bool_]
    """Cells that are mapped: within the tile and its aoi, usable at each date, [h, w]."""
    cols: tuple[int, ...]
    """Where those patches begin that have a say on a usable cell: cells from the left."""


class Layout:
    """Where the patches of a tile lie, in cells of the endless lattice of its CRS."""

    def __init__(self, job: Job, model: Model) -> None:
        """Find them.

        Raises:
            GridError: the tile is not made of whole cells.
        """
        self.job, self.window, self.cell = job, model.window, model.cell
        left, top = (math.floor(0.01 - x) for x in ~job.geobox.transform @ (0.0, 0.0))
        numbers = (top, left, *job.geobox.shape)
        if any(number % self.cell for number in numbers):
            where = f"begins at pixel {(top, left)}, {job.geobox.shape} pixels"
            raise GridError(f"job {job.id}: {where}; not multiples of the stride {self.cell}")
        self.top, self.left, self.height, self.width = (n // self.cell for n in numbers)
        self.rows = self.window.starts(self.top, self.top + self.height)
        self.cols = self.window.starts(self.left, self.left + self.width)
        self.span = self.cols[-1] + self.window.size - self.cols[0]
        """Cells from the first patch of a row to the end of the last."""

    @property
    def inner(self) -> slice:
        """Columns of the tile in a row of patches."""
        first = self.left - self.cols[0]
        return slice(first, first + self.width)

    @property
    def geobox(self) -> GeoBox:
        """Grid of the cells."""
        transform = self.job.geobox.transform @ Affine.scale(self.cell)
        return GeoBox((self.height, self.width), transform, self.job.geobox.crs)

    def box(self, row: int, height: int) -> GeoBox:
        """Pixels under some rows of cells, as wide as a row of patches."""
        corner = (row - self.top) * self.cell, (self.cols[0] - self.left) * self.cell
        return part(self.job.geobox, *corner, height * self.cell, self.span * self.cell)

    def done(self, number: int) -> tuple[int, slice]:
        """First row of the tile that a row of patches finishes; and which of those it finishes."""
        first = self.rows[number] + self.window.lead - self.top
        cut = slice(max(0, -first), min(self.window.stride, self.height - first))
        return max(0, first), cut

    def needed(self, usable: NDArray[np.bool_]) -> tuple[int, ...]:
        """Patches of a row whose weights meet a usable cell."""
        window = self.window
        across = usable[window.lead : window.size - window.tail].any(axis=0)
        starts = (col - self.cols[0] for col in self.cols)
        return tuple(
            c for c in starts if across[c + window.lead : c + window.size - window.tail].any()
        )


def read_bands(layout: Layout, model: Model, provider: Provider | None) -> Iterator[Band]:
    """Read a job.

    Rows that two rows of patches share are read once.

    Raises:
        AssetError, BandError, GridError: as :func:`rscontrast.io.read_dates`.
    """
    dates = layout.job.sources(model.contract.bands, provider)[-model.dates :]
    window, cell, pinned = layout.window, layout.cell, model.device.type == "cuda"
    _keep_blocks(dates, layout.span * cell, window.size * cell)
    shape = (model.dates, len(model.contract.bands), window.size * cell, layout.span * cell)
    before: Band | None = None
    for top in layout.rows:
        images = torch.empty(shape, pin_memory=pinned)
        usable = np.empty((window.size, layout.span), dtype=bool)
        known = 0 if before is None else window.overlap
        if before is not None:
            images[..., : known * cell, :] = before.images[..., window.stride * cell :, :]
            usable[:known] = before.usable[window.stride :]
        new = images[..., known * cell :, :].numpy()
        usable[known:] = _read(layout, model, dates, top + known, window.size - known, new)
        before = Band(images, usable, layout.needed(usable))
        yield before


def _read(
    layout: Layout,
    model: Model,
    dates: Sequence[Sequence[ItemSource]],
    row: int,
    height: int,
    out: NDArray[np.float32],
) -> NDArray[np.bool_]:
    """Read rows of cells into ``out`` [dates, C, H, W].

    Returns:
        which cells are mapped, [h, w].
    """
    box = layout.box(row, height)
    mean, std = (
        np.array(values, dtype=np.float32)[:, None, None]
        for values in (model.contract.mean, model.contract.std)
    )
    usable = np.ones(box.shape, dtype=bool)
    for date, (image, valid) in enumerate(read_dates(dates, box)):
        # In place: of long rows new memory costs more than the arithmetic.
        np.subtract(image, mean, out=out[date])
        out[date] /= std
        if not valid.all():
            out[date] *= valid
        usable &= valid
    usable &= _inside(layout.job.aoi, box)
    cells = _cells(usable, layout.cell)
    cells[: max(0, layout.top - row)] = False
    cells[max(0, layout.top + layout.height - row) :] = False
    cells[:, : layout.inner.start] = False
    cells[:, layout.inner.stop :] = False
    return cells


def _cells(usable: NDArray[np.bool_], cell: int) -> NDArray[np.bool_]:
    """Cells at least half of whose pixels are usable."""
    if cell == 1:
        return usable
    height, width = usable.shape
    share = usable.reshape(height // cell, cell, width // cell, cell).mean(axis=(1, 3))
    return np.asarray(share >= 0.5)


def _inside(aoi: BaseGeometry | None, box: GeoBox) -> NDArray[np.bool_] | bool:
    """Pixels whose centre lies in the aoi."""
    if aoi is None:
        return True
    within: NDArray[np.bool_] = geometry_mask([aoi], box.shape, box.transform, invert=True)
    return within


def _keep_blocks(dates: Sequence[Sequence[ItemSource]], width: int, height: int) -> None:
    """Have as many decoded blocks kept as lie under the rows of a band."""
    bands = [items[0].bands for items in dates]
    tall = max(block_shape(of_date[0])[0] for of_date in bands)
    pixels = sum(map(len, bands)) * width * (tall + height)
    keep_cells(min(MOST, 2 * pixels))
