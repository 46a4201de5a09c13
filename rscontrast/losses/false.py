"""FALSE: negatives that look like the positive are determined false and calibrated.

Source: "FALSE: False Negative Samples Aware Contrastive Learning for Semantic Segmentation of
High-Resolution Remote Sensing Image", arXiv 2211.07928: coarse self-determination (FNSD, the
``determine_*`` functions) and confidence calibration (FNCC, the loss).
"""

import math

import torch
from torch import Tensor

from rscontrast.errors import InputError, choose, whole
from rscontrast.losses.contrast import (
    Contrast,
    batch_contrast,
    check_temperature,
    log_sum_and_entries,
    queue_contrast,
)
from rscontrast.losses.determination import (
    Determined,
    both_ways,
    describe,
    determine_above,
    determine_global,
    determine_nearest,
    places,
)
from rscontrast.losses.module import BatchLoss, QueueLoss
from rscontrast.losses.output import LossOutput

SELECT = ("above", "global", "nearest")
"""Names of the rules that determine a false negative."""


def false_contrastive(
    view1: Tensor,
    view2: Tensor,
    *,
    weight: Tensor | None = None,
    labels: Tensor | None = None,
    temperature: float = 0.5,
    confidence: float = 1.0,
    positive_threshold: float = 0.9,
    select: str = "global",
    margin: float = 0.0,
    max_selected: int = 8,
    symmetric: bool = False,
) -> LossOutput:
    r"""NT-Xent in which determined false negatives join the positive signal by their confidence.

    .. math:: L = \frac{1}{2N} \sum_i \Big[ \log \sum_{j \neq i} s_{ij}
              - \log \big( s_{i,partner(i)} + \sum_j W_{ij} s_{ij} \big) \Big]

    Source: arXiv 2211.07928, in the form of the released code. W is constant: the determination
    carries no gradient.

    Args:
        view1: [N, D] embeddings of the first views, N >= 2; normalised here.
        view2: [N, D] embeddings of the second views, in the same order.
        weight: [N] weight of each sample in the mean, 0 or more; 0 removes it, as in
            :func:`rscontrast.losses.info_nce`.
        labels: [N] class of each sample; read by the diagnostics only, never by the loss.
        temperature: a finite number above 0.
        confidence: weight a of a determined false negative, 0 (NT-Xent) to 1.
        positive_threshold: smallest similarity of an anchor's positive at which its
            determination is trusted; above 1 trusts none.
        select: "global" (:func:`determine_global`), "nearest" (:func:`determine_nearest`) or
            "above" (:func:`determine_above`).
        margin: 0 or more; read by "above".
        max_selected: 1 or more; read by "above".
        symmetric: determine (j, i) too wherever (i, j) is.

    Returns:
        The loss, at least float32 also under autocast, and the diagnostics of ``info_nce``,
        ``false_negative_share`` (of anchors with one or more), ``false_negative_similarity``
        (mean cosine, NaN if there is none) and, with ``labels``, ``false_negative_precision`` and
        ``false_negative_recall`` against "same class".

    Raises:
        InputError: an argument outside the ranges above.
    """
    check_settings(temperature, confidence, positive_threshold, select, margin, max_selected)
    contrast = batch_contrast(view1, view2, temperature, weight, labels)
    if select == "global":
        found = determine_global(contrast, positive_threshold, upper=True)
    else:
        found = _determine(contrast, positive_threshold, select, margin, max_selected)
    if symmetric:
        found = both_ways(found, len(contrast.positive))
    return _loss(contrast, found, confidence)


