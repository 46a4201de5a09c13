"""Reliability: how often a prediction is right against how sure it was. NumPy only."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rscontrast.errors import InputError, choose, whole
from rscontrast.metrics.segmentation import share_text

type Floats = NDArray[np.float64]

BINNINGS = ("width", "adaptive")
"""Bins of equal width, or of equal numbers of predictions."""
CELLS = 1 << 14
"""Fine cells of confidence that adaptive bins are made of, so that sums suffice to make them."""


@dataclass(frozen=True, eq=False)
class Reliability:
    """A reliability table: bins of confidence, each with its share of right predictions."""

    lower: Floats
    """Lower end of each bin [M]; the bin is (lower, upper]."""
    upper: Floats
    """Upper end [M]."""
    count: Floats
    """Predictions in it [M]."""
    confidence: Floats
    """Their mean confidence [M], NaN in an empty bin."""
    accuracy: Floats
    """Share of them that are right [M], NaN in an empty bin."""

    @property
    def ece(self) -> float:
        """Expected calibration error: sum of n_m / n |accuracy_m - confidence_m|; NaN of none."""
        total = self.count.sum()
        if not total:
            return float("nan")
        gaps = np.nan_to_num(np.abs(self.accuracy - self.confidence))
        return float((self.count * gaps).sum() / total)

    def to_dict(self) -> dict[str, Any]:
        """The error and the table as plain containers that JSON can hold; NaN becomes None."""
        columns = {name: [_plain(v) for v in values] for name, values in asdict(self).items()}
        return {"ece": _plain(self.ece), **columns}

    def table(self) -> str:
        """The bins as aligned text, and the error."""
        lines = ["       confidence    mean  accuracy       count"]
        for row in zip(*asdict(self).values(), strict=True):
            low, high, count, sure, right = row
            bounds = f"({low:.3f}, {high:.3f}]"
            lines.append(
                f"{bounds:>17}  {share_text(sure):>6}  {share_text(right):>8}  {count:>10.0f}"
            )
        return "\n".join([*lines, f"expected calibration error {share_text(self.ece)}"])


def reliability_table(
    confidence: ArrayLike, right: ArrayLike, *, bins: int = 15, binning: str = "width"
) -> Reliability:
    """Sort predictions by confidence into bins.

    Source: Guo et al., "On Calibration of Modern Neural Networks", 2017, arXiv 1706.04599, eq. 3
    ("width"). Adaptive bins: Nixon et al., "Measuring Calibration in Deep Learning", 2019, arXiv
    1904.01685; ours hold equal numbers as far as cells of 1/16384 of confidence can be parted.

    Args:
        confidence: probability of the class that was predicted, any shape, 0 to 1.
        right: whether it was right, same shape.
        bins: number of bins, M.
        binning: "width" or "adaptive".

    Raises:
        InputError: a value out of range, or shapes that differ.
    """
    sure, hits = np.asarray(confidence, np.float64).ravel(), np.asarray(right, np.float64).ravel()
    if sure.shape != hits.shape:
        raise InputError("right", hits.shape, f"{sure.shape}, as confidence")
    if not ((sure >= 0) & (sure <= 1)).all():  # NaN included
        raise InputError("confidence", "values beyond 0 to 1, or NaN", "probabilities")
    cell = np.clip(np.ceil(sure * cells(bins, binning)) - 1, 0, None).astype(np.int64)
    sums = [np.bincount(cell, w, minlength=cells(bins, binning)) for w in (None, sure, hits)]
    return from_sums(np.stack(sums), bins=bins, binning=binning)


def cells(bins: int, binning: str) -> int:
    """Cells of equal width that sums are kept of.

    Raises:
        InputError: an unknown binning, or no bin, or more than there are cells.
    """
    whole("bins", bins)
    if choose("binning", binning, BINNINGS) == "adaptive" and bins > CELLS:
        raise InputError("bins", bins, f"up to {CELLS}")
    return bins if binning == "width" else CELLS


def from_sums(sums: NDArray[Any], *, bins: int, binning: str) -> Reliability:
    """Make the table of sums over cells.

    Args:
        sums: [3, cells]: number of predictions, sum of confidence, number of right ones.
        bins: see :func:`reliability_table`.
        binning: see :func:`reliability_table`.
    """
    sums = sums.astype(np.float64)
    size = sums.shape[1]
    group = np.arange(size) if binning == "width" else _equal_shares(sums[0], bins)
    grouped = np.stack([np.bincount(group, row, minlength=bins) for row in sums])
    ends = np.searchsorted(group, np.arange(bins + 1)) / size
    count = grouped[0]
    with np.errstate(invalid="ignore"):
        confidence, accuracy = grouped[1] / count, grouped[2] / count
    return Reliability(ends[:-1], ends[1:], count, confidence, accuracy)


def _equal_shares(count: Floats, bins: int) -> NDArray[np.int64]:
    """Bin of each cell: by where its middle prediction stands among all."""
    total = count.sum()
    if not total:
        return np.arange(len(count)) * bins // len(count)
    middle = (np.cumsum(count) - count / 2) / total
    return np.minimum(bins - 1, (middle * bins).astype(np.int64))


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
