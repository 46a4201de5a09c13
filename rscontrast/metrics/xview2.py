"""The score of the xView2 challenge, as its scorer computes it."""

from typing import NamedTuple

import torch
from torch import Tensor

from rscontrast.errors import InputError, choose
from rscontrast.metrics.counts import ConfusionMetric, errors, f1, named
from rscontrast.types import DAMAGE_CLASSES

EPSILON = 1e-6
"""Added to each F1 before the harmonic mean, as the scorer does."""
ABSENT = ("zero", "leave_out")


class XView2(NamedTuple):
    """What :func:`xview2_score` finds; scalars of float64 but for ``grade_f1``."""

    score: Tensor
    """0.3 localisation_f1 + 0.7 damage_f1; a perfect map has 1 + 7e-7."""
    localisation_f1: Tensor
    """F1 of building against background; NaN where neither map nor truth has one."""
    damage_f1: Tensor
    """Harmonic mean of the four."""
    grade_f1: Tensor
    """F1 of each grade [4] within the true buildings; NaN where neither has the grade."""


def xview2_score(confusion: Tensor, absent: str = "zero") -> XView2:
    """Score a map from its confusion matrix.

    Localisation takes classes 1 to 4 as one. The F1 of a grade counts only pixels that are
    buildings in the truth: a building that was drawn where none is costs localisation alone, one
    that was missed costs both. damage_f1 = 4 / sum_g (F1_g + 1e-6)^-1. All counts are summed over
    the images first.

    Source: github.com/DIUx-xView/xView2_scoring, xview2_metrics.py at ea0793d, with the building
    and the damage prediction in one map. Its first version left false positives out where an
    image has no such grade in its truth; that was mended in its pull request 2, which holds here.

    Args:
        confusion: pixel counts [5, 5], rows truth, columns prediction: background, no damage,
            minor, major, destroyed.
        absent: a grade that neither truth nor prediction has within the true buildings counts as
            F1 0, which is the scorer's rule ("zero") and brings damage_f1 down to 4e-6, or has no
            part in the mean ("leave_out", ours: not comparable with published scores).

    Returns:
        the scores; all NaN without any pixel.

    Raises:
        InputError: another shape, a count below 0, or an unknown rule.
    """
    choose("absent", absent, ABSENT)
    if confusion.shape != (5, 5):
        raise InputError("confusion", tuple(confusion.shape), "(5, 5): background and 4 grades")
    if (confusion < 0).any():
        raise InputError("confusion", int(confusion.min()), "counts of 0 or more")
    built = confusion[1:, 1:].sum()
    localisation = f1(built, confusion[0, 1:].sum(), confusion[1:, 0].sum())
    inside = torch.cat([torch.zeros_like(confusion[:1]), confusion[1:]])
    grades = f1(*(counts[1:] for counts in errors(inside)))
    damage = _harmonic(grades, absent)
    if not confusion.any():
        damage = damage.new_tensor(torch.nan)
    score = 0.3 * localisation.nan_to_num(0.0) + 0.7 * damage
    return XView2(score, localisation, damage, grades)


def _harmonic(grades: Tensor, absent: str) -> Tensor:
    kept = grades[~grades.isnan()] if absent == "leave_out" else grades.nan_to_num(0.0)
    if not len(kept):
        return grades.new_tensor(torch.nan)
    return len(kept) / (kept + EPSILON).reciprocal().sum()


class XView2Score(ConfusionMetric):
    """The xView2 score of a class map; counts of all batches and ranks add up."""

    def __init__(self, absent: str = "zero") -> None:
        """Choose the rule for grades that do not occur.

        Args:
            absent: see :func:`xview2_score`.

        Raises:
            InputError: an unknown rule.
        """
        super().__init__(DAMAGE_CLASSES)
        self.absent = choose("absent", absent, ABSENT)

    def compute(self) -> dict[str, Tensor]:
        """Score what was counted: ``xview2``, ``localisation_f1``, ``damage_f1``, ``f1/NAME``."""
        found = xview2_score(self.confusion, self.absent)
        return {
            "xview2": found.score,
            "localisation_f1": found.localisation_f1,
            "damage_f1": found.damage_f1,
            **named("f1", self.class_names[1:], found.grade_f1),
        }
