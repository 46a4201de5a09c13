"""Scores of each class from the pixels: IoU, F1, precision, recall."""

import torch
from torch import Tensor

from rscontrast.metrics.counts import ConfusionMetric, errors, f1, named, ratio


class ClassScores(ConfusionMetric):
    """IoU and F1 of each class, as :func:`rscontrast.metrics.segmentation.scores` has them.

    IoU = TP / (TP + FP + FN), F1 = 2 TP / (2 TP + FP + FN). A class in neither truth nor
    prediction scores NaN and has no part in a mean; torchmetrics' own give such a class 0.
    """

    def compute(self) -> dict[str, Tensor]:
        """Score what was counted.

        Returns:
            ``iou/NAME`` and ``f1/NAME`` of each class, ``mean_iou``, ``mean_f1`` and, without
            class 0, ``foreground_iou`` and ``foreground_f1`` over the classes that occur,
            ``building_iou`` of all classes but 0 as one, and ``accuracy``; NaN where there is
            nothing to score.
        """
        hits, false, missed = errors(self.confusion)
        iou, dice = ratio(hits, hits + false + missed), f1(hits, false, missed)
        matrix = self.confusion
        built = matrix[1:, 1:].sum()
        return {
            **named("iou", self.class_names, iou),
            **named("f1", self.class_names, dice),
            "mean_iou": torch.nanmean(iou),
            "mean_f1": torch.nanmean(dice),
            "foreground_iou": torch.nanmean(iou[1:]),
            "foreground_f1": torch.nanmean(dice[1:]),
            "building_iou": ratio(built, matrix.sum() - matrix[0, 0]),
            "accuracy": ratio(hits.sum(), matrix.sum()),
        }
