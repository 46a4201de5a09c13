"""What a device shall not wait for, nor round: constants that stay there, and full precision."""

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache

import torch
from torch import Tensor

type Numbers = tuple[float, ...] | tuple[tuple[float, ...], ...]


def fixed(values: Numbers, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return ``values`` on the device of ``like``, of its dtype or another; not to be changed.

    They are copied there once: a copy from the host in each step would wait for the device.
    """
    return _fixed(values, like.device, dtype or like.dtype)


@lru_cache(maxsize=256)
def _fixed(values: Numbers, device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # what is kept may be met by a gradient later
        return torch.tensor(values, device=device, dtype=dtype)


def precise(device: torch.device) -> AbstractContextManager[object]:
    """Arithmetic in the precision that tensors have, also within an autocast around it."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
