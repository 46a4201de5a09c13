"""Statistics of the bands by one pass over samples, in memory that does not grow.

Means and deviations are merged patch by patch (Chan, Golub and LeVeque, 1979), which stays exact
where a band's mean is a million times its spread; sums of squares would not. Percentiles are
those of a uniform sample of the pixels: each pixel draws a number, and those with the lowest are
kept, so that two samples merge into a uniform one of both.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torchgeo.datasets.utils import Sample

from rscontrast.errors import InputError, whole
from rscontrast.types import SensorContract

PERCENTILES = (2.0, 50.0, 98.0)
KEPT = 65_536
"""Pixels of the sample: a percentile p lies within 4 sqrt(p (100 - p)) / 256 of its rank."""


class BandStatistics:
    """Mean, standard deviation and percentiles of each band over valid pixels."""

    def __init__(
        self, *, percentiles: Sequence[float] = PERCENTILES, kept: int = KEPT, seed: int = 0
    ) -> None:
        """Begin with no pixel.

        Args:
            percentiles: which, 0-100.
            kept: pixels in the sample that the percentiles are estimated from; as long as there
                are no more, they are exact.
            seed: of that sample. What is merged needs different ones.

        Raises:
            InputError: a value out of range.
        """
        if not percentiles or not all(0 <= p <= 100 for p in percentiles):
            raise InputError("percentiles", percentiles, "1 or more numbers of 0 to 100")
        self.percentiles, self.seed = tuple(map(float, percentiles)), seed
        self.kept = whole("kept", kept)
        self.pixels = self.patches = 0
        self._rng = np.random.default_rng(seed)
        self._mean, self._square = np.zeros(1), np.zeros(1)
        self._ranks: NDArray[np.float64] = np.zeros(0)
        self._sample: NDArray[np.float32] | None = None

    def add(self, sample: Sample) -> None:
        """Count the valid pixels of a sample.

        Args:
            sample: ``image`` [..., C, H, W] and ``valid`` [..., H, W], one for each image.

        Raises:
            InputError: a valid pixel is not finite, or another number of bands than before.
        """
        image = sample["image"].movedim(-3, 0)
        pixels = image[:, sample["valid"]].numpy()
        self._same_bands(len(pixels))
        self.patches += 1
        if not pixels.size:
            return
        if not np.isfinite(pixels).all():
            raise InputError("image", "NaN or infinity", "finite numbers where it is valid")
        exact = pixels.astype(np.float64)
        mean = exact.mean(axis=1)
        exact -= np.expand_dims(mean, 1)
        self._join(pixels.shape[1], mean, np.einsum("cn,cn->c", exact, exact))
        ranks = self._rng.random((pixels.shape[1],))
        # Only those that may stay are copied: ever fewer.
        low = ranks < (self._ranks.max() if self._full() else 1)
        self._keep(ranks[low], pixels[:, low])

    def merge(self, other: Self) -> None:
        """Count all that ``other`` counted.

        Raises:
            InputError: other bands or percentiles, or the same seed, whose draws would not be
                independent.
        """
        if (other.percentiles, other.kept) != (self.percentiles, self.kept):
            raise InputError("percentiles", other.percentiles, f"{self.percentiles}, equally kept")
        if other.seed == self.seed:
            raise InputError("seed", other.seed, "another one for each part")
        self.patches += other.patches
        if other._sample is not None:
            self._same_bands(len(other._sample))
            self._join(other.pixels, other._mean, other._square)
            self._keep(other._ranks, other._sample)

    def _same_bands(self, count: int) -> None:
        if self._sample is not None and len(self._sample) != count:
            raise InputError("image", f"{count} bands", f"{len(self._sample)} bands, as before")

    def _join(self, count: int, mean: NDArray[np.float64], square: NDArray[np.float64]) -> None:
        """Merge the mean and the sum of squared deviations of so many pixels."""
        total = self.pixels + count
        step = mean - self._mean
        self._mean = self._mean + step * (count / total) if total else self._mean
        self._square = self._square + square + step**2 * (self.pixels * count / max(1, total))
        self.pixels = total

    def _full(self) -> bool:
        return len(self._ranks) == self.kept

    def _keep(self, ranks: NDArray[np.float64], pixels: NDArray[np.float32]) -> None:
        if self._sample is not None:
            ranks = np.concatenate([self._ranks, ranks])
            pixels = np.concatenate([self._sample, pixels], axis=1)
        if len(ranks) > self.kept:
            lowest = np.argpartition(ranks, self.kept)[: self.kept]
            ranks, pixels = ranks[lowest], pixels[:, lowest]
        self._ranks, self._sample = ranks, pixels

    def _some(self) -> NDArray[np.float32]:
        if self._sample is None or not self.pixels:
            raise InputError("pairs", "no valid pixel", "pairs with clear ground: lower max_cloud")
        return self._sample

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean of each band, [C]."""
        self._some()
        return self._mean

    @property
    def std(self) -> NDArray[np.float64]:
        """Standard deviation of each band over all pixels (not the sample's), [C].

        Raises:
            InputError: no pixel, or a band is constant: nothing could be normalised by it.
        """
        self._some()
        std: NDArray[np.float64] = np.sqrt(self._square / self.pixels)
        if not (std > 0).all():
            raise InputError("bands", f"std {std.tolist()}", "bands that vary over the patches")
        return std

    def percentile(self, percent: float | Sequence[float]) -> NDArray[np.float64]:
        """Percentile of each band, estimated from the sample: [C], or [P, C] for P of them."""
        found: NDArray[np.float64] = np.percentile(self._some().astype(np.float64), percent, axis=1)
        return found

    def contract(self, bands: Sequence[str], res: float) -> SensorContract:
        """What an encoder is fed that is normalised by these.

        Args:
            bands: names in the order of the channels.
            res: pixel size on the ground, metres.
        """
        return SensorContract(
            tuple(bands), res, tuple(self.mean.tolist()), tuple(self.std.tolist())
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for the record of a run."""
        found = self.percentile(self.percentiles).tolist()
        return {
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
            "percentiles": {
                f"{p:g}": band for p, band in zip(self.percentiles, found, strict=True)
            },
            "pixels": self.pixels,
            "patches": self.patches,
            "seed": self.seed,
        }


def band_statistics(samples: Iterable[Sample], *, seed: int = 0) -> BandStatistics:
    """Statistics of samples, by one pass.

    Args:
        samples: ``image`` [..., C, H, W] and ``valid`` [..., H, W].
        seed: of the sample of pixels.

    Raises:
        InputError: no pixel is valid, one is not finite, or a band is constant.
    """
    found = BandStatistics(seed=seed)
    for sample in samples:
        found.add(sample)
    found.std  # noqa: B018  # refuses what cannot be normalised by
    return found
