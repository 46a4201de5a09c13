"""The temporal half of `RandomPatchSampler(...) @ TemporalPairSampler(...)`."""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from numbers import Integral
from typing import Literal, Unpack

import numpy as np
import pandas as pd
import shapely
from shapely.geometry.base import BaseGeometry
from torchgeo.datasets import GeoDataset
from torchgeo.samplers import TemporalSampler

from rscontrast.datasets.slices import PairDraw, PairSlice
from rscontrast.errors import InputError, whole
from rscontrast.samplers.epochs import EpochShares
from rscontrast.samplers.pairset import Choice, PairSet
from rscontrast.samplers.patches import ROUNDS, SLACK, Fitter, PatchDraws
from rscontrast.samplers.weights import Weights
from rscontrast.stac.pairing.arguments import PairRules
from rscontrast.stac.pairing.file import SomePairs

EVERYWHERE = (slice(None), slice(None))


class TemporalPairSampler(  # type: ignore[misc]  # TorchGeo's has one time slice; ours has two
    EpochShares[PairSlice], TemporalSampler
):
    """Draw two dates of each place: under ``@`` at the patches of a spatial sampler, or alone.

    Under ``@`` the pairs that cover the whole patch (to a tenth of a pixel) are drawn, by their
    weights; where none does, those that cover most of it. Since the patch comes first, each
    weighs the same whatever its number of dates. The pairs are listed for this, up to the five
    million of ``PairTable.frame``. A random patch takes one pair; a cell of a grid takes as many
    as this sampler is long: one unless ``length`` says otherwise.

    Alone it yields ``length`` draws an epoch, each a pair and a patch on its common ground. A
    lazy table is not listed for this (but with ``weights``), so that any catalog will do. Alone
    it is also distributed and resumable, as :class:`rscontrast.samplers.EpochSampler` is, which
    makes ``a @ b`` so.

    With ``noisy_share`` that share of the draws straddles the event, by chance draw by draw; the
    places do not depend on the share, and :attr:`roi` is where there are pairs of both kinds.
    Rules with ``max_per_place`` too have mixed the pairs of each place already: these are drawn.
    """

    others: Iterable[tuple[slice, slice]] = ()
    """More patches, for spares; :class:`rscontrast.samplers.EpochSampler` gives them."""
    _multiplied = False

    @property
    def strategy(self) -> Literal["random", "sequential"]:
        """How ``@`` takes the pairs of a patch: "random"."""
        # Only a product asks for this. It multiplies by len(), which then must not be the share
        # of a rank: a product has no ranks.
        self._multiplied = True
        return "random"

    def __init__(
        self,
        dataset: GeoDataset,
        *,
        pairs: SomePairs | None = None,
        size: int | tuple[int, int] | None = None,
        length: int | None = None,
        roi: BaseGeometry | None = None,
        toi: pd.Interval | None = None,
        by: str = "place",
        weights: Weights | None = None,
        min_valid: float | None = None,
        tries: int = 5,
        generator: int | np.random.Generator | None = None,
        **rules: Unpack[PairRules],
    ) -> None:
        """Find the pairs that may be drawn.

        Args:
            dataset: any GeoDataset. Rules can ask for what its items say if it is a STACDataset
                or a pair dataset over one; of any other the index tells times and footprints.
            pairs: a table of :func:`rscontrast.stac.pair_items`, lazy or made: only its pairs are
                drawn, and no rule may be given but ``tolerance``, which says how long an
                acquisition lasts where the dataset does not know the items' ids.
            size: alone: patch (H, W) in pixels, or one number for both; default: the bounds of
                the common ground.
            length: alone: draws an epoch, over all ranks. Under a grid: pairs of each cell, 1 by
                default.
            roi: in the CRS of the dataset: pairs and patches lie within.
            toi: time of interest.
            by: alone: "place": every place weighs the same; "pair": what counts are the weights
                of the pairs alone. So a place weighs as much as the weights of its pairs sum up
                to, which may be any number: ``weights`` as a column that says it.
            weights: how often a pair is drawn, relative to others of its place: a numeric column
                of the pairs ("overlap", or ``change`` of ``rscontrast.io.pair_quality``),
                "season" (each quarter of the year of the first date weighs the same), or
                numbers, one a row of ``pairs``.
            min_valid: least share (0-1) of a patch's pixels that are valid on both dates: draws
                are then :class:`rscontrast.datasets.slices.PairDraw` with up to ``tries`` - 1
                spares, which the pair dataset reads where the pixels are too few. Under ``@``
                these are other pairs at the same patch, and where these run out, within an
                EpochSampler, pairs at other random patches; without one, and in a grid, there are
                no more. Alone they are other draws of the same place: other dates, other
                positions. With ``noisy_share`` they are of the same kind.
            tries: patches that are read at most for one draw.
            generator: seed (0 or more) or numpy generator of the draw. Ranks that share draws need
                a seed.
            **rules: see ``pair_items``. Its ``min_valid``, a rule on the metadata, is to be given
                by ``pairs=pair_items(items, min_valid=...)``.

        Raises:
            InputError: an argument that is not as said above, or a pair of dates that the dataset
                does not have.
            EmptySearchError: no pair is left.
        """
        if not (toi is None or _is_period(toi)):
            raise InputError("toi", toi, "a pandas.Interval of two Timestamps")
        TemporalSampler.__init__(self, dataset, toi=toi)
        if min_valid is not None and not 0 <= min_valid <= 1:
            raise InputError("min_valid", min_valid, "a share from 0 to 1")
        self.generator = _read_generator(generator)
        seed = generator if isinstance(generator, Integral) else self.generator.integers(2**62)
        EpochShares.__init__(self, int(seed), common=generator is not None)
        self.length = None if length is None else whole("length", length)
        self.min_valid, self.tries = min_valid, 1 if min_valid is None else whole("tries", tries)
        self.pairs = PairSet(dataset, self.index, pairs, rules, Choice(by, weights, roi))
        self._fitter = Fitter.of(dataset, size)

    @property
    def roi(self) -> BaseGeometry:
        """Where pairs are drawn, in the CRS of the dataset: the ``roi`` for a spatial sampler."""
        return self.pairs.listed.roi

    def epoch_length(self) -> int:
        """Draws an epoch over all ranks; 1 without ``length``, which is what a grid asks for."""
        return 1 if self.length is None else self.length

    def __len__(self) -> int:
        """Draws of this rank; under a grid, pairs of each cell, at any number of ranks."""
        whole = self.length is None or self._multiplied
        return self.epoch_length() if whole else super().__len__()

    def epoch_draws(self, seeds: np.random.SeedSequence) -> Iterator[PairSlice]:
        """Draws of the sampler alone.

        Raises:
            InputError: no length, or no pair has room for a patch.
        """
        if self.length is None:
            raise InputError("length", None, "the number of draws, or a spatial sampler before @")
        pairs = self.pairs
        draws = PatchDraws(pairs.source, pairs.sides, self._fitter, self.min_valid, self.tries)
        yield from islice(draws.draw(self.length, np.random.default_rng(seeds)), self.length)

    def _iter_subset(  # type: ignore[override]  # TorchGeo's yields one time slice; ours yields two
        self, location: tuple[slice, slice] = EVERYWHERE
    ) -> Iterator[PairSlice]:
        """Yield every pair of a place once, in a random order by weight.

        Raises:
            InputError: there is none; says which ``roi`` avoids such places.
        """
        x, y = location
        for turn, kind in enumerate(self.pairs.listed.kinds(self.generator)):
            some = False
            for draw in self._with_spares(self._draws(x, y, kind), kind):
                some = True
                yield draw
            if not (some or turn):
                where = (x.start, y.start, x.stop, y.stop)
                raise InputError("roi", where, "places with pairs: pass roi=pair_sampler.roi")

    def _draws(self, x: slice, y: slice, kind: int) -> Iterator[PairSlice]:
        lot, span = self.pairs.listed.lot, self.pairs.sides.span
        for row in self._rows(x, y, kind):
            yield x, y, (span(lot.pre[row]), span(lot.post[row]))

    def _rows(self, x: slice, y: slice, kind: int) -> Iterator[int]:
        """Pairs of a kind at a location."""
        for patch in self._patches(x, y):
            some = False
            for row in self.pairs.listed.at(patch, kind, self.generator):
                some = True
                yield row
            if some:
                return

    def _patches(self, x: slice, y: slice) -> Iterator[BaseGeometry | None]:
        """The location to a tenth of a pixel; as it is, where only that tenth has pairs."""
        if x.start is None:
            yield None
            return
        for dx, dy in (SLACK * self._fitter.res, (0, 0)):
            yield shapely.box(x.start + dx, y.start + dy, x.stop - dx, y.stop - dy)

    def _with_spares(self, draws: Iterator[PairSlice], kind: int) -> Iterator[PairSlice]:
        if self.min_valid is None:
            yield from draws
            return
        ahead = deque(islice(draws, self.tries))
        while ahead:
            first, *spares = ahead
            spares += islice(self._elsewhere(kind), self.tries - len(ahead))
            yield PairDraw(first, tuple(spares), self.min_valid)
            ahead.popleft()
            ahead.extend(islice(draws, 1))

    def _elsewhere(self, kind: int) -> Iterator[PairSlice]:
        """A pair of a kind at each of some other patches; few, where none has that kind."""
        for x, y in islice(self.others, ROUNDS * self.tries):
            yield from islice(self._draws(x, y, kind), 1)


def _is_period(toi: object) -> bool:
    return isinstance(toi, pd.Interval) and isinstance(toi.left, pd.Timestamp)


def _read_generator(generator: int | np.random.Generator | None) -> np.random.Generator:
    try:
        return np.random.default_rng(generator)
    except (ValueError, TypeError) as error:
        allowed = "a seed, 0 or more, a numpy Generator or None"
        raise InputError("generator", generator, allowed) from error
