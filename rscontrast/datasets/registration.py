"""The second date of a pair moved onto the first, by parts of a pixel."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rscontrast.io.measure import find_shift

type Image = NDArray[np.float32]
type Mask = NDArray[np.bool_]


def register_post(
    pre: tuple[Image, Mask], post: tuple[Image, Mask], bound: float
) -> tuple[Image, Mask, Image]:
    """Find how far ``post`` is shifted against ``pre``, and move it back.

    A shift that is found by chance, since the dates have no detail in common, may lie anywhere:
    the bound is what keeps such a one from moving the image.

    Args:
        pre: image [C, H, W] and its valid pixels [H, W].
        post: the same, of the second date.
        bound: largest believed shift, pixels.

    Returns:
        the second image and its valid pixels, moved; and the shift [3]: x, y (where the ground of
        the first date lay in the second: columns to the right, rows down) and the correlation of
        the two once shifted. x and y are NaN where nothing was moved, since no shift was found or
        it is beyond the bound.
    """
    x, y, peak = find_shift(pre[0], post[0], pre[1], post[1])
    if not math.hypot(x, y) <= bound:  # NaN included
        return *post, np.array([np.nan, np.nan, peak], dtype=np.float32)
    return *move(*post, x, y), np.array([x, y, peak], dtype=np.float32)


def move(image: Image, valid: Mask, x: float, y: float) -> tuple[Image, Mask]:
    """Take each pixel from ``x`` columns to the right and ``y`` rows down of it.

    Between the pixels by cubic convolution (Keys 1981, a = -0.5), whose weights are not spread
    anew over what is left where some pixels are unusable: what needs one of those, or one outside
    the image, is unusable itself, and 0.

    Args:
        image: [C, H, W].
        valid: usable pixels, [H, W].
        x: pixels; a whole number moves without interpolation.
        y: pixels.

    Returns:
        image and valid pixels, moved; with shifts of 0 as they came.
    """
    if x == y == 0:
        return image, valid
    for axis, shift in ((-1, x), (-2, y)):
        taps = list(_taps(shift))
        image = sum((_slid(image, by, axis) * weight for by, weight in taps), np.zeros_like(image))
        valid = np.logical_and.reduce([_slid(valid, by, axis) for by, _ in taps])
    return np.where(valid, image, np.float32(0)), valid


def _taps(shift: float) -> Iterator[tuple[int, np.float32]]:
    """Pixels around a position, counted from it, and their weights other than 0."""
    whole = math.floor(shift)
    f = shift - whole
    weights = (
        f * (-1 + f * (2 - f)) / 2,
        1 + f * f * (-5 + 3 * f) / 2,
        f * (1 + f * (4 - 3 * f)) / 2,
        f * f * (-1 + f) / 2,
    )
    for by, weight in enumerate(weights, start=whole - 1):
        if weight != 0:
            yield by, np.float32(weight)


def _slid(array: NDArray[Any], by: int, axis: int) -> NDArray[Any]:
    """Each element from ``by`` further along the axis; 0 (False) where there is none."""
    out = np.zeros_like(array)
    ahead, size = np.moveaxis(out, axis, 0), array.shape[axis]
    ahead[max(0, -by) : max(0, size - by)] = np.moveaxis(array, axis, 0)[
        max(0, by) : max(0, size + by)
    ]
    return out
