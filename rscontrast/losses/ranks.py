"""A mean over the samples of all ranks without sending their feature maps around."""

import torch
import torch.distributed as dist
from torch import Tensor


@torch.no_grad()
def rank_share(weight: Tensor) -> Tensor:
    """How much this rank's weighted mean counts in the mean over ranks.

    ``DistributedDataParallel`` takes the mean of the ranks' gradients. Where samples have weights
    that is not the mean over all samples; the loss times this factor makes it so:
    ranks * (sum of weights here) / (sum of weights everywhere). Feature maps are too large to
    gather, and a dense loss needs no other sample's.

    Args:
        weight: [N], 0 or more.

    Returns:
        a scalar: 1 with one process, or where no sample of any rank counts.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return weight.new_ones(())
    mine = weight.sum()
    total = mine.clone()
    dist.all_reduce(total)
    return torch.where(total > 0, dist.get_world_size() * mine / total, 1)
