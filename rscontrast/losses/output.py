"""What every loss returns."""

from typing import NamedTuple

from torch import Tensor


class LossOutput(NamedTuple):
    """A loss and what to log beside it."""

    loss: Tensor
    """Scalar, with gradient."""
    diagnostics: dict[str, Tensor]
    """Detached scalars by name; NaN where a quantity is not defined for the batch."""
