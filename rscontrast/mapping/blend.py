"""Overlapping patches into one seamless field."""

import numpy as np
from numpy.typing import NDArray

from rscontrast.errors import InputError


def starts(first: int, last: int, size: int, overlap: int) -> range:
    """Where the patches begin that touch the pixels [first, last) of an axis.

    Patches lie on one endless lattice, at multiples of ``size - overlap`` less the overlap, so
    that a pixel is covered by the same patches whichever tile asks, and the border of a scene as
    often as its middle.

    Raises:
        InputError: the overlap is not in [0, size / 2].
    """
    if not 0 <= overlap <= size // 2:
        raise InputError("overlap", overlap, f"0 to half of the patch ({size // 2})")
    stride = size - overlap
    # The first patch of the lattice that ends after `first`.
    index = (first - size + overlap) // stride + 1
    return range(index * stride - overlap, last, stride)


def ramp(size: int, overlap: int) -> NDArray[np.float32]:
    """Weights of a patch [size, size]: 1 in the middle, linear over the overlap, above 0."""
    edge = np.minimum(np.arange(size) + 1, size - np.arange(size)) / (overlap + 1)
    axis = np.minimum(edge, 1.0).astype(np.float32)
    return np.outer(axis, axis)
