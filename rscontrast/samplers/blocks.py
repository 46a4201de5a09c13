"""Several patches of each visited block of a file, so that it is decoded once for all of them."""

from collections.abc import Iterator
from itertools import islice, repeat
from typing import Unpack

import numpy as np
import pandas as pd
from shapely.geometry.base import BaseGeometry
from torchgeo.datasets import GeoDataset

from rscontrast.datasets.slices import PairSlice
from rscontrast.errors import InputError, height_width, whole
from rscontrast.samplers.epochs import EpochShares
from rscontrast.samplers.pairs import TemporalPairSampler
from rscontrast.samplers.patches import until_idle
from rscontrast.samplers.sides import images_of
from rscontrast.samplers.visits import NativePatches, random_point, visit_block
from rscontrast.samplers.weights import Weights
from rscontrast.stac.pairing.arguments import PairRules, require_rules
from rscontrast.stac.pairing.file import SomePairs

VISITS = 64
"""Pairs that are drawn at once."""


class BlockAlignedPairSampler(EpochShares[PairSlice]):
    """Draw patches that lie within blocks of the files, several of each block.

    A visit is a pair, a random point of its common ground, the block that holds it of the file
    of the first date that lies there, and ``per_block`` patches wholly inside the block and the
    ground. The patches of ``blocks`` visits are shuffled together. So a block that is kept
    decoded serves ``per_block`` patches, where a patch of its own place needs 1.6 blocks on
    average (256 pixels, blocks of 1024).

    This holds while the decoded blocks of a buffer fit what the reader keeps, 128 MB a process:
    ``blocks`` x bands x 2 dates x 2 MB (1024 x 1024 in 16 bits), which is 128 MB for four bands
    and the defaults. Beyond, blocks are decoded again and again, and nothing is gained. Decoded
    blocks a pair, measured with four bands, two dates and ``per_block=8``; without any reuse 8
    at least:

        ========== === === === ===
        ``blocks``   4   8  16  32
        decoded    1.0 0.8 2.6 4.7
        ========== === === === ===

    With 13 bands the defaults are beyond it (416 MB): take ``blocks=2``. There are no spares for
    patches with few valid pixels (``min_valid``).

    What it costs in randomness:

    - A batch shows fewer places: with the defaults and 64 pairs a batch, 8 blocks in place of 64.
      Losses that take other samples of the batch as negatives see patches of one block as
      negatives of each other. For more places a batch give fewer ``per_block``, or larger
      batches, rather than more ``blocks`` than are kept.
    - Pixels near a block's border are seen less often, since no patch crosses it. For patches of
      256 in blocks of 1024 a row at the border is seen 1/192, one 96 pixels inside half as often
      as the average row; the middle 1.33 times as often. 19 % of the rows are seen less than
      half as often as the average. Other epochs do not make up for it: mix in epochs of
      independent patches if borders matter.

    Of ``w`` ranks each takes every w-th patch and decodes all blocks for itself: give ``w`` times
    the ``per_block`` for the same reuse; the limit for ``blocks`` stays, since each process keeps
    128 MB. It is distributed and resumable as :class:`rscontrast.samplers.EpochSampler` is.
    """

    def __init__(
        self,
        dataset: GeoDataset,
        *,
        size: int | tuple[int, int],
        length: int,
        pairs: SomePairs | None = None,
        block: int | tuple[int, int] | None = None,
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
            block: block (H, W) in pixels, or one number for both; default: that of the first band
                of the first item, whose file is opened for this when the first draw is made.
            per_block: patches of each visited block.
            blocks: visits whose patches are shuffled together; see above for how many.
            roi: in the CRS of the dataset.
            toi: time of interest.
            by: "place" or "pair".
            weights: how often a pair is drawn.
            generator: seed or generator of the draw.
            **rules: of ``pair_items``.

        Raises:
            InputError: an argument that is not as said above, what is no rule, or a dataset
                without items.
            EmptySearchError: no pair is left.
        """
        images = images_of(dataset)
        if images is None:
            allowed = "a STACDataset or a pair dataset over one, whose items have native grids"
            raise InputError("dataset", type(dataset).__name__, allowed)
        require_rules(rules)
        times = TemporalPairSampler(
            dataset, pairs=pairs, length=length, roi=roi, toi=toi, by=by, weights=weights,
            generator=generator, **rules,
        )  # fmt: skip
        super().__init__(times.seed, common=generator is not None)
        self._images, self._times = images, times
        self.size, self.length = height_width("size", size), whole("length", length)
        self.per_block, self.blocks = whole("per_block", per_block), whole("blocks", blocks)
        self._block = None if block is None else self._with_room(height_width("block", block))

    def _with_room(self, block: tuple[int, int]) -> tuple[int, int]:
        if block[0] < self.size[0] or block[1] < self.size[1]:
            allowed = f"at most a block, {block}; or several as one: block=(H, W)"
            raise InputError("size", self.size, allowed)
        return block

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
            self._block = self._with_room(self._images.block_shape(0))
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

    def _visits(self, rng: np.random.Generator) -> Iterator[list[PairSlice]]:
        yield from until_idle(self._some_visits(n, rng) for n in repeat(VISITS))
        raise InputError("size", self.size, "a size that fits blocks on the ground of some pairs")

    def _some_visits(self, n: int, rng: np.random.Generator) -> Iterator[list[PairSlice]]:
        pairs = self._times.pairs
        lot = pairs.source.choose(n, rng)
        for ground, pre, post in zip(lot.ground, lot.pre, lot.post, strict=True):
            visit = self._visit(ground, (pairs.sides.span(pre), pairs.sides.span(post)), rng)
            if visit:
                yield visit

    def _visit(
        self, ground: BaseGeometry, times: tuple[slice, slice], rng: np.random.Generator
    ) -> list[PairSlice]:
        point = random_point(ground, rng)
        if point is None:
            return []
        try:
            item = self._images.at(point, times[0])[0]
        except IndexError:  # a footprint may be larger than its files
            return []
        native = NativePatches(self._images, self._images.geoboxes[item], self.size)
        visit = visit_block(native, ground, point, self.block, self.per_block, rng)
        return [(x, y, times) for x, y in visit]
