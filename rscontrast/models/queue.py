"""Keys of former batches, the oldest of which each new one replaces."""

import torch
from torch import Tensor, nn

from rscontrast.errors import InputError, whole


class Queue(nn.Module):
    """A ring of keys, in buffers: it moves with its module and stands in every checkpoint.

    It starts with random directions, as the released code of MoCo: there is no shorter queue, and
    the shapes of a step never change. All is done where the keys are, without a look at their
    values from Python.

    Source: He et al. 2020, "Momentum Contrast", arXiv 1911.05722, section 3.2.
    """

    keys: Tensor
    pointer: Tensor

    def __init__(self, size: int, dim: int) -> None:
        """Fill it with random unit vectors.

        Args:
            size: number of keys, K.
            dim: size of a key, D.

        Raises:
            InputError: either is below 1.
        """
        super().__init__()
        shape = whole("queue_size", size), whole("dim", dim)
        self.register_buffer("keys", nn.functional.normalize(torch.randn(shape), dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def enqueue(self, keys: Tensor, weight: Tensor | None = None) -> None:
        """Put keys in the place of the oldest.

        Args:
            keys: [N, D], N at most K; of all ranks, so that every rank keeps the same queue.
                Stored normalised.
            weight: [N]; a key of weight 0 is left out.

        Raises:
            InputError: more keys than the queue holds, or of another size.
        """
        count, size = len(keys), len(self.keys)
        if count > size or keys.shape[1:] != self.keys.shape[1:]:
            most = tuple(self.keys.shape)
            allowed = f"at most {most}: raise queue_size or lower batch_size"
            raise InputError("keys", tuple(keys.shape), allowed)
        if weight is None:
            taken = torch.ones(count, dtype=torch.bool, device=keys.device)
        else:
            taken = weight > 0
        # Those left out get the slots behind the others, where they write what stands there.
        left = ~taken
        behind = taken.sum() + left.cumsum(0)
        slot = torch.where(taken, taken.cumsum(0), behind) - 1
        slot = (self.pointer + slot) % size
        new = nn.functional.normalize(keys.to(self.keys.dtype), dim=1)
        self.keys.index_copy_(0, slot, torch.where(taken[:, None], new, self.keys[slot]))
        self.pointer.copy_((self.pointer + taken.sum()) % size)
