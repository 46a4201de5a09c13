"""FALSE: negatives that look like the positive are determined false and calibrated.

Source: "FALSE: False Negative Samples Aware Contrastive Learning for Semantic Segmentation of
High-Resolution Remote Sensing Image", arXiv 2211.07928: coarse self-determination (FNSD, the
``determine_*`` functions) and confidence calibration (FNCC, the loss).
"""

import math

import torch
from torch import Tensor, nn

from rscontrast.errors import InputError, choose
from rscontrast.losses.determination import (
    determine_above,
    determine_global,
    determine_nearest,
    is_negative,
)
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
        same_class = (classes.unsqueeze(1) == classes) & is_negative(cosine)
        hits = (determined & same_class).sum()
        diagnostics["false_negative_precision"] = hits / found
        diagnostics["false_negative_recall"] = hits / same_class.sum()
    return diagnostics
