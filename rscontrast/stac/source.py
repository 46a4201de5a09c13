"""What to read of an item: a band and the meaning of its numbers, a mask and its rule."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rscontrast.stac.signing import Signer

type Asset = Mapping[str, Any]


@dataclass(frozen=True)
class BandSource:
    """One band of one item: the file, the band in it, and the meaning of its numbers."""

    item: str
    """Id of the item, for messages."""
    asset: str
    """Key of the asset, for messages."""
    href: str
    """Where the file is: a local path or a URL, unsigned."""
    index: int = 1
    """Band in the file, from 1."""
    scale: float = 1.0
    """Reflectance = number * scale + offset."""
    offset: float = 0.0
    """See ``scale``; in reflectance."""
    nodata: float | None = None
    """Value that means no data; None: what the file says."""
    signer: Signer | None = None
    """Who signs the link when it is read; None: nobody need."""


@dataclass(frozen=True)
class MaskRule:
    """Which numbers of a raster make a pixel unusable: one of the four; none: all but 0."""

    values: tuple[int, ...] = ()
    """Classes."""
    bits: tuple[int, ...] = ()
    """Bits, from 0, of which any is set."""
    above: float | None = None
    """Numbers above this, such as a probability of cloud; NaN is unusable."""

    def unusable(self, numbers: NDArray[Any]) -> NDArray[np.bool_]:
        """Apply the rule.

        Args:
            numbers: as the file holds them.

        Raises:
            ValueError: bits are asked of fractions.
        """
        result: NDArray[np.bool_]
        if self.above is not None:
            result = ~(numbers <= self.above)
        elif self.values:
            result = np.isin(numbers, self.values)
        elif self.bits:
            if numbers.dtype.kind not in "iu":
                raise ValueError(f"a mask of bits holds whole numbers, not {numbers.dtype}")
            result = (numbers & sum(1 << bit for bit in self.bits)) != 0
        else:
            result = numbers != 0
        return result


@dataclass(frozen=True)
class MaskSource(BandSource):
    """A raster that marks unusable pixels."""

    rule: MaskRule = MaskRule()
    """Which of its numbers do."""


def bands_of(asset: Asset) -> list[dict[str, Any]]:
    """Describe each band of an asset by what any of the three conventions says of it.

    STAC 1.1 has ``bands``; 1.0 has ``eo:bands`` and ``raster:bands``, side by side.
    """
    lists = [asset.get(key) for key in ("raster:bands", "eo:bands", "bands")]
    known = [list(bands) for bands in lists if bands is not None]
    merged: list[dict[str, Any]] = [{} for _ in range(max(map(len, known), default=0))]
    for bands in known:
        for into, band in zip(merged, bands, strict=False):
            into.update({key: value for key, value in band.items() if value is not None})
    return merged
