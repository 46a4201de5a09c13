"""Boundary IoU: how well the outlines of a class agree, whatever the size of what they enclose."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

from rscontrast.errors import InputError, positive, whole
from rscontrast.metrics.counts import as_classes, counted, named, ratio
from rscontrast.types import DAMAGE_CLASSES, IGNORE


def inner_boundary(region: Tensor, distance: int) -> Tensor:
    """Pixels of a region within ``distance`` of a pixel that is not of it: G_d ∩ G of the paper.

    Distance counts along rows, columns and diagonals alike (Chebyshev), as in the paper's code,
    and the border of the image ends a region, too.

    Args:
        region: bool [..., H, W].
        distance: pixels, 1 or more.
    """
    side = 2 * distance + 1
    outside = (~region).to(torch.float32).reshape(-1, 1, *region.shape[-2:])
    outside = F.pad(outside, [distance] * 4, value=1.0)
    # A square is a row of columns: two long windows instead of one large one.
    near = F.max_pool2d(F.max_pool2d(outside, (1, side), stride=1), (side, 1), stride=1)
    return region & (near.view(region.shape) > 0)


def boundary_counts(
    prediction: Tensor, mask: Tensor, keep: Tensor, classes: int, distance: int
) -> Tensor:
    """Pixels in both and in either of the two boundaries of each class.

    Args:
        prediction: classes [B, H, W].
        mask: true classes [B, H, W].
        keep: bool [B, H, W]. Other pixels end a region as the border of the image does.
        classes: number of classes, K.
        distance: see :func:`inner_boundary`.

    Returns:
        int64 [2, K]: of the intersection and of the union.
    """
    counts = mask.new_zeros((2, classes), dtype=torch.int64)
    for label in range(classes):
        true = inner_boundary((mask == label) & keep, distance)
        found = inner_boundary((prediction == label) & keep, distance)
        counts[:, label] = torch.stack([(true & found).sum(), (true | found).sum()])
    return counts


class BoundaryIoU(Metric):
    """|G_d ∩ G ∩ P_d ∩ P| / |(G_d ∩ G) ∪ (P_d ∩ P)| of each class.

    Intersections and unions are summed over the images. Source: Cheng et al., "Boundary IoU:
    Improving Object-Centric Image Segmentation Evaluation", 2021, arXiv 2103.16562, eq. 2.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    counts: Tensor

    def __init__(
        self,
        class_names: Sequence[str] = DAMAGE_CLASSES,
        *,
        ratio: float = 0.02,
        pixels: int | None = None,
    ) -> None:
        """Choose the width of the boundary.

        Args:
            class_names: of all classes in label order; class 0 is the background.
            ratio: d as a share of the diagonal of each batch's images, at least one pixel.
            pixels: d in pixels instead: images of several sizes are then scored alike.

        Raises:
            InputError: a width that is not above 0, or fewer than two classes.
        """
        super().__init__()
        if len(class_names) < 2:
            raise InputError("class_names", tuple(class_names), "2 or more")
        self.class_names = tuple(class_names)
        self.ratio = positive("ratio", ratio)
        self.pixels = None if pixels is None else whole("pixels", pixels)
        zeros = torch.zeros(2, len(self.class_names), dtype=torch.int64)
        self.add_state("counts", zeros, dist_reduce_fx="sum")

    def distance(self, height: int, width: int) -> int:
        """Width d of the boundary of images of a size, pixels."""
        if self.pixels is not None:
            return self.pixels
        return max(1, round(self.ratio * math.hypot(height, width)))

    def update(self, prediction: Tensor, mask: Tensor, valid: Tensor | None = None) -> None:
        """Count a batch; the arguments are those of :class:`ClassScores`."""
        classes = len(self.class_names)
        found = as_classes(prediction, mask, classes)
        keep = counted(mask, valid) & (found != IGNORE)
        distance = self.distance(mask.shape[-2], mask.shape[-1])
        self.counts += boundary_counts(found, mask, keep, classes, distance)

    def compute(self) -> dict[str, Tensor]:
        """``boundary_iou/NAME`` of each class and ``boundary_iou``, the mean without class 0."""
        scores = ratio(self.counts[0], self.counts[1])
        mean = torch.nanmean(scores[1:])
        return {**named("boundary_iou", self.class_names, scores), "boundary_iou": mean}
