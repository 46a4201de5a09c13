"""BYOL's regression of a key from a prediction: no negatives (arXiv 2006.07733, eq. 2)."""

import torch
from torch import Tensor, nn

from rscontrast.errors import InputError
from rscontrast.losses.contrast import check_samples, unit_length
from rscontrast.losses.output import LossOutput


def byol(prediction: Tensor, key: Tensor, *, weight: Tensor | None = None) -> LossOutput:
    r"""Squared distance of unit vectors, in one direction.

    .. math:: L = \frac{\sum_b w_b (2 - 2 \cos(q_b, k_b))}{\sum_b w_b}

    The method's loss is the sum over both directions.

    Source: Grill et al. 2020, "Bootstrap your own latent", eq. 2; the weights are ours.

    Args:
        prediction: [N, D] of the online branch, q; normalised here.
        key: [N, D] of the momentum branch, k; normalised here, without gradient.
        weight: [N], w, 0 or more; 0 removes a sample, whatever it holds. None: all 1.

    Returns:
        The loss, at least float32 also under autocast, 0 where all weights are 0; and
        ``positive_similarity``, the weighted mean cosine, NaN there.

    Raises:
        InputError: shapes that differ or are not [N >= 1, D >= 1]; a bad weight.
    """
    _check(prediction, key)
    kept = check_samples(len(prediction), weight, None)
    with torch.autocast(prediction.device.type, enabled=False):
        query, positive = (
            z.to(torch.promote_types(z.dtype, torch.float32)) for z in (prediction, key.detach())
        )
        share = query.new_ones(len(query)) if weight is None else weight.to(query.dtype)
        if kept is not None:
            # Before anything is computed of it: NaN times 0 is NaN, in the gradient too.
            query, positive = (torch.where(kept[:, None], z, 0.0) for z in (query, positive))
        cosine = (unit_length(query) * unit_length(positive)).sum(1)
        total = share.sum()
        loss = (share * (2 - 2 * cosine)).sum() / torch.where(total > 0, total, 1.0)
        similarity = (share * cosine.detach()).sum() / total
    return LossOutput(loss, {"positive_similarity": similarity})


class BYOLLoss(nn.Module):
    """Holds the arguments of :func:`byol`, of which there are none."""

    needs_index = False

    def forward(
        self, prediction: Tensor, key: Tensor, *, weight: Tensor | None = None
    ) -> LossOutput:
        """See :func:`byol`."""
        return byol(prediction, key, weight=weight)


def _check(prediction: Tensor, key: Tensor) -> None:
    shape = tuple(prediction.shape)
    if len(shape) != 2 or min(shape) < 1:
        raise InputError("prediction", shape, "a shape [N, D] with N >= 1 and D >= 1")
    if tuple(key.shape) != shape:
        raise InputError("key", tuple(key.shape), f"the shape of prediction, {shape}")
