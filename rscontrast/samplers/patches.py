"""A patch within the ground of each pair, on the pixel grid, and others to read in its stead."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import repeat
from typing import Protocol

import numpy as np
import shapely
from numpy.typing import NDArray
from torchgeo.datasets import GeoDataset

from rscontrast.datasets.slices import PairDraw, PairSlice
from rscontrast.errors import InputError, height_width
from rscontrast.samplers.lot import Lot
from rscontrast.samplers.sides import Sides
from rscontrast.stac.pairing.places import Labels, Shapes

CHUNK = 1024
"""Pairs that are drawn at once, at most."""

ROUNDS = 16
"""Positions that are tried on a ground, and other pairs of a place whose ground is too small."""

IDLE = 8
"""Chunks without a single patch before giving up."""

SLACK = 0.1
"""Part of a pixel that a patch may stick out: footprints are rounded when they are written."""

type Boxes = NDArray[np.float64]


def until_idle[T](chunks: Iterable[Iterable[T]]) -> Iterator[T]:
    """Yield what is in chunks, up to a row of :data:`IDLE` that are empty."""
    idle = 0
    for chunk in chunks:
        idle += 1
        for one in chunk:
            idle = 0
            yield one
        if idle == IDLE:
            return


class PairSource(Protocol):
    """What pairs are drawn from."""

    def choose(self, n: int, rng: np.random.Generator) -> Lot:
        """Draw pairs."""

    def again(self, place: Labels, kind: Labels, rng: np.random.Generator) -> Lot:
        """Draw others of the same places and kinds."""


@dataclass(frozen=True)
class Fitter:
    """Patches of one size on the pixel grid of a dataset."""

    origin: NDArray[np.float64]
    """A corner of the grid, (x, y)."""
    res: NDArray[np.float64]
    """Pixel size, (x, y)."""
    size: NDArray[np.float64] | None
    """Width and height in units of the CRS; None: as large as the ground."""

    @classmethod
    def of(cls, dataset: GeoDataset, size: int | tuple[int, int] | None) -> "Fitter":
        """Read the grid off a dataset.

        Args:
            dataset: whose patches these are.
            size: (H, W) in pixels, or one number for both.

        Raises:
            InputError: a side below one pixel.
        """
        origin, res = dataset.index.total_bounds[:2], np.array(dataset.res, dtype=np.float64)
        if size is None:
            return cls(origin, res, None)
        return cls(origin, res, np.array(height_width("size", size)[::-1]) * res)

    def shrink(self, patch: Boxes) -> Shapes:
        """What of each patch has to be covered, [n]."""
        inset = np.concatenate([self.res, -self.res]) * SLACK
        boxes: Shapes = shapely.box(*(patch + inset).T)
        return boxes

    def place(self, grounds: Shapes, rng: np.random.Generator) -> Boxes:
        """Put a patch on each ground: xmin, ymin, xmax, ymax; NaN where none fits, [n, 4]."""
        # Bounds of what is missing or empty are NaN.
        if self.size is None:
            return self._snap(shapely.bounds(grounds))
        patches = np.full((len(grounds), 4), np.nan)
        rooms = shapely.bounds(self._rooms(grounds))
        todo = np.flatnonzero(~np.isnan(rooms[:, 0]))
        for _ in range(ROUNDS):
            if not todo.size:
                break
            low, high = rooms[todo, :2], rooms[todo, 2:]
            corner = low + rng.random((len(todo), 2)) * (high - low)
            patch = self._snap(np.concatenate([corner, corner + self.size], axis=1))
            fits = shapely.covers(grounds[todo], self.shrink(patch))
            patches[todo[fits]] = patch[fits]
            todo = todo[~fits]
        return patches

    def _rooms(self, grounds: Shapes) -> Shapes:
        """Where the lower left corner may lie, so that all four corners are on the ground."""
        x, y = np.asarray(self.size) - SLACK * self.res
        left, low = SLACK * self.res
        corners = ((left, low), (x, low), (left, y), (x, y))
        moved = (shapely.transform(grounds, lambda xy, by=by: xy - np.array(by)) for by in corners)
        return reduce(shapely.intersection, moved)

    def _snap(self, patch: Boxes) -> Boxes:
        low = np.round((patch[:, :2] - self.origin) / self.res)
        sides = np.round((patch[:, 2:] - patch[:, :2]) / self.res)
        snapped = np.concatenate([low, low + sides], axis=1) * np.tile(self.res, 2)
        snapped[(sides < 1).any(axis=1)] = np.nan
        return snapped + np.tile(self.origin, 2)


@dataclass(frozen=True)
class PatchDraws:
    """Draws of a pair and a patch on its ground."""

    source: PairSource
    sides: Sides
    fitter: Fitter
    min_valid: float | None = None
    """See :class:`rscontrast.datasets.slices.PairDraw`; None: plain slices without spares."""
    tries: int = 1
    """Patches a draw names, with the first."""

    def draw(self, length: int, rng: np.random.Generator) -> Iterator[PairSlice]:
        """Yield draws, without end.

        Args:
            length: of an epoch: no more are drawn at once.
            rng: the source of chance.

        Raises:
            InputError: no pair has room for a patch.
        """
        yield from until_idle(self._chunk(n, rng) for n in repeat(min(length, CHUNK)))
        size = None if self.fitter.size is None else self.fitter.size / self.fitter.res
        raise InputError("size", size, "a size (W, H) that fits the common ground of some pairs")

    def _chunk(self, n: int, rng: np.random.Generator) -> Iterator[PairSlice]:
        lot, patches = self._fit(self.source.choose(n, rng), rng)
        fits = ~np.isnan(patches[:, 0])
        lot, patches = lot.take(fits), patches[fits]
        chosen = [self._slices(lot, patches)]
        chosen += [self._others(lot, rng) for _ in range(self.tries - 1)]
        for first, *others in zip(*chosen, strict=True):
            yield self._with_spares(first, others)

    def _fit(self, lot: Lot, rng: np.random.Generator) -> tuple[Lot, Boxes]:
        """Where a ground is too small, try other pairs of the place and kind."""
        patches = self.fitter.place(lot.ground, rng)
        for _ in range(ROUNDS):
            todo = np.flatnonzero(np.isnan(patches[:, 0]))
            if not todo.size:
                break
            other = self.source.again(lot.place[todo], lot.kind[todo], rng)
            lot = lot.put(todo, other)
            patches[todo] = self.fitter.place(other.ground, rng)
        return lot, patches

    def _others(self, lot: Lot, rng: np.random.Generator) -> list[PairSlice | None]:
        other = self.source.again(lot.place, lot.kind, rng)
        return self._slices(other, self.fitter.place(other.ground, rng))

    def _slices(self, lot: Lot, patches: Boxes) -> list[PairSlice | None]:
        return [
            None
            if np.isnan(left)
            else (slice(left, right), slice(low, high), (self.sides.span(a), self.sides.span(b)))
            for (left, low, right, high), a, b in zip(
                patches.tolist(), lot.pre.tolist(), lot.post.tolist(), strict=True
            )
        ]

    def _with_spares(self, first: PairSlice, others: list[PairSlice | None]) -> PairSlice:
        if self.min_valid is None:
            return first
        spares: list[PairSlice] = []
        for other in others:
            if other is not None and other != first and other not in spares:
                spares.append(other)
        return PairDraw(first, tuple(spares), self.min_valid)
