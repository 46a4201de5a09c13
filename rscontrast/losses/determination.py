"""Which negatives are false ones: the three rules of FALSE's self-determination (FNSD).

"global" is the rule of the released code of arXiv 2211.07928; "nearest" and "above" are
reconstructions. Each carries no gradient, and says its answer as a list of pairs whose length does
not depend on the values: no matrix is made of it, and a device need not be waited for.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from rscontrast.losses.contrast import Contrast

BLOCK = {"cpu": 1 << 18}
"""Entries that are worked on at once: what a processor's cache holds."""
WHOLE = 1 << 26


class Determined(NamedTuple):
    """Pairs of an anchor and one of its negatives, no pair twice where it is accepted."""

    anchor: Tensor
    """[E] row."""
    negative: Tensor
    """[E] column."""
    accepted: Tensor
    """[E] boolean: which of the pairs are false negatives."""


@torch.no_grad()
def determine_global(
    contrast: Contrast, positive_threshold: float, *, upper: bool = False
) -> Determined:
    """Determine at most one false negative in the whole batch: the rule of the released code.

    The pair with the smallest |s_ij - s_i,positive|, where s = exp(cos / temperature); accepted if
    the anchor's positive has a cosine of at least ``positive_threshold``.

    Of exact ties the first pair is taken (the released code takes them all). The difference is
    compared by its logarithm, max(a, b) + log(1 - exp(-|a - b|)), which does not overflow where
    exp(1 / temperature) does.

    Args:
        contrast: of the batch.
        positive_threshold: smallest cosine of the anchor's own positive.
        upper: look at i < j only, as the released code does: the choice then depends on the order
            of the samples.

    Returns:
        One pair, accepted or not. No gradient.
    """

    def nearest(logits: Tensor, positive: Tensor, start: int) -> tuple[Tensor, Tensor]:
        distance = (logits - positive).abs_().neg_().expm1_().neg_().log_()
        distance += torch.maximum(logits, positive)
        distance.masked_fill_(logits == -math.inf, math.inf)
        if upper:
            above = torch.ones_like(logits, dtype=torch.bool).triu_(start + 1)
            distance.masked_fill_(~above, math.inf)
        smallest = distance.min(1)
        return smallest.values, smallest.indices

    distance, columns = _by_rows(nearest, contrast)
    anchor = distance.argmin(0, keepdim=True)
    accepted = _trusted(contrast, positive_threshold)[anchor] & (distance[anchor] < math.inf)
    return Determined(anchor, columns[anchor], accepted)


@torch.no_grad()
def determine_nearest(contrast: Contrast, positive_threshold: float) -> Determined:
    """Determine one false negative per anchor: the negative nearest to its positive.

    Smallest |cos_ij - cos_i,positive|; accepted if the latter is at least ``positive_threshold``.
    Reconstruction: the self-determination of the paper, held per anchor and not per batch.

    Args:
        contrast: of the batch.
        positive_threshold: smallest cosine of the anchor's own positive.

    Returns:
        A pair for each anchor, in their order, accepted or not. No gradient.
    """

    def nearest(logits: Tensor, positive: Tensor, _: int) -> tuple[Tensor, Tensor]:
        smallest = (logits - positive).abs_().min(1)
        return smallest.values, smallest.indices

    distance, columns = _by_rows(nearest, contrast)
    accepted = _trusted(contrast, positive_threshold) & (distance < math.inf)
    return Determined(torch.arange(len(columns), device=columns.device), columns, accepted)


