"""Which negatives are false ones: the three rules of FALSE's self-determination (FNSD).

"global" is the rule of the released code of arXiv 2211.07928; "nearest" and "above" are
reconstructions. Each carries no gradient.
"""

import math

import torch
from torch import Tensor

from rscontrast.losses.info_nce import partner_index, partner_values


@torch.no_grad()
def determine_global(cosine: Tensor, positive_threshold: float, *, temperature: float) -> Tensor:
    """Determine at most one false negative in the whole batch: the rule of the released code.

    The pair i < j, no positive pair, with the smallest |s_ij - s_i,partner(i)|, where
    s = exp(cos / temperature); accepted if cos_i,partner(i) >= positive_threshold. Only row i is
    set. Since only i < j is looked at, the choice depends on the order of the samples.

    Of exact ties the first pair is taken (the released code takes them all). The difference is
    compared by its logarithm, max(a, b) + log(1 - exp(-|a - b|)), which does not
    overflow where exp(1 / temperature) does.

    Args:
        cosine: [2N, 2N] similarities, any diagonal.
        positive_threshold: smallest similarity of the anchor's own positive.
        temperature: above 0.

    Returns:
        [2N, 2N] boolean, entry (i, j): j is a false negative of anchor i. No gradient.
    """
    positive = partner_values(cosine)
    logits, anchor = cosine / temperature, positive.unsqueeze(1) / temperature
    log_distance = (logits - anchor).abs_().neg_().expm1_().neg_().log_()
    log_distance += torch.maximum(logits, anchor)
    upper = torch.ones_like(cosine, dtype=torch.bool).triu_(1)
    pair = log_distance.masked_fill_(~(upper & is_negative(cosine)), math.inf).argmin()
    chosen = torch.zeros_like(upper)
    chosen.view(-1)[pair] = True
    return chosen & (positive >= positive_threshold).unsqueeze(1)


@torch.no_grad()
def determine_nearest(cosine: Tensor, positive_threshold: float) -> Tensor:
    """Determine one false negative per anchor: the negative nearest to its positive.

    Smallest |cos_ij - cos_i,partner(i)|; accepted if cos_i,partner(i) >= positive_threshold.
    Reconstruction: the self-determination of the paper, held per anchor and not per batch.

    Args:
        cosine: [2N, 2N] similarities, any diagonal.
        positive_threshold: smallest similarity of the anchor's own positive.

    Returns:
        [2N, 2N] boolean as in :func:`determine_global`, at most one entry a row. No gradient.
    """
    positive = partner_values(cosine).unsqueeze(1)
    distance = (cosine - positive).abs_().masked_fill_(~is_negative(cosine), math.inf)
    chosen = torch.zeros_like(cosine, dtype=torch.bool)
    return chosen.scatter_(1, distance.argmin(1, keepdim=True), positive >= positive_threshold)


@torch.no_grad()
def determine_above(
    cosine: Tensor, positive_threshold: float, *, margin: float = 0.0, max_selected: int = 8
) -> Tensor:
    """Determine every negative that is as similar to the anchor as its positive is.

    cos_ij >= cos_i,partner(i) - margin; the ``max_selected`` most similar ones at most; accepted
    if cos_i,partner(i) >= positive_threshold. Reconstruction: the paper states only that a false
    negative is about as similar as the positive.

    Args:
        cosine: [2N, 2N] similarities, any diagonal.
        positive_threshold: smallest similarity of the anchor's own positive.
        margin: how far below the positive a false negative may lie, 0 or more.
        max_selected: most false negatives of one anchor, 1 or more.

    Returns:
        [2N, 2N] boolean as in :func:`determine_global`. No gradient.
    """
    positive = partner_values(cosine).unsqueeze(1)
    negatives = cosine.masked_fill(~is_negative(cosine), -math.inf)
    # min(): a row has 2N - 2 negatives, so topk never reaches the masked entries.
    values, index = negatives.topk(min(max_selected, cosine.shape[0] - 2), dim=1)
    accepted = (values >= positive - margin) & (positive >= positive_threshold)
    return torch.zeros_like(cosine, dtype=torch.bool).scatter_(1, index, accepted)


def is_negative(matrix: Tensor) -> Tensor:
    """Boolean [2N, 2N]: neither the anchor itself nor its partner."""
    negative = torch.ones_like(matrix, dtype=torch.bool).fill_diagonal_(False)
    return negative.scatter_(1, partner_index(matrix), False)
