"""A slow copy of what is trained: it makes the keys, and follows the weights at a distance."""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from rscontrast.errors import InputError


class MomentumEncoder(nn.Module):
    """A frozen copy whose weights are the running mean of another module's.

    It starts equal to that module bit for bit, is never given a gradient, and moves only by
    :meth:`update`, which is called before it makes the keys of a step. Running statistics of batch
    norms are its own: it gathers them in training mode, as in the released codes of MoCo and BYOL.

    Source: He et al. 2020, "Momentum Contrast", arXiv 1911.05722, eq. 2.
    """

    def __init__(self, online: nn.Module) -> None:
        """Copy ``online`` as it is now: an encoder, or a head."""
        super().__init__()
        self.module = copy.deepcopy(online).requires_grad_(False)

    @torch.no_grad()
    def forward(self, *inputs: Any, **named: Any) -> Any:
        """What the copy makes of the inputs, without gradient."""
        return self.module(*inputs, **named)

    @torch.no_grad()
    def update(self, online: nn.Module, momentum: float) -> None:
        """Move by the share 1 - ``momentum`` of the way to ``online``.

        Where both are equal they stay so bit for bit.

        Args:
            online: the module that was copied.
            momentum: 0 (become equal) to 1 (stay).

        Raises:
            InputError: ``momentum`` is out of range.
        """
        share = 1.0 - check_momentum("momentum", momentum)
        own: list[Tensor] = list(self.module.parameters())
        torch._foreach_lerp_(own, [other.detach() for other in online.parameters()], share)


def cosine_momentum(step: int, total: int, start: float) -> float:
    """Coefficient that rises from ``start`` to 1: 1 - (1 - start) (cos(pi step / total) + 1) / 2.

    Source: Grill et al. 2020, "Bootstrap your own latent", arXiv 2006.07733, section 3.3.
    """
    return 1.0 - (1.0 - start) * (math.cos(math.pi * min(step, total) / total) + 1.0) / 2.0


def check_momentum(name: str, momentum: float) -> float:
    """Return ``momentum`` if it lies in [0, 1].

    Raises:
        InputError: it does not (NaN included).
    """
    if not 0 <= momentum <= 1:
        raise InputError(name, momentum, "0 to 1")
    return momentum
