"""Losses of a segmenter, all of log probabilities: so each fits every kind of heads.

Functions take the pixels that count, ``log_probabilities`` [N, K] and ``classes`` [N], and where
they average over pixels ``weight`` [K], of the true class. Those of damage take class 0 as no
building and classes 1.. as grades, in order. All stay in log space: no 1 - p is formed where p may
be 1 but in the factor of the focal loss.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from rscontrast.errors import InputError, choose
from rscontrast.types import IGNORE

TINY = 1e-12
"""Below which a probability counts as none, where its power is taken."""


def cross_entropy(log_probabilities: Tensor, classes: Tensor, weight: Tensor) -> Tensor:
    """Sum of -w_y log p_y over the pixels by the sum of w_y."""
    return _mean(-_of(log_probabilities, classes), weight[classes])


def focal(log_probabilities: Tensor, classes: Tensor, weight: Tensor, gamma: float = 2.0) -> Tensor:
    """Mean of -(1 - p_y)^gamma log p_y, each pixel weighted by its class.

    Source: Lin et al., "Focal Loss for Dense Object Detection", 2017, arXiv 1708.02002, eq. 5;
    the alpha of the paper is the class weight.
    """
    log_p = _of(log_probabilities, classes)
    missing = (-torch.expm1(log_p)).clamp(min=TINY)
    return _mean(-(missing**gamma) * log_p, weight[classes])


def dice(
    log_probabilities: Tensor,
    classes: Tensor,
    weight: Tensor,  # noqa: ARG001  # all have one signature
) -> Tensor:
    """1 - 2 sum p y / (sum p + sum y) of each class that occurs, their mean; no weights.

    Source: Milletari et al., "V-Net", 2016, arXiv 1606.04797, with p in place of its square.
    """
    p = log_probabilities.exp()
    truth = nn.functional.one_hot(classes, p.shape[1]).to(p.dtype)
    occurs = truth.any(dim=0)
    overlap = 2 * (p * truth).sum(dim=0) / (p + truth).sum(dim=0).clamp(min=TINY)
    return (1 - overlap)[occurs].mean()


def lovasz(
    log_probabilities: Tensor,
    classes: Tensor,
    weight: Tensor,  # noqa: ARG001  # all have one signature
) -> Tensor:
    """Lovasz extension of 1 - IoU of each class that occurs, their mean; no weights.

    With the errors m of a class sorted downwards, the loss is sum_i m_i (J_i - J_i-1), J_i being
    1 - IoU if the first i pixels are wrong and all others right. Source: Berman et al., "The
    Lovasz-Softmax loss", 2018, arXiv 1705.08790, eq. 8 and 9 and alg. 1.
    """
    p = log_probabilities.exp().T
    truth = (classes == torch.arange(len(p), device=p.device)[:, None]).to(p.dtype)
    occurs = truth.any(dim=1)
    p, truth = p[occurs], truth[occurs]
    errors, order = (truth - p).abs().sort(dim=1, descending=True)
    hits = truth.gather(1, order)
    # A float32 counts up to 2^24: beyond, pixels would no longer add up.
    found, total = hits.double().cumsum(dim=1), hits.double().sum(dim=1, keepdim=True)
    missed = torch.arange(1, hits.shape[1] + 1, device=p.device) - found
    jaccard = 1 - (total - found) / (total + missed)
    steps = torch.diff(jaccard, dim=1, prepend=jaccard.new_zeros(len(p), 1)).to(p.dtype)
    return (errors * steps).sum(dim=1).mean()


def building(log_probabilities: Tensor, classes: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy of building against background: P(building) is the sum over the grades."""
    built = log_probabilities[:, 1:].logsumexp(dim=1)
    return _mean(-torch.where(classes > 0, built, log_probabilities[:, 0]), weight[classes])


def building_grade(log_probabilities: Tensor, classes: Tensor, weight: Tensor) -> Tensor:
    """Two losses: of :func:`building`, and the cross-entropy of the grade within true buildings.

    The second is a mean over the pixels of buildings alone, so the background, which is most of an
    image, does not thin it out. With the heads "two" each is of one head. Reconstruction: the two
    networks of the xView2 baseline as one.
    """
    grades, known = _grades(log_probabilities, classes)
    graded = _mean(-_of(grades, known), weight[known + 1])
    return building(log_probabilities, classes, weight) + graded


