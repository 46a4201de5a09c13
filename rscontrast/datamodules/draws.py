"""What is drawn from a pair dataset: places, dates, and how often."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import geopandas as gpd
import numpy as np
from torch.utils.data import Sampler

from rscontrast.datasets import TemporalPairDataset
from rscontrast.errors import InputError, choose, whole
from rscontrast.samplers import (
    BlockAlignedPairSampler,
    EpochSampler,
    RandomPlaceSampler,
    TemporalPairSampler,
)

AREA = "area"
BY = (AREA, "place", "pair")


@dataclass(frozen=True)
class PairDraws:
    """Rules of the draw, for any dataset and table of pairs."""

    patch_size: int
    """Side of a patch, pixels."""
    by: str = AREA
    """"area": any patch on the ground of pairs is as likely; "place", "pair": see the sampler."""
    weights: str | None = None
    """How often a pair is drawn: a column of the pairs, or "season"."""
    min_valid: float | None = None
    """Least share (0-1) of the pixels that are valid on both dates; others are drawn again."""
    tries: int = 5
    """Patches that are read at most for one draw."""
    per_block: int | None = None
    """Patches of each visited block of a file; None: independent patches."""
    tolerance: str = "1h"
    """As the pairs were made with."""

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        whole("patch_size", self.patch_size)
        choose("by", self.by, BY)
        if self.per_block is not None and self.min_valid is not None:
            raise InputError(
                "min_valid", self.min_valid, "None with per_block: blocks have no spares"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for what is told of a cache."""
        return asdict(self)

    def sampler(
        self, dataset: TemporalPairDataset, pairs: gpd.GeoDataFrame, length: int, seed: int
    ) -> Any:
        """Sampler of ``length`` draws an epoch.

        Raises:
            InputError: the tables do not fit each other, or the patch does not fit the places.
        """
        known: dict[str, Any] = {
            "pairs": pairs, "tolerance": self.tolerance, "weights": self.weights,
            "generator": seed,
        }  # fmt: skip
        alone: dict[str, Any] = {"size": int(self.patch_size), "length": length}
        if self.by != AREA:
            alone["by"] = self.by
        if self.per_block is not None:
            return BlockAlignedPairSampler(dataset, per_block=self.per_block, **alone, **known)
        known |= {"min_valid": self.min_valid, "tries": self.tries}
        if self.by != AREA:
            return TemporalPairSampler(dataset, **alone, **known)
        dates = TemporalPairSampler(dataset, **known)
        places = RandomPlaceSampler(
            dataset, size=int(self.patch_size), length=length, roi=dates.roi, generator=seed
        )
        return places @ dates


class SameDraws(Sampler[Any]):
    """The same draws each epoch: so that one validation is compared with the next."""

    def __init__(self, sampler: Sampler[Any], seed: int) -> None:
        """List one epoch of ``sampler``."""
        self.draws = list(EpochSampler(sampler, seed=seed, rank=0, world=1))

    def __len__(self) -> int:
        """Number of draws."""
        return len(self.draws)

    def __iter__(self) -> Iterator[Any]:
        """Yield them."""
        return iter(self.draws)


class ShuffledSampler(Sampler[int]):
    """So many numbers of samples an epoch, none twice."""

    def __init__(self, count: int, length: int, generator: int) -> None:
        """Draw ``length`` of ``count``.

        Raises:
            InputError: there are not as many.
        """
        if length > count:
            raise InputError("length", length, f"up to {count}, the number of cached pairs")
        self.count, self.length = count, length
        self.generator = np.random.default_rng(generator)

    def __len__(self) -> int:
        """Draws an epoch."""
        return self.length

    def __iter__(self) -> Iterator[int]:
        """Yield numbers."""
        yield from self.generator.permutation(self.count)[: self.length].tolist()


def derived(seed: int, purpose: int) -> int:
    """Seed of one of several independent draws."""
    return int(np.random.SeedSequence([seed, purpose]).generate_state(1)[0])
