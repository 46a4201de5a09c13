"""Statistics of what is trained on, by one pass over some patches."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from torchgeo.datasets.utils import Sample

from rscontrast.errors import InputError


def band_statistics(
    samples: Iterable[Sample],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each band over the valid pixels.

    Args:
        samples: pairs, ``image`` [2, C, H, W] and ``valid`` [2, H, W].

    Returns:
        mean [C] and std [C], in the unit of the images.

    Raises:
        InputError: no pixel is valid, or a band is constant.
    """
    count, total, square = 0, np.zeros(1), np.zeros(1)
    for sample in samples:
        pixels = sample["image"].movedim(1, 0)[:, sample["valid"]].numpy().astype(np.float64)
        count += pixels.shape[1]
        total, square = total + pixels.sum(axis=1), square + (pixels**2).sum(axis=1)
    if count == 0:
        raise InputError("pairs", "no valid pixel", "pairs with clear ground: lower max_cloud")
    mean = total / count
    std = np.sqrt(np.maximum(square / count - mean**2, 0))
    if not (std > 0).all():
        raise InputError("bands", f"std {std.tolist()}", "bands that vary over the patches")
    return mean, std