def ordinal(log_probabilities: Tensor, classes: Tensor, weight: Tensor) -> Tensor:
    """Loss of :func:`building`, and of each question "is it worse than grade k?" in buildings.

    With q the probabilities of the grades 1..G given a building, the second is the mean over the
    buildings' pixels of sum_k<G -log P(y > k) or -log P(y <= k), whichever is true: a grade that is
    two off costs two wrong answers. Source of the questions: Frank & Hall, "A Simple Approach to
    Ordinal Classification", 2001, and Niu et al., "Ordinal Regression with Multiple Output CNN for
    Age Estimation", 2016; to ask them of the sums of one softmax is a reconstruction.
    """
    grades, known = _grades(log_probabilities, classes)
    most = grades.flip(1).logcumsumexp(dim=1).flip(1)[:, 1:]
    least = grades.logcumsumexp(dim=1)[:, :-1]
    worse = known[:, None] > torch.arange(most.shape[1], device=most.device)
    answers = -torch.where(worse, most, least).sum(dim=1)
    return building(log_probabilities, classes, weight) + _mean(answers, weight[known + 1])


SEGMENTATION: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "cross_entropy": cross_entropy,
    "focal": focal,
    "dice": dice,
    "lovasz": lovasz,
    "building_grade": building_grade,
    "ordinal": ordinal,
}
"""Name -> function: a new one is one line here."""

GRADED = ("building_grade", "ordinal")
"""Those that need two grades or more."""


class SegmentationLoss(nn.Module):
    """The sum of some losses over the pixels that count, in float32 or finer."""

    weight: Tensor

    def __init__(
        self, names: str, classes: int, class_weights: Sequence[float] | None = None
    ) -> None:
        """Choose.

        Args:
            names: of :data:`SEGMENTATION`, with "+" between: "cross_entropy+dice".
            classes: number of classes, K.
            class_weights: above 0, of each class; None: all 1.

        Raises:
            InputError: an unknown name, too few classes, or other weights.
        """
        super().__init__()
        self.names = tuple(choose("loss", name, SEGMENTATION) for name in names.split("+"))
        if classes < 3 and set(GRADED) & set(self.names):
            raise InputError("loss", names, f"not {' or '.join(GRADED)} with fewer than 3 classes")
        weights = [1.0] * classes if class_weights is None else list(class_weights)
        if len(weights) != classes or not all(0 < w < float("inf") for w in weights):
            raise InputError("class_weights", class_weights, f"{classes} numbers above 0")
        self.register_buffer("weight", torch.tensor(weights, dtype=torch.float32), persistent=False)

    def forward(self, log_probabilities: Tensor, mask: Tensor) -> Tensor:
        """Compute the sum; 0 with a gradient of 0 where no pixel counts.

        Args:
            log_probabilities: [B, K, H, W].
            mask: classes [B, H, W]; 255 does not count.
        """
        keep = mask != IGNORE
        pixels, classes = log_probabilities.movedim(1, -1)[keep], mask[keep].long()
        if not len(classes):
            return 0.0 * log_probabilities.sum()
        pixels = pixels.to(torch.promote_types(pixels.dtype, torch.float32))
        weight = self.weight.to(pixels.dtype)
        return torch.stack([SEGMENTATION[n](pixels, classes, weight) for n in self.names]).sum()


def _of(log_probabilities: Tensor, classes: Tensor) -> Tensor:
    return log_probabilities.gather(1, classes[:, None])[:, 0]


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean; of none it is 0, with a gradient."""
    return (weight * values).sum() / weight.sum().clamp(min=TINY)


def _grades(log_probabilities: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Log probabilities of the grades given a building, and the grades from 0, of buildings."""
    built = classes > 0
    return log_probabilities[built, 1:].log_softmax(dim=1), classes[built] - 1
