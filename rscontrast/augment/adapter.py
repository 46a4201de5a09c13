"""Operations on reflectance as augmentations of kornia."""

from copy import copy
from typing import Any

from kornia.augmentation import IntensityAugmentationBase2D
from torch import Tensor

from rscontrast.augment.operations import Operation, run
from rscontrast.augment.presets import recipe
from rscontrast.errors import whole
from rscontrast.types import SensorContract


class KorniaOperation(IntensityAugmentationBase2D):
    """An operation inside ``kornia.augmentation.AugmentationSequential``.

    The operation flips its own coin, and its result is bounded as :func:`run` says. Masks, boxes
    and keypoints beside the image are left alone. ``params`` of kornia replay it bit for bit.
    Kornia's ``same_on_batch``, of this or of what holds it, gives all images the same draws, and
    its ``same_on_frame`` all frames of a clip.
    """

    def __init__(self, operation: Operation, *, same_on_batch: bool = False) -> None:
        """Wrap ``operation``."""
        super().__init__(p=1.0, same_on_batch=same_on_batch)
        self.operation = operation

    def generate_parameters(self, batch_shape: tuple[int, ...]) -> dict[str, Tensor]:
        """Draw for a batch of ``batch_shape`` (N, C, H, W), on the CPU as kornia does."""
        count, bands, height, width = batch_shape
        draws = min(1, count) if self.same_on_batch else count
        drawn = self.operation.draw(draws, bands, (height, width), device="cpu")
        return {name: value.expand(count, *value.shape[1:]) for name, value in drawn.items()}

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


def kornia_operations(
    preset: str, contract: SensorContract, *, view: int = 0
) -> list[KorniaOperation]:
    """Return what a preset does to the spectrum, for ``AugmentationSequential(*these, ...)``.

    Crops and flips are kornia's own there; each operation bounds its own result.

    Args:
        preset: a key of :data:`rscontrast.augment.PRESETS`.
        contract: of the images.
        view: whose probabilities hold, where a preset treats views each in its way ("byol": 0
            and 1).

    Raises:
        InputError: an unknown preset, or a view below 0.
    """
    whole("view", view, least=0)
    return [KorniaOperation(_of_view(one, view)) for one in recipe(preset, contract, 1).operations]


def _of_view(operation: Operation, view: int) -> Operation:
    """The operation with the one probability that it has for a view."""
    if not isinstance(operation.p, tuple):
        return operation
    alone = copy(operation)
    object.__setattr__(alone, "p", operation.p[view % len(operation.p)])  # it is frozen
    return alone
