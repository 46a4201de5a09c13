"""FALSE: negatives that look like the positive are determined false and calibrated.

Source: "FALSE: False Negative Samples Aware Contrastive Learning for Semantic Segmentation of
High-Resolution Remote Sensing Image", arXiv 2211.07928: coarse self-determination (FNSD, the
``determine_*`` functions) and confidence calibration (FNCC, the loss).
"""

import math

import torch
from torch import Tensor, nn

from rscontrast.errors import InputError, choose
from rscontrast.losses.info_nce import (
    check_temperature,
    check_views,
    partner_index,
    partner_values,
    similarity_logits,
)
from rscontrast.losses.output import LossOutput

SELECT = ("above", "global", "nearest")
"""Names of the rules that determine a false negative."""


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
    pair = log_distance.masked_fill_(~(upper & _is_negative(cosine)), math.inf).argmin()
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
    distance = (cosine - positive).abs_().masked_fill_(~_is_negative(cosine), math.inf)
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
    negatives = cosine.masked_fill(~_is_negative(cosine), -math.inf)
    # min(): a row has 2N - 2 negatives, so topk never reaches the masked entries.
    values, index = negatives.topk(min(max_selected, cosine.shape[0] - 2), dim=1)
    accepted = (values >= positive - margin) & (positive >= positive_threshold)
    return torch.zeros_like(cosine, dtype=torch.bool).scatter_(1, index, accepted)


def log_calibrated_positive(logits: Tensor, determined: Tensor, confidence: float) -> Tensor:
    """Positive signal, log(s_i,partner(i) + sum_j W_ij s_ij): [2N].

    W is ``confidence`` where a false negative was determined, else 0. What remains of it,
    1 - W, stays in the negative signal, so that both add up to the sum over all j != i.

    Args:
        logits: [2N, 2N] log s, the diagonal -inf.
        determined: [2N, 2N] boolean.
        confidence: a, 0 to 1.
    """
    weight = determined.to(logits.dtype).mul_(confidence)
    weight.scatter_(1, partner_index(logits), 1.0)
    return (logits + weight.log_()).logsumexp(1)


def false_contrastive(
    view1: Tensor,
    view2: Tensor,
    *,
    temperature: float = 0.5,
    confidence: float = 1.0,
    positive_threshold: float = 0.9,
    select: str = "global",
    margin: float = 0.0,
    max_selected: int = 8,
    symmetric: bool = False,
    labels: Tensor | None = None,
) -> LossOutput:
    r"""NT-Xent in which determined false negatives join the positive signal by their confidence.

    .. math:: L = \frac{1}{2N} \sum_i \Big[ \log \sum_{j \neq i} s_{ij}
              - \log \big( s_{i,partner(i)} + \sum_j W_{ij} s_{ij} \big) \Big]

    Source: arXiv 2211.07928, in the form of the released code. W is constant: the determination
    carries no gradient.

    Args:
        view1: [N, D] embeddings of the first views, N >= 2; normalised here.
        view2: [N, D] embeddings of the second views, in the same order.
        temperature: a finite number above 0.
        confidence: weight a of a determined false negative, 0 (NT-Xent) to 1.
        positive_threshold: smallest similarity of an anchor's positive at which its
            determination is trusted; above 1 trusts none.
        select: "global" (:func:`determine_global`), "nearest" (:func:`determine_nearest`) or
            "above" (:func:`determine_above`).
        margin: 0 or more; read by "above".
        max_selected: 1 or more; read by "above".
        symmetric: determine (j, i) too wherever (i, j) is.
        labels: [N] class of each sample; read by the diagnostics only, never by the loss.

    Returns:
        The loss, at least float32 also under autocast, and the diagnostics
        ``positive_similarity``, ``false_negative_share`` (of anchors with one or more),
        ``false_negative_similarity`` (mean cosine, NaN if there is none) and, with ``labels``,
        ``false_negative_precision`` and ``false_negative_recall`` against "same class".

    Raises:
        InputError: an argument outside the ranges above.
    """
    check_settings(temperature, confidence, positive_threshold, select, margin, max_selected)
    check_views(view1, view2)
    if labels is not None and labels.shape != view1.shape[:1]:
        raise InputError("labels", tuple(labels.shape), f"one label a sample, {view1.shape[:1]}")
    with torch.autocast(view1.device.type, enabled=False):
        logits = similarity_logits(view1, view2, temperature)
        cosine = logits.detach() * temperature
        if select == "global":
            determined = determine_global(cosine, positive_threshold, temperature=temperature)
        elif select == "nearest":
            determined = determine_nearest(cosine, positive_threshold)
        else:
            determined = determine_above(
                cosine, positive_threshold, margin=margin, max_selected=max_selected
            )
        if symmetric:
            determined = determined | determined.T
        loss = logits.logsumexp(1) - log_calibrated_positive(logits, determined, confidence)
    return LossOutput(loss.mean(), _diagnostics(cosine, determined, labels))


