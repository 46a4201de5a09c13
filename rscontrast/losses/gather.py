"""Embeddings of all ranks on every rank, with gradient."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def gather_embeddings(z: Tensor) -> Tensor:
    """Concatenate the embeddings of all ranks, in rank order, with gradient to every rank.

    Gather each view by itself, ``info_nce(gather_embeddings(view1), gather_embeddings(view2))``:
    the 2N embeddings then keep the order [view 1 of all ranks, view 2 of all ranks]. Every rank
    then computes the loss of the whole batch; the gradients that the ranks send back are summed,
    so that the mean that ``DistributedDataParallel`` takes over ranks is the gradient of one
    process on the whole batch.

    Args:
        z: [N, D], of one shape on all ranks (drop the last, smaller batch).

    Returns:
        [ranks * N, D]; ``z`` itself where no process group is initialised.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return z
    gathered: Tensor = _Gather.apply(z)
    return gathered


class _Gather(torch.autograd.Function):
    """All-gather whose backward sums over ranks; a plain ``all_gather`` drops the gradient."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.count = z.shape[0]
        parts = [torch.empty_like(z) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, z.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        total = grad_outputs[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        start = dist.get_rank() * ctx.count
        return total[start : start + ctx.count]
