"""Operations on reflectance as augmentations of kornia."""

from typing import Any

from kornia.augmentation import IntensityAugmentationBase2D
from torch import Tensor

from rscontrast.augment.operations import Operation, run


class KorniaOperation(IntensityAugmentationBase2D):
    """An operation inside ``kornia.augmentation.AugmentationSequential``.

    The operation flips its own coin, and its result is bounded as :func:`run` says. Masks, boxes
    and keypoints beside the image are left alone. ``params`` of kornia replay it bit for bit.
    """

    def __init__(self, operation: Operation) -> None:
        """Wrap ``operation``."""
        super().__init__(p=1.0)
        self.operation = operation

    def generate_parameters(self, batch_shape: tuple[int, ...]) -> dict[str, Tensor]:
        """Draw for a batch of ``batch_shape`` (N, C, H, W), on the CPU as kornia does."""
        count, bands, height, width = batch_shape
        return self.operation.draw(count, bands, (height, width), device="cpu")

    def apply_transform(
        self,
        input: Tensor,  # noqa: A002
        params: dict[str, Any],
        flags: dict[str, Any],
        transform: Tensor | None = None,
    ) -> Tensor:
        """Apply what was drawn."""
        del flags, transform
        # Kornia adds notes of its own, tensors or not; no operation has their names.
        tensors = {name: value for name, value in params.items() if isinstance(value, Tensor)}
        drawn = {name: value.to(input.device) for name, value in tensors.items()}
        return run([self.operation], input, [drawn])[0]
