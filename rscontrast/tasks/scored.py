"""What a segmenter's validation and test are scored by."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rscontrast.errors import InputError
from rscontrast.metrics import CalibrationError, ClassScores, XView2Score
from rscontrast.types import DAMAGE_CLASSES


def named_classes(classes: int, names: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the classes: those given, or xBD's where there are five, or numbers.

    Raises:
        InputError: another number of names, or one twice.
    """
    if names is None:
        own = DAMAGE_CLASSES if classes == len(DAMAGE_CLASSES) else None
        return own or tuple(f"class {number}" for number in range(classes))
    if len(names) != classes or len(set(names)) < classes:
        raise InputError("class_names", tuple(names), f"{classes} different names")
    return tuple(names)


class MapScores(nn.Module):
    """Scores of class probabilities over an epoch; counts of all ranks add up.

    IoU and F1 of each class, the calibration error of all pixels and of those of true buildings,
    and where the classes are xBD's the xView2 score.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        """Start from no counts."""
        super().__init__()
        parts: dict[str, nn.Module] = {
            "classes": ClassScores(class_names),
            "ece": CalibrationError(),
            "ece_buildings": CalibrationError(buildings_only=True),
        }
        if tuple(class_names) == DAMAGE_CLASSES:
            parts["xview2"] = XView2Score()
        self.parts = nn.ModuleDict(parts)

    @torch.no_grad()
    def update(self, probabilities: Tensor, mask: Tensor) -> None:
        """Count a batch.

        Args:
            probabilities: [B, K, H, W].
            mask: classes [B, H, W]; 255 does not count.
        """
        for part in self.parts.values():
            part.update(probabilities, mask)  # type: ignore[operator]  # a metric, not a tensor

    def compute(self) -> dict[str, Tensor]:
        """Score what was counted, over all ranks; NaN where there is nothing to score."""
        found: dict[str, Tensor] = {}
        for name, part in self.parts.items():
            value = part.compute()  # type: ignore[operator]  # as above
            # The F1s of xView2 are within true buildings: they are not those of the classes.
            some = value if isinstance(value, dict) else {name: value}
            found |= {k.replace("f1/", "grade_f1/") if name == "xview2" else k: v
                      for k, v in some.items()}  # fmt: skip
        return found

    def reset(self) -> None:
        """Start over."""
        for part in self.parts.values():
            part.reset()  # type: ignore[operator]  # as above
