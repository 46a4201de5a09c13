"""What two images of one grid say of each other: shift, gain and change."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SIGMA = 2.0
"""Detail is what differs from the mean of the ground around, a Gaussian of so many pixels."""
FINENESS = 100
"""Shifts are found to so many parts of a pixel."""
LEAST_SIDE = 16
"""Pixels along an axis without which no shift is looked for."""
LEAST_VALID = 0.25
"""Share of usable pixels without which no shift is looked for."""

type Image = NDArray[np.floating]
type Mask = NDArray[np.bool_]


class Shift(NamedTuple):
    """Where the ground of one image lies in another one."""

    x: float
    """Columns to the right."""
    y: float
    """Rows down."""
    peak: float
    """Correlation (-1 to 1) of the detail of the two images, once shifted."""


NO_SHIFT = Shift(np.nan, np.nan, np.nan)


def find_shift(pre: Image, post: Image, pre_valid: Mask, post_valid: Mask) -> Shift:
    """Find how far ``post`` is shifted against ``pre``, in parts of a pixel.

    The two are correlated in the Fourier domain by scikit-image's ``phase_cross_correlation``
    (Guizar-Sicairos et al. 2008); the band whose detail agrees best is the one that counts.
    It takes no masks where it finds parts of a pixel, so that unusable pixels get the mean of the
    usable ground around, of their own date: the outline of a cloud then is no feature that stands
    still. Low frequencies are taken out here, instead of giving all frequencies one weight there:
    in imagery that was resampled the highest say how it was interpolated, not where it lies.

    Args:
        pre: [C, H, W].
        post: [C, H, W].
        pre_valid: usable pixels [H, W].
        post_valid: the same, of ``post``.

    Returns:
        the shift; NaN where there are too few usable pixels, or no detail.
    """
    both = pre_valid & post_valid
    if min(both.shape) < LEAST_SIDE or both.mean() < LEAST_VALID:
        return NO_SHIFT
    shifts = [
        _band_shift(_detail(a, pre_valid), _detail(b, post_valid), both)
        for a, b in zip(pre, post, strict=True)
    ]
    return max(shifts, key=lambda shift: np.nan_to_num(shift.peak, nan=-np.inf))


def _band_shift(pre: Image, post: Image, both: Mask) -> Shift:
    from scipy.ndimage import fourier_shift
    from skimage.registration import phase_cross_correlation

    if not (pre[both].any() and post[both].any()):
        return NO_SHIFT
    back, _, _ = phase_cross_correlation(  # type: ignore[no-untyped-call]
        pre, post, upsample_factor=FINENESS, normalization=None
    )
    moved = np.fft.ifft2(fourier_shift(np.fft.fft2(post), back)).real
    y, x = (float(-step) + 0.0 for step in back)  # + 0.0: no minus zero
    a, b = pre[both], moved[both]
    return Shift(x, y, float(a @ b / np.sqrt((a @ a) * (b @ b))))


def _detail(band: Image, valid: Mask) -> Image:
    """Difference from the mean of the usable ground around, fading to 0 at the borders."""
    from scipy.ndimage import gaussian_filter

    known = np.where(valid, band, 0).astype(np.float64)
    share = gaussian_filter(valid.astype(np.float64), SIGMA)
    mean = gaussian_filter(known, SIGMA) / np.maximum(share, np.finfo(np.float64).tiny)
    detail = np.where(valid, known - mean, 0)
    # What is left of a constant band is rounding, not detail.
    detail[np.abs(detail) < 1e-6 * np.abs(mean)] = 0
    height, width = band.shape
    tapered: Image = detail * np.outer(np.hanning(height), np.hanning(width))
    return tapered


def find_gains(pre: Image, post: Image, valid: Mask) -> NDArray[np.float64]:
    """Radiometric ratio of each band: the median of post / pre.

    Args:
        pre: [C, H, W].
        post: [C, H, W].
        valid: pixels [H, W] that are usable on both dates.

    Returns:
        ratios [C]; NaN for a band that is nowhere above 0 in ``pre``.
    """
    gains = np.full(len(pre), np.nan)
    for band, (a, b) in enumerate(zip(pre, post, strict=True)):
        lit = valid & (a > 0)
        if lit.any():
            gains[band] = np.median(b[lit].astype(np.float64) / a[lit])
    return gains


def find_change(pre: Image, post: Image, valid: Mask, gains: NDArray[np.float64]) -> float:
    """Spectral change between two dates, 0 to 1, after their bands' gains are taken out.

    The mean over the pixels of sum |post / gain - pre| / sum (post / gain + pre), the sums over
    the bands: the dissimilarity of Bray and Curtis (1957) between the spectra of two dates. It is
    0 where bands differ by a gain alone, 1 where nothing is left of what there was. Matching the
    gains by medians first is a choice of ours, not of a publication. A shift counts as change.

    Args:
        pre: [C, H, W].
        post: [C, H, W].
        valid: pixels [H, W] that are usable on both dates.
        gains: of :func:`find_gains`, [C].

    Returns:
        the score; NaN where no pixel or no band can be compared.
    """
    bands = gains > 0
    if not (valid.any() and bands.any()):
        return float("nan")
    a = np.maximum(pre[bands][:, valid], 0).astype(np.float64)
    b = np.maximum(post[bands][:, valid], 0) / gains[bands, None]
    total = (a + b).sum(axis=0)
    # Two black pixels are alike.
    share = np.divide(np.abs(b - a).sum(axis=0), total, out=np.zeros_like(total), where=total > 0)
    return float(share.mean())
