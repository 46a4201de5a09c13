"""Random numbers for a batch of images, on one device, from one generator."""

import math
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

from rscontrast.augment.device import fixed
from rscontrast.errors import InputError

type Probability = float | tuple[float, ...]
"""One for all images, or one for each view: image n takes number n % len."""

type Range = tuple[float, float]
"""(least, greatest), both drawn uniformly in between."""


@dataclass(frozen=True)
class Draws:
    """What an operation draws from: the batch's layout and its source of random numbers."""

    count: int
    bands: int
    shape: tuple[int, int]
    device: torch.device | str
    generator: torch.Generator | None = None
    views: int = 1
    """Of each sample: images n * views to n * views + views - 1 are those of sample n."""

    def unit(self, *size: int) -> Tensor:
        """Draw float32 [count, *size] from U(0, 1)."""
        return torch.rand(self.count, *size, device=self.device, generator=self.generator)

    def uniform(self, low: float, high: float, *size: int) -> Tensor:
        """Draw float32 [count, *size] from U(low, high)."""
        return low + (high - low) * self.unit(*size)

    def log_uniform(self, low: float, high: float, *size: int) -> Tensor:
        """Draw float32 [count, *size] whose logarithm is uniform; 0 < low <= high."""
        return self.uniform(math.log(low), math.log(high), *size).exp()

    def normal(self, *size: int) -> Tensor:
        """Draw float32 [count, *size] from N(0, 1)."""
        return torch.randn(self.count, *size, device=self.device, generator=self.generator)

    def coin(self, p: Probability) -> Tensor:
        """Draw bool [count], true with probability ``p``."""
        unit = self.unit()
        if not isinstance(p, tuple):
            return unit < p
        view = torch.arange(self.count, device=self.device) % len(p)
        return unit < fixed(p, unit)[view]


def is_number(got: object) -> bool:
    """Whether it can be compared with one, unlike a string or None."""
    return isinstance(got, Real)


def probability(argument: str, got: Probability) -> None:
    """Refuse what is not a probability, or a tuple of them.

    Raises:
        InputError: it is not.
    """
    values = got if isinstance(got, tuple) else (got,)
    if not values or not all(is_number(value) and 0 <= value <= 1 for value in values):
        raise InputError(argument, got, "a probability, or one for each view")


def interval(argument: str, got: Range, low: float = 0.0, high: float = math.inf) -> None:
    """Refuse what is not (least, greatest) within [low, high].

    Raises:
        InputError: it is not.
    """
    pair = isinstance(got, tuple | list) and len(got) == 2 and all(map(is_number, got))
    if not pair or not low <= got[0] <= got[1] <= high:
        allowed = f"(least, greatest) from {low:g}" + ("" if math.isinf(high) else f" to {high:g}")
        raise InputError(argument, got, allowed)


def within(argument: str, got: float, low: float = 0.0, high: float = math.inf) -> None:
    """Refuse a number that is not within [low, high].

    Raises:
        InputError: it is not (NaN included).
    """
    if not is_number(got) or not low <= got <= high:
        allowed = f"{low:g} or more" if math.isinf(high) else f"{low:g} to {high:g}"
        raise InputError(argument, got, allowed)
