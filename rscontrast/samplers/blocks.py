"""Several patches of each visited block of a file, so that it is decoded once for all of them."""

from collections.abc import Iterator
from itertools import islice
from typing import Unpack

import numpy as np
import pandas as pd
from shapely.geometry.base import BaseGeometry
from torchgeo.datasets import GeoDataset

from rscontrast.datasets.slices import PairSlice
from rscontrast.errors import InputError, whole
from rscontrast.samplers.epochs import EpochShares
from rscontrast.samplers.pairs import TemporalPairSampler
from rscontrast.samplers.patches import IDLE
from rscontrast.samplers.sides import images_of
from rscontrast.samplers.visits import NativePatches, visit_block
from rscontrast.samplers.weights import Weights
from rscontrast.stac.pairing.arguments import PairRules
from rscontrast.stac.pairing.file import SomePairs

VISITS = 64
"""Pairs that are drawn at once."""


class BlockAlignedPairSampler(EpochShares[PairSlice]):
    """Draw patches that lie within blocks of the files, several of each block.

    A visit is a pair, a block of the native grid of the first item of its first date, drawn by
    its share of the common ground, and ``per_block`` patches wholly inside the block and the
    ground. The patches of ``blocks`` visits are shuffled together. So a block that is kept
    decoded serves ``per_block`` patches, where a patch of its own place needs 1.6 blocks on
    average (256 pixels, blocks of 1024).

    What it costs in randomness:

    - A batch shows fewer places. With the defaults and 64 pairs a batch, 8 blocks in place of
      64; with ``blocks=32``, 29; with ``blocks=128``, 52. Losses that take other samples of the
      batch as negatives see patches of one block as negatives of each other. Memory for decoded
      blocks grows with ``blocks``: bands x 2 dates x 2 MB for blocks of 1024 in 16 bits.
    - Pixels near a block's border are seen less often, since no patch crosses it. For patches of
      256 in blocks of 1024 a row at the border is seen 1/192, one 96 pixels inside half as often
      as the average row; the middle 1.33 times as often. 19 % of the rows are seen less than
      half as often as the average. Other epochs do not make up for it: mix in epochs of
      independent patches if borders matter.

    Of ``w`` ranks each takes every w-th patch, so that all visit each block: give ``w`` times the
    ``per_block`` and ``blocks`` for the same reuse and the same places a batch. It is distributed
    and resumable as :class:`rscontrast.samplers.EpochSampler` is.
    """

    def __init__(
        self,
        dataset: GeoDataset,
        *,
        size: int | tuple[int, int],
        length: int,
        pairs: SomePairs | None = None,
        block: tuple[int, int] | None = None,
        per_block: int = 8,
        blocks: int = 8,
        roi: BaseGeometry | None = None,
        toi: pd.Interval | None = None,
        by: str = "place",
        weights: Weights | None = None,
        generator: int | np.random.Generator | None = None,
        **rules: Unpack[PairRules],
    ) -> None:
        """Find the pairs that may be drawn.

        Args:
            dataset: a STACDataset, or a pair dataset over one.
            size: patch (H, W) in pixels, or one number for both.
            length: draws an epoch, over all ranks.
            pairs: as in :class:`TemporalPairSampler`, as is what is not said here.
            block: block (H, W) in pixels; default: that of the first band of the first item,
                whose file is opened for this when the first draw is made.
            per_block: patches of each visited block.
            blocks: visits whose patches are shuffled together.
            roi: in the CRS of the dataset.
            toi: time of interest.
            by: "place" or "pair".
            weights: how often a pair is drawn.
            generator: seed or generator of the draw.
            **rules: of ``pair_items``.

        Raises:
            InputError: a rule or number out of range, or a dataset without items.
            EmptySearchError: no pair is left.
        """
        images = images_of(dataset)
        if images is None:
            allowed = "a STACDataset or a pair dataset over one, whose items have native grids"
            raise InputError("dataset", type(dataset).__name__, allowed)
        times = TemporalPairSampler(
            dataset, pairs=pairs, length=length, roi=roi, toi=toi, by=by, weights=weights,
            generator=generator, **rules,
        )  # fmt: skip
        super().__init__(times.seed, common=generator is not None)
        self._images, self._times, self._roi = images, times, roi
        height, width = (size, size) if isinstance(size, int) else size
        self.size = whole("size", height), whole("size", width)
        self.length, self._block = whole("length", length), block
        self.per_block, self.blocks = whole("per_block", per_block), whole("blocks", blocks)
        if block is not None:
            self._require_room(block)

    def _require_room(self, block: tuple[int, int]) -> None:
        if block[0] < self.size[0] or block[1] < self.size[1]:
            allowed = f"at most a block, {tuple(block)}; or several as one: block=(H, W)"
            raise InputError("size", self.size, allowed)

    @property
    def roi(self) -> BaseGeometry:
        """Where pairs are drawn, in the CRS of the dataset."""
        return self._times.roi

    @property
    def block(self) -> tuple[int, int]:
        """Block (H, W) in pixels; the first call may open a file.

        Raises:
            InputError: patches are larger.
            AssetError: the file cannot be opened.
        """
        if self._block is None:
            block = self._images.block_shape(0)
            self._require_room(block)
            self._block = block
        return self._block

    def epoch_length(self) -> int:
        """Draws an epoch, over all ranks."""
        return self.length

    def epoch_draws(self, seeds: np.random.SeedSequence) -> Iterator[PairSlice]:
        """Patches of an epoch.

        Raises:
            InputError: no pair has room for a patch in a block.
        """
        rng = np.random.default_rng(seeds)
        return islice(self._shuffled(rng), self.length)

    def _shuffled(self, rng: np.random.Generator) -> Iterator[PairSlice]:
        visits = self._visits(rng)
        while True:
            patches = [patch for visit in islice(visits, self.blocks) for patch in visit]
            for number in rng.permutation(len(patches)):
                yield patches[number]

    def _native(self, item: int) -> NativePatches:
        return NativePatches(self._images, self._images.geoboxes[item], self.size)

    def _visits(self, rng: np.random.Generator) -> Iterator[list[PairSlice]]:
        pairs = self._times.pairs
        items = pairs.files.index["item"].to_numpy()
        idle = 0
        while idle < IDLE * VISITS:
            lot = pairs.source.choose(VISITS, rng).within(self._roi)
            for ground, pre, post in zip(lot.ground, lot.pre, lot.post, strict=True):
                times = pairs.sides.span(pre), pairs.sides.span(post)
                item = int(items[pairs.sides.row[pre]])
                visit = visit_block(self._native(item), ground, self.block, self.per_block, rng)
                idle = 0 if visit else idle + 1
                if visit:
                    yield [(x, y, times) for x, y in visit]
        raise InputError("size", self.size, "a size that fits blocks on the ground of some pairs")
