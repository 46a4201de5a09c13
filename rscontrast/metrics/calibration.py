"""Expected calibration error of pixels and of buildings, as sums that batches and ranks add to."""

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from rscontrast.errors import InputError
from rscontrast.metrics.counts import as_classes, counted
from rscontrast.metrics.objects import Bools, Ints, components, images, majority
from rscontrast.metrics.reliability import Floats, Reliability, cells, from_sums
from rscontrast.types import IGNORE


class CalibrationError(Metric):
    """Expected calibration error of the pixels: see :mod:`rscontrast.metrics.reliability`."""

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    sums: Tensor

    def __init__(
        self, bins: int = 15, binning: str = "width", *, buildings_only: bool = False
    ) -> None:
        """Choose the bins.

        Args:
            bins: number of bins.
            binning: "width" (equal widths) or "adaptive" (equal numbers of predictions).
            buildings_only: leave out pixels whose true class is 0: of most maps they are nearly
                all, and nearly all easy.

        Raises:
            InputError: out of range.
        """
        super().__init__()
        self.size = cells(bins, binning)
        self.bins, self.binning, self.buildings_only = bins, binning, buildings_only
        zeros = torch.zeros(3, self.size, dtype=torch.float64)
        self.add_state("sums", zeros, dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, mask: Tensor, valid: Tensor | None = None) -> None:
        """Count a batch.

        Args:
            probabilities: [B, K, H, W], sum 1 over the classes.
            mask: true classes [B, H, W]; 255 is not scored.
            valid: bool [B, H, W] or [B, D, H, W]; what is not is not scored.

        Raises:
            InputError: no probabilities (logits, say), or shapes that do not fit.
        """
        found, keep = _found(probabilities, mask, valid)
        if self.buildings_only:
            keep &= mask > 0
        confidence = probabilities.amax(dim=1)[keep]
        self._count(confidence, found[keep] == mask[keep])

    def _count(self, confidence: Tensor, right: Tensor) -> None:
        sure = confidence.double()
        cell = ((sure * self.size).ceil() - 1).clamp(0, self.size - 1).long()
        values = torch.stack([torch.ones_like(sure), sure, right.double()])
        self.sums = self.sums.index_add(1, cell, values)

    def reliability(self) -> Reliability:
        """Give the table of what this process counted; in ``compute`` ranks are summed."""
        return from_sums(self.sums.cpu().numpy(), bins=self.bins, binning=self.binning)

    def compute(self) -> Tensor:
        """Give the error, 0 to 1; NaN if nothing was counted."""
        return self.sums.new_tensor(self.reliability().ece)


class BuildingCalibrationError(CalibrationError):
    """Expected calibration error of buildings, each of which counts once.

    A building's probabilities are the means over its footprint, without class 0, brought to sum
    1: what :func:`rscontrast.buildings.grade` gives by the vote "area".
    """

    def __init__(self, bins: int = 15, binning: str = "width") -> None:
        """Choose the bins: see :class:`CalibrationError`."""
        super().__init__(bins, binning)

    def update(
        self,
        probabilities: Tensor,
        mask: Tensor,
        valid: Tensor | None = None,
        instances: Tensor | None = None,
    ) -> None:
        """Count the buildings of a batch of whole images.

        Args:
            probabilities: see :class:`CalibrationError`, as ``mask`` and ``valid``.
            mask: true classes.
            valid: usable pixels.
            instances: ids of the footprints [B, H, W], 0 none; None: the connected components
                of the true classes above 0.

        Raises:
            InputError: see :class:`CalibrationError`.
        """
        found, keep = _found(probabilities, mask, valid)
        classes = probabilities.shape[1]
        if classes < 3:
            raise InputError("probabilities", f"{classes} classes", "background and 2 grades")
        batch = zip(
            images(found, mask, keep, instances, classes),
            probabilities.detach().double().cpu().numpy(),
            strict=True,
        )
        for (_, truth, kept, ids), image in batch:
            sure, right = building_confidence(image, truth, kept, ids)
            device = self.sums.device
            self._count(torch.from_numpy(sure).to(device), torch.from_numpy(right).to(device))


def building_confidence(
    probabilities: Floats, truth: Ints, keep: Bools, instances: Ints | None = None
) -> tuple[Floats, Bools]:
    """Confidence in the grade of each building of an image, and whether it is right.

    Args:
        probabilities: [K, H, W].
        truth: classes [H, W].
        keep: bool [H, W]; other pixels have no vote.
        instances: ids [H, W]; None: connected components of the truth.

    Returns:
        two arrays, an entry for each building that has a grade and a pixel that counts.
    """
    ids = components((truth > 0) & (truth != IGNORE)) if instances is None else instances
    true = majority(ids[keep], truth[keep], len(probabilities), first=1)
    sums = np.stack([np.bincount(ids[keep], p[keep], minlength=len(true)) for p in probabilities])
    graded = (true >= 0) & (sums[1:].sum(axis=0) > 0)
    shares = sums[1:, graded] / sums[1:, graded].sum(axis=0)
    return shares.max(axis=0), shares.argmax(axis=0) + 1 == true[graded]


def _found(probabilities: Tensor, mask: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Classes [B, H, W], and the pixels that count."""
    if not probabilities.is_floating_point() or probabilities.ndim != 4:
        got = f"{probabilities.dtype} {tuple(probabilities.shape)}"
        raise InputError("probabilities", got, "floats [B, K, H, W]")
    found = as_classes(probabilities, mask, probabilities.shape[1])
    keep = counted(mask, valid)
    sums, least = probabilities.sum(dim=1)[keep], probabilities.amin(dim=1)[keep]
    # Half precision is off by up to a per cent; logits by far more.
    if not bool((((sums - 1).abs() < 0.02) & (least >= 0)).all()):
        raise InputError("probabilities", "values that do not sum to 1", "softmax of the logits")
    return found, keep