class FALSELoss(nn.Module):
    """Holds the arguments of :func:`false_contrastive`."""

    def __init__(
        self,
        temperature: float = 0.5,
        confidence: float = 1.0,
        positive_threshold: float = 0.9,
        select: str = "global",
        margin: float = 0.0,
        max_selected: int = 8,
        symmetric: bool = False,
    ) -> None:
        """Check and keep the arguments.

        Raises:
            InputError: see :func:`false_contrastive`.
        """
        super().__init__()
        check_settings(temperature, confidence, positive_threshold, select, margin, max_selected)
        self.temperature, self.confidence = temperature, confidence
        self.positive_threshold, self.select = positive_threshold, select
        self.margin, self.max_selected, self.symmetric = margin, max_selected, symmetric

    def forward(self, view1: Tensor, view2: Tensor, labels: Tensor | None = None) -> LossOutput:
        """See :func:`false_contrastive`."""
        return false_contrastive(
            view1,
            view2,
            temperature=self.temperature,
            confidence=self.confidence,
            positive_threshold=self.positive_threshold,
            select=self.select,
            margin=self.margin,
            max_selected=self.max_selected,
            symmetric=self.symmetric,
            labels=labels,
        )


def check_settings(
    temperature: float,
    confidence: float,
    positive_threshold: float,
    select: str,
    margin: float,
    max_selected: int,
) -> None:
    """Refuse arguments outside the ranges of :func:`false_contrastive`.

    Raises:
        InputError: names the first one.
    """
    check_temperature(temperature)
    if not 0 <= confidence <= 1:
        raise InputError("confidence", confidence, "a number from 0 to 1")
    if not math.isfinite(positive_threshold):
        raise InputError("positive_threshold", positive_threshold, "a finite number")
    choose("select", select, SELECT)
    if not 0 <= margin < math.inf:
        raise InputError("margin", margin, "a finite number of 0 or more")
    if max_selected < 1:
        raise InputError("max_selected", max_selected, "a whole number of 1 or more")


def _is_negative(matrix: Tensor) -> Tensor:
    """Boolean [2N, 2N]: neither the anchor itself nor its partner."""
    negative = torch.ones_like(matrix, dtype=torch.bool).fill_diagonal_(False)
    return negative.scatter_(1, partner_index(matrix), False)


@torch.no_grad()
def _diagnostics(cosine: Tensor, determined: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
    found = determined.sum()
    diagnostics = {
        "positive_similarity": partner_values(cosine).mean(),
        "false_negative_share": determined.any(1).to(cosine.dtype).mean(),
        "false_negative_similarity": cosine.masked_fill(~determined, 0.0).sum() / found,
    }
    if labels is not None:
        classes = labels.repeat(2)
        same_class = (classes.unsqueeze(1) == classes) & _is_negative(cosine)
        hits = (determined & same_class).sum()
        diagnostics["false_negative_precision"] = hits / found
        diagnostics["false_negative_recall"] = hits / same_class.sum()
    return diagnostics