@torch.no_grad()
def determine_above(
    contrast: Contrast, positive_threshold: float, *, margin: float = 0.0, max_selected: int = 8
) -> Determined:
    """Determine every negative that is as similar to the anchor as its positive is.

    cos_ij >= cos_i,positive - margin; the ``max_selected`` most similar ones at most; accepted
    if cos_i,positive >= positive_threshold. Reconstruction: the paper states only that a false
    negative is about as similar as the positive.

    Args:
        contrast: of the batch.
        positive_threshold: smallest cosine of the anchor's own positive.
        margin: how far below the positive a false negative may lie, 0 or more.
        max_selected: most false negatives of one anchor, 1 or more.

    Returns:
        ``max_selected`` pairs for each anchor, accepted or not. No gradient.
    """
    values, columns = contrast.negatives.topk(min(max_selected, contrast.negatives.shape[1]), dim=1)
    least = contrast.positive - margin / contrast.temperature
    # Where there are fewer negatives the rest is -inf, which no positive lies below.
    accepted = (values >= least.unsqueeze(1)) & _trusted(contrast, positive_threshold).unsqueeze(1)
    return pairs(columns, accepted)


@torch.no_grad()
def both_ways(found: Determined, count: int) -> Determined:
    """Add (j, i) for each accepted (i, j), once.

    Args:
        found: pairs of a batch against itself.
        count: 2N.
    """
    there = found.anchor * count + found.negative
    back = found.negative * count + found.anchor
    new = found.accepted & ~torch.isin(back, there.masked_fill(~found.accepted, -1))
    anchor = torch.cat([found.anchor, found.negative])
    negative = torch.cat([found.negative, found.anchor])
    return Determined(anchor, negative, torch.cat([found.accepted, new]))


def pairs(columns: Tensor, accepted: Tensor) -> Determined:
    """Pairs from k columns for each anchor: [A, k], [A, k]."""
    rows = torch.arange(len(columns), device=columns.device).unsqueeze(1).expand_as(columns)
    return Determined(rows.reshape(-1), columns.reshape(-1), accepted.reshape(-1))


def places(found: Determined, contrast: Contrast) -> Tensor:
    """Places of the pairs in the flattened matrix of negatives: [E]."""
    return found.anchor * contrast.negatives.shape[1] + found.negative


@torch.no_grad()
def describe(contrast: Contrast, found: Determined) -> dict[str, Tensor]:
    """What is logged of a determination: shares, similarity and, with labels, its precision."""
    logits = contrast.negatives[found.anchor, found.negative]
    each = torch.zeros_like(contrast.positive).index_add_(
        0, found.anchor, found.accepted.to(contrast.positive.dtype)
    )
    similarity = logits.masked_fill(~found.accepted, 0.0).sum() * contrast.temperature
    same = contrast.same_class()
    hits = None if same is None else (same[found.anchor, found.negative] & found.accepted).sum()
    return summary(contrast, each, similarity, hits)


@torch.no_grad()
def summary(
    contrast: Contrast, each: Tensor, similarity: Tensor, hits: Tensor | None
) -> dict[str, Tensor]:
    """The diagnostics of what was determined, over those of every loss.

    Args:
        contrast: of the batch.
        each: [A] false negatives of each anchor.
        similarity: sum of their cosines.
        hits: how many are of the anchor's class; None without labels.
    """
    found = each.sum()
    shown = contrast.diagnostics()
    shown["false_negative_share"] = contrast.average((each > 0).to(each.dtype))
    shown["false_negative_similarity"] = similarity / found
    same = contrast.same_class()
    if same is not None and hits is not None:
        shown["false_negative_precision"] = hits / found
        shown["false_negative_recall"] = hits / same.sum()
    return shown


type _Rule = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]


def _by_rows(rule: _Rule, contrast: Contrast) -> tuple[Tensor, Tensor]:
    """Apply ``rule`` to blocks of rows: its matrices are small, and stay in the cache."""
    negatives, positive = contrast.negatives, contrast.positive.unsqueeze(1)
    size = max(1, BLOCK.get(negatives.device.type, WHOLE) // negatives.shape[1])
    found = []
    for start in range(0, len(negatives), size):
        rows = slice(start, start + size)
        found.append(rule(negatives[rows], positive[rows], start))
    values, indices = zip(*found, strict=True)
    return torch.cat(values), torch.cat(indices)


def _trusted(contrast: Contrast, positive_threshold: float) -> Tensor:
    return contrast.positive.detach() * contrast.temperature >= positive_threshold
