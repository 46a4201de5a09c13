"""Embeddings of all ranks on every rank, with gradient."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from rscontrast.errors import TrainingError


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

    Raises:
        TrainingError: ranks differ in N or in the size of a sample; on all of them.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return z
    _require_one_shape(z)
    gathered: Tensor = _Gather.apply(z)
    return gathered


def _require_one_shape(z: Tensor) -> None:
    """Gathered tensors of other sizes are garbage, or the end of the process."""
    mine = torch.tensor([len(z), z.numel()], device=z.device)
    each = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(each, mine)
    sizes = torch.stack(each).tolist()
    if any(size != sizes[0] for size in sizes):
        shown = ", ".join(f"{count} ({numbers} numbers)" for count, numbers in sizes)
        remedy = "all ranks need batches of one size: drop the last one"
        raise TrainingError(f"samples of the ranks: {shown}; {remedy}")


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
