"""Overlapping patches into one seamless field, a row of patches at a time.

Along an axis a patch weighs 0 over its first and last pixels, 1 in its middle, and
(1 - cos(pi t)) / 2 between, t from 0 to 1 ("cosine"); or 0 and 1 only ("flat"). Neighbours lie so
that the weights of all patches at a pixel sum to 1, and nothing is left to be divided by. In two
dimensions the weight is the product. The outer pixels weigh nothing, since a convolution has seen
the patch's border there instead of the ground beyond it.

Source: the raised cosine is Hann's window; a quarter of the overlap left out on each side is ours.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rscontrast.errors import InputError, choose
from rscontrast.mapping.job import WINDOWS


class Window:
    """Where the patches of an axis lie, and what their pixels weigh.

    Patches begin at the multiples of their stride of one endless lattice: the same ones cover a
    pixel whichever tile asks.
    """

    def __init__(self, size: int, overlap: int, kind: str = "cosine") -> None:
        """Choose.

        Args:
            size: side of a patch, pixels.
            overlap: pixels that neighbours share.
            kind: "cosine" or "flat".

        Raises:
            InputError: an unknown kind, or an overlap that is not in [0, size / 2].
        """
        choose("window", kind, WINDOWS)
        if not 0 <= overlap <= size // 2:
            raise InputError("overlap", overlap, f"0 to half of the patch ({size // 2})")
        self.size, self.overlap, self.stride = size, overlap, size - overlap
        self.lead = overlap // 4 if kind == "cosine" else overlap // 2
        """Pixels at the beginning that weigh nothing."""
        self.tail = self.lead if kind == "cosine" else overlap - self.lead
        """The same at the end."""
        slope = overlap - self.lead - self.tail
        up = (1 - np.cos(np.pi * (np.arange(slope) + 0.5) / max(slope, 1))) / 2
        flat = np.ones(size - self.lead - self.tail - 2 * slope)
        ends = np.zeros(self.lead), np.zeros(self.tail)
        self.weights: NDArray[np.float32] = np.concatenate(
            [ends[0], up, flat, up[::-1], ends[1]]
        ).astype(np.float32)
        """Of the pixels of an axis, [size]."""

    def starts(self, first: int, last: int) -> range:
        """Where the patches begin that have a say on the pixels [first, last) of an axis."""
        index = (first - self.size + self.tail) // self.stride + 1
        return range(index * self.stride, last - self.lead, self.stride)


class RowBlend:
    """The weighted sum of one row of patches, and what they leave for the next."""

    def __init__(self, window: Window, channels: int, width: int, device: torch.device) -> None:
        """Begin with nothing.

        Args:
            window: of the patches, along both axes.
            channels: K.
            width: of the band, from the first patch to the end of the last.
            device: of the patches.
        """
        self.window = window
        weights = torch.from_numpy(window.weights).to(device)
        self.weight = weights[:, None] * weights
        self.band = torch.zeros(channels, window.size, width, device=device)

    def weigh(self, patches: Tensor) -> Tensor:
        """Weigh patches [B, K, size, size], in place."""
        return patches.mul_(self.weight)

    def add(self, col: int, patch: Tensor) -> None:
        """Add a weighed patch [K, size, size] of this row at a column of the band."""
        self.band[:, :, col : col + self.window.size] += patch

    def advance(self) -> Tensor:
        """Go on to the next row of patches.

        Returns:
            the rows that no later one has a say on, [K, stride, width]: those from the window's
            ``lead`` on.
        """
        window, band = self.window, self.band
        done = band[:, window.lead : window.lead + window.stride].clone()
        # Rows move up by a stride; with an overlap of at most half they do not meet.
        band[:, : window.overlap] = band[:, window.stride :]
        band[:, window.overlap :] = 0
        return done