def queue_false_contrastive(
    query: Tensor,
    key: Tensor,
    queue: Tensor,
    *,
    weight: Tensor | None = None,
    labels: Tensor | None = None,
    queue_labels: Tensor | None = None,
    temperature: float = 0.07,
    confidence: float = 1.0,
    positive_threshold: float = 0.9,
    select: str = "nearest",
    margin: float = 0.0,
    max_selected: int = 8,
) -> LossOutput:
    """Queue form of :func:`false_contrastive`: false negatives are entries of the queue.

    Reconstruction: the paper has the batch form only. The formula is the same with the key as the
    positive and the queue as the negatives; "global" looks at all pairs of a query and an entry.

    Args:
        query: [N, D] embeddings of the encoder; normalised here, as all three are.
        key: [N, D] embeddings of the momentum encoder, in the same order; no gradient.
        queue: [K, D] keys of earlier steps; no gradient.
        weight: [N] as in :func:`rscontrast.losses.queue_info_nce`.
        labels: [N] class of each sample; read by the diagnostics only, as the next one.
        queue_labels: [K] class of each entry; both are needed.
        temperature: as in :func:`false_contrastive`, as all that follow.
        confidence: weight of a determined false negative.
        positive_threshold: smallest similarity of a query to its key.
        select: the rule.
        margin: of "above".
        max_selected: of "above".

    Returns:
        As :func:`false_contrastive`.

    Raises:
        InputError: an argument outside the ranges above.
    """
    check_settings(temperature, confidence, positive_threshold, select, margin, max_selected)
    contrast = queue_contrast(query, key, queue, temperature, weight, labels, queue_labels)
    found = _determine(contrast, positive_threshold, select, margin, max_selected)
    return _loss(contrast, found, confidence)


def log_calibrated_positive(
    positive: Tensor, entries: Tensor, found: Determined, confidence: float
) -> Tensor:
    """Positive signal of each anchor, log(s_i,positive + sum_j W_ij s_ij): [A].

    W is ``confidence`` where a false negative was determined, else 0. What remains of it,
    1 - W, stays in the negative signal, so that both add up to the sum over all j != i.

    Args:
        positive: [A] log s of the positives.
        entries: [E] log s of the pairs.
        found: the pairs.
        confidence: a, 0 to 1.
    """
    share = math.log(confidence) if confidence > 0 else -math.inf
    terms = torch.where(found.accepted, entries + share, -math.inf)
    highest = positive.detach().scatter_reduce(0, found.anchor, terms.detach(), "amax")
    signal = (positive - highest).exp()
    signal = signal.index_add(0, found.anchor, (terms - highest[found.anchor]).exp())
    return signal.log() + highest


def _determine(
    contrast: Contrast, positive_threshold: float, select: str, margin: float, max_selected: int
) -> Determined:
    if select == "global":
        return determine_global(contrast, positive_threshold)
    if select == "nearest":
        return determine_nearest(contrast, positive_threshold)
    return determine_above(contrast, positive_threshold, margin=margin, max_selected=max_selected)


def _loss(contrast: Contrast, found: Determined, confidence: float) -> LossOutput:
    negative, entries = log_sum_and_entries(contrast.negatives, places(found, contrast))
    total = torch.logaddexp(contrast.positive, negative)
    signal = log_calibrated_positive(contrast.positive, entries, found, confidence)
    return LossOutput(contrast.mean(total - signal), describe(contrast, found))


class FALSELoss(BatchLoss):
    """Holds the arguments of :func:`false_contrastive`."""

    function = staticmethod(false_contrastive)

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
        check_settings(temperature, confidence, positive_threshold, select, margin, max_selected)
        super().__init__(
            temperature=temperature,
            confidence=confidence,
            positive_threshold=positive_threshold,
            select=select,
            margin=margin,
            max_selected=max_selected,
            symmetric=symmetric,
        )


class QueueFALSELoss(QueueLoss):
    """Holds the arguments of :func:`queue_false_contrastive`."""

    function = staticmethod(queue_false_contrastive)

    def __init__(
        self,
        temperature: float = 0.07,
        confidence: float = 1.0,
        positive_threshold: float = 0.9,
        select: str = "nearest",
        margin: float = 0.0,
        max_selected: int = 8,
    ) -> None:
        """Check and keep the arguments.

        Raises:
            InputError: see :func:`queue_false_contrastive`.
        """
        check_settings(temperature, confidence, positive_threshold, select, margin, max_selected)
        super().__init__(
            temperature=temperature,
            confidence=confidence,
            positive_threshold=positive_threshold,
            select=select,
            margin=margin,
            max_selected=max_selected,
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
    whole("max_selected", max_selected)
