"""What asks a dataset for a pair: the place, the two times, and what to read where clouds lie."""

from typing import Self

type PairSlice = tuple[slice, slice, tuple[slice, slice]]
"""x, y, and the times of the first and the second date."""


class PairDraw(tuple[slice, slice, tuple[slice, slice]]):
    """A pair slice that names others to read in its stead where too little ground is usable.

    The draw is made by the sampler and judged by the dataset, which reads the pixels anyway: so
    the outcome is the same for any number of workers, and nothing is read twice.
    """

    spares: tuple[PairSlice, ...]
    """What to read next, in this order."""
    min_valid: float
    """Least share (0-1) of the pixels that must be valid on both dates."""

    def __new__(cls, draw: PairSlice, spares: tuple[PairSlice, ...], min_valid: float) -> Self:
        """Add spares to a pair slice."""
        made = super().__new__(cls, draw)
        made.spares, made.min_valid = spares, min_valid
        return made

    def __getnewargs__(self) -> tuple[PairSlice, tuple[PairSlice, ...], float]:
        """Say how to make it again on the other side of a process."""
        x, y, times = self
        return (x, y, times), self.spares, self.min_valid
