"""Scores of a class map against reference labels, all from one confusion matrix."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rscontrast.errors import InputError

type Labels = NDArray[np.integer[Any]]


def confusion(
    truth: Labels, prediction: Labels, classes: int, ignore: int = 255
) -> NDArray[np.int64]:
    """Count the pixels of each pair (true class, predicted class).

    Matrices of several places add up, so a large map is scored tile by tile.

    Args:
        truth: reference classes, any shape, values 0 to ``classes - 1`` or ``ignore``.
        prediction: predicted classes, same shape and values.
        classes: number of classes, 1 or more.
        ignore: value of a pixel that is left out, in either array.

    Returns:
        Counts [classes, classes]; rows are the truth, columns the prediction.

    Raises:
        InputError: the shapes differ, an array is not of integers, or a value is no class.
    """
    if classes < 1:
        raise InputError("classes", classes, "1 or more")
    if truth.shape != prediction.shape:
        raise InputError("prediction", prediction.shape, f"the shape of truth, {truth.shape}")
    _check_integers("truth", truth)
    _check_integers("prediction", prediction)
    kept = (truth != ignore) & (prediction != ignore)
    rows = _in_range("truth", truth[kept], classes, ignore)
    columns = _in_range("prediction", prediction[kept], classes, ignore)
    counts = np.bincount(rows * classes + columns, minlength=classes**2)
    return counts.reshape(classes, classes).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Scores:
    """What :func:`scores` finds; shares are 0 to 1, NaN where there is nothing to score."""

    class_names: tuple[str, ...]
    """Name of each class, in label order; class 0 is the background."""
    confusion: NDArray[np.int64]
    """Pixel counts [classes, classes], rows truth, columns prediction."""
    iou: NDArray[np.float64]
    """Intersection over union of each class."""
    f1: NDArray[np.float64]
    """F1 score (Dice) of each class."""
    precision: NDArray[np.float64]
    """Share of a class's predicted pixels that are right; 0 if it was never predicted."""
    recall: NDArray[np.float64]
    """Share of a class's true pixels that were found; 0 if it is not in the truth."""
    accuracy: float
    """Share of all pixels that are right."""
    mean_iou: float
    """Mean IoU of the classes that occur."""
    mean_f1: float
    """Mean F1 of the classes that occur."""
    foreground_iou: float
    """Mean IoU of the classes that occur, without class 0."""
    foreground_f1: float
    """Mean F1 of the classes that occur, without class 0."""

    def to_dict(self) -> dict[str, Any]:
        """Fields as plain containers that JSON can hold; NaN becomes None."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}

    def table(self) -> str:
        """Scores of each class, their means and the confusion matrix, as aligned text."""
        per_class = [["class", "IoU", "F1", "precision", "recall", "pixels"]]
        columns = zip(self.class_names, self.iou, self.f1, self.precision, self.recall, strict=True)
        for (name, *shares), pixels in zip(columns, self.confusion.sum(axis=1), strict=True):
            per_class.append([name, *map(share_text, shares), f"{pixels}"])
        per_class.append(["mean", share_text(self.mean_iou), share_text(self.mean_f1)])
        foreground = share_text(self.foreground_iou), share_text(self.foreground_f1)
        per_class.append(["mean without background", *foreground])
        matrix = [["truth \\ prediction", *self.class_names]]
        for name, counts in zip(self.class_names, self.confusion, strict=True):
            matrix.append([name, *map(str, counts)])
        accuracy = f"accuracy {share_text(self.accuracy)}"
        return "\n".join([*_aligned(per_class), accuracy, "", *_aligned(matrix)])


def scores(confusion: NDArray[np.integer[Any]], class_names: Sequence[str]) -> Scores:
    """Score a map from its confusion matrix.

    With TP, FP and FN of a class: IoU = TP / (TP + FP + FN), F1 = 2 TP / (2 TP + FP + FN),
    precision = TP / (TP + FP), recall = TP / (TP + FN). A class in neither truth nor prediction
    scores NaN and has no part in a mean, so a rare class does not lower the mean of a place
    where it cannot be found.

    Args:
        confusion: counts [classes, classes], rows truth, columns prediction.
        class_names: name of each class, in label order.

    Raises:
        InputError: the matrix does not fit the names, or a count is below 0.
    """
    size = len(class_names)
    if confusion.shape != (size, size):
        raise InputError("confusion", confusion.shape, f"{(size, size)}, as there are names")
    if (confusion < 0).any():
        raise InputError("confusion", int(confusion.min()), "counts of 0 or more")
    counts = confusion.astype(np.int64)
    right, true, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    occurs = true + predicted > 0
    iou = _ratio(right, true + predicted - right, occurs)
    f1 = _ratio(2 * right, true + predicted, occurs)
    total = counts.sum()
    return Scores(
        class_names=tuple(class_names),
        confusion=counts,
        iou=iou,
        f1=f1,
        precision=_ratio(right, predicted, occurs),
        recall=_ratio(right, true, occurs),
        accuracy=float(right.sum() / total) if total else float("nan"),
        mean_iou=_mean(iou),
        mean_f1=_mean(f1),
        foreground_iou=_mean(iou[1:]),
        foreground_f1=_mean(f1[1:]),
    )


def share_text(share: float) -> str:
    """Three decimals, or a dash where there is nothing to score."""
    return "-" if np.isnan(share) else f"{share:.3f}"


def _check_integers(argument: str, labels: Labels) -> None:
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(argument, str(labels.dtype), "an array of integers")


def _in_range(argument: str, labels: Labels, classes: int, ignore: int) -> NDArray[np.int64]:
    wrong = labels[(labels < 0) | (labels >= classes)]
    if wrong.size:
        raise InputError(argument, int(wrong[0]), f"0 to {classes - 1}, or {ignore} to leave out")
    return labels.astype(np.int64)


def _ratio(
    part: NDArray[np.int64], whole: NDArray[np.int64], occurs: NDArray[np.bool_]
) -> NDArray[np.float64]:
    ratio = np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
    return np.where(occurs, ratio, np.nan)


def _mean(shares: NDArray[np.float64]) -> float:
    occurring = shares[~np.isnan(shares)]
    return float(occurring.mean()) if occurring.size else float("nan")


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """First column to the left, the others to the right; a row may be shorter than the first."""
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(max(map(len, rows)))]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=False))
        ).rstrip()
        for row in rows
    ]
