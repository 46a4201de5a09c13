"""Scores of whole buildings: each counts once, whatever its size."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from rscontrast.errors import InputError
from rscontrast.metrics.counts import (
    ConfusionMetric,
    as_classes,
    counted,
    errors,
    f1,
    named,
    ratio,
)
from rscontrast.types import IGNORE

type Ints = NDArray[np.int64]
type Bools = NDArray[np.bool_]


def components(built: Bools) -> Ints:
    """Number the buildings of an image [H, W] from 1: pixels that share an edge are one."""
    ids: Ints = ndimage.label(built)[0].astype(np.int64)
    return ids


def majority(ids: Ints, labels: Ints, classes: int, *, first: int = 0) -> Ints:
    """Class that most pixels of each building have, the lowest of several.

    Args:
        ids: of the buildings, flat; 0 is none.
        labels: classes of the same pixels.
        classes: number of classes.
        first: classes below it have no vote.

    Returns:
        by id, [1 + largest id]; -1 for an id without a vote.
    """
    size = int(ids.max(initial=0)) + 1
    voting = (ids > 0) & (labels >= first)
    votes = np.bincount(ids[voting] * classes + labels[voting], minlength=size * classes)
    table = votes.reshape(size, classes)
    return np.where(table.any(axis=1), table.argmax(axis=1), -1)


def object_confusion(
    prediction: Ints, truth: Ints, keep: Bools, classes: int, instances: Ints | None = None
) -> Ints:
    """Count the buildings of an image by (true grade, predicted grade).

    A building is a footprint of the truth. Its true grade is that of most of its pixels, its
    predicted class that of most pixels in its footprint; class 0 there means that it was missed.
    A predicted building that shares no pixel with a true one is counted in row 0.

    Args:
        prediction: classes [H, W].
        truth: classes [H, W], 0 the background.
        keep: bool [H, W]; other pixels have no vote, and a building without any is not counted.
        classes: number of classes, K.
        instances: ids [H, W] of the footprints, 0 none; None: the connected components of the
            truth's classes above 0, so that buildings which touch are one.

    Returns:
        [K, K], rows the truth.
    """
    built = (truth > 0) & (truth != IGNORE)
    ids = components(built) if instances is None else instances
    true = majority(ids[keep], truth[keep], classes, first=1)
    found = majority(ids[keep], prediction[keep], classes)
    pairs = true[true >= 0] * classes + found[true >= 0]
    drawn = components((prediction > 0) & keep)
    lone = np.setdiff1d(drawn[drawn > 0], drawn[ids > 0])
    grades = majority(drawn.ravel(), np.where(keep, prediction, 0).ravel(), classes, first=1)
    counts = np.bincount(np.concatenate([pairs, grades[lone]]), minlength=classes**2)
    return counts.reshape(classes, classes)


class ObjectScores(ConfusionMetric):
    """Accuracy and F1 of buildings, matched by footprint: see :func:`object_confusion`.

    The definition is ours: benchmarks of damage differ in how they match buildings.
    """

    def update(
        self,
        prediction: Tensor,
        mask: Tensor,
        valid: Tensor | None = None,
        instances: Tensor | None = None,
    ) -> None:
        """Count the buildings of a batch of whole images: one that is cut counts in each part.

        Args:
            prediction: see :class:`ClassScores`, as ``mask`` and ``valid``.
            mask: true classes.
            valid: usable pixels.
            instances: ids of the footprints [B, H, W], 0 none; None: connected components.

        Raises:
            InputError: shapes that do not fit, or a value that is no class.
        """
        classes = len(self.class_names)
        found = as_classes(prediction, mask, classes)
        keep = counted(mask, valid) & (found != IGNORE)
        for image in images(found, mask, keep, instances, classes):
            counts = torch.from_numpy(object_confusion(*image[:3], classes, image[3]))
            self.confusion += counts.to(self.confusion.device)

    def compute(self) -> dict[str, Tensor]:
        """Score what was counted.

        Returns:
            ``building_accuracy``: share of true buildings with the right grade;
            ``building_recall``: share of them that were found, with any grade;
            ``building_f1/NAME`` of each grade, and ``building_f1``, the mean of those that occur.
        """
        grades = f1(*(counts[1:] for counts in errors(self.confusion)))
        true = self.confusion[1:]
        return {
            "building_accuracy": ratio(true[:, 1:].diagonal().sum(), true.sum()),
            "building_recall": ratio(true[:, 1:].sum(), true.sum()),
            **named("building_f1", self.class_names[1:], grades),
            "building_f1": torch.nanmean(grades),
        }


def images(
    found: Tensor, mask: Tensor, keep: Tensor, instances: Tensor | None, classes: int
) -> Iterator[tuple[Ints, Ints, Bools, Ints | None]]:
    """Images of a batch as arrays: prediction, truth, keep, instances.

    Raises:
        InputError: instances of another shape, or a value that is no class.
    """
    if instances is not None and (instances.shape != mask.shape or instances.is_floating_point()):
        got = f"{instances.dtype} {tuple(instances.shape)}"
        raise InputError("instances", got, f"whole numbers of {tuple(mask.shape)}")
    for name, labels in (("prediction", found), ("mask", mask)):
        wrong = labels[keep & ((labels < 0) | (labels >= classes))]
        if wrong.numel():
            raise InputError(name, int(wrong[0]), f"0 to {classes - 1}, or {IGNORE}")
    for row in range(len(mask)):
        ids = None if instances is None else _numbered(instances[row])
        yield (
            found[row].cpu().numpy().astype(np.int64),
            mask[row].cpu().numpy().astype(np.int64),
            keep[row].cpu().numpy(),
            ids,
        )


def _numbered(instances: Tensor) -> Ints:
    """Ids from 1 without gaps: those of a data set may run into the millions."""
    ids = instances.cpu().numpy()
    present = np.unique(ids[ids != 0])
    return np.where(ids == 0, 0, np.searchsorted(present, ids) + 1).astype(np.int64)
