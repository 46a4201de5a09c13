"""What the torch metrics share: classes of logits, the pixels that count, their confusion."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from rscontrast.errors import InputError
from rscontrast.types import DAMAGE_CLASSES, IGNORE


def as_classes(prediction: Tensor, mask: Tensor, classes: int) -> Tensor:
    """Classes [B, H, W] of logits or probabilities [B, K, H, W], or of classes as they are.

    Raises:
        InputError: the shapes do not fit each other or the number of classes.
    """
    if prediction.is_floating_point():
        if prediction.ndim != 4 or prediction.shape[1] != classes:
            raise InputError("prediction", tuple(prediction.shape), f"[B, {classes}, H, W]")
        prediction = prediction.argmax(dim=1)
    if mask.is_floating_point() or mask.shape != prediction.shape or mask.ndim != 3:
        got = f"{mask.dtype} {tuple(mask.shape)}"
        raise InputError("mask", got, f"whole numbers of {tuple(prediction.shape)}, as [B, H, W]")
    return prediction


def counted(mask: Tensor, valid: Tensor | None = None) -> Tensor:
    """Which pixels count: labelled, and usable at every date.

    Args:
        mask: classes [B, H, W], 255 where there is no label.
        valid: bool [B, H, W], or [B, D, H, W] of D dates; None: all are.

    Raises:
        InputError: ``valid`` is no bool or does not lie on the mask.
    """
    labelled = mask != IGNORE
    if valid is None:
        return labelled
    if valid.dtype != torch.bool:
        raise InputError("valid", valid.dtype, "torch.bool")
    if valid.ndim == mask.ndim + 1:
        valid = valid.all(dim=1)
    if valid.shape != mask.shape:
        raise InputError("valid", tuple(valid.shape), f"{tuple(mask.shape)}, or dates of it")
    return labelled & valid


def confusion(prediction: Tensor, mask: Tensor, keep: Tensor, classes: int) -> Tensor:
    """Count the pixels of each pair (true class, predicted class).

    Args:
        prediction: classes, any shape; 255 where there is no map, which is left out.
        mask: true classes, same shape.
        keep: bool, same shape: pixels that count.
        classes: number of classes, K.

    Returns:
        int64 [K, K], rows the truth, columns the prediction.

    Raises:
        InputError: a value that is no class.
    """
    keep = keep & (prediction != IGNORE)
    rows, columns = mask[keep].long(), prediction[keep].long()
    for name, labels in (("mask", rows), ("prediction", columns)):
        wrong = labels[(labels < 0) | (labels >= classes)]
        if wrong.numel():
            raise InputError(name, int(wrong[0]), f"0 to {classes - 1}, or {IGNORE} to leave out")
    counts = torch.bincount(rows * classes + columns, minlength=classes**2)
    return counts.view(classes, classes)


def ratio(part: Tensor, whole: Tensor) -> Tensor:
    """``part / whole`` in float64, NaN where the whole is 0."""
    return torch.where(whole > 0, part.double() / whole.clamp(min=1), torch.nan)


def f1(hits: Tensor, false: Tensor, missed: Tensor) -> Tensor:
    """2 TP / (2 TP + FP + FN), NaN where all are 0."""
    return ratio(2 * hits, 2 * hits + false + missed)


def errors(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """TP, FP and FN of each class of a confusion matrix [K, K]."""
    hits = matrix.diagonal()
    return hits, matrix.sum(dim=0) - hits, matrix.sum(dim=1) - hits


def named(prefix: str, names: Sequence[str], values: Tensor) -> dict[str, Tensor]:
    """Values of classes as ``prefix/name``, as loggers want them."""
    return {f"{prefix}/{name}": value for name, value in zip(names, values, strict=True)}


class ConfusionMetric(Metric):
    """Counts of (true class, predicted class); subclasses say what they make of them."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    confusion: Tensor

    def __init__(self, class_names: Sequence[str] = DAMAGE_CLASSES) -> None:
        """Start from no counts.

        Args:
            class_names: of all classes in label order; class 0 is the background.

        Raises:
            InputError: fewer than two, or one twice.
        """
        super().__init__()
        if len(class_names) < 2 or len(set(class_names)) < len(class_names):
            raise InputError("class_names", tuple(class_names), "2 or more different names")
        self.class_names = tuple(class_names)
        size = len(self.class_names)
        zeros = torch.zeros(size, size, dtype=torch.int64)
        self.add_state("confusion", zeros, dist_reduce_fx="sum")

    def update(self, prediction: Tensor, mask: Tensor, valid: Tensor | None = None) -> None:
        """Count a batch.

        Args:
            prediction: logits or probabilities [B, K, H, W], or classes [B, H, W].
            mask: true classes [B, H, W]; 255 is not scored.
            valid: bool [B, H, W] or [B, D, H, W]; what is not is not scored.

        Raises:
            InputError: shapes that do not fit, or a value that is no class.
        """
        classes = len(self.class_names)
        found = as_classes(prediction, mask, classes)
        self.confusion += confusion(found, mask, counted(mask, valid), classes)
