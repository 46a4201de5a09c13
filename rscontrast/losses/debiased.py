"""Debiased contrastive learning: the share of false negatives is taken off as a whole.

Source: Chuang et al. 2020, "Debiased Contrastive Learning", arXiv 2007.00224, eq. 7 and 8 with one
positive, in the form of the released code.
"""

import math

import torch
from torch import Tensor

from rscontrast.errors import InputError
from rscontrast.losses.contrast import (
    Contrast,
    batch_contrast,
    check_temperature,
    log_sum,
    queue_contrast,
)
from rscontrast.losses.module import BatchLoss, QueueLoss
from rscontrast.losses.output import LossOutput


def debiased_contrastive(
    view1: Tensor,
    view2: Tensor,
    *,
    weight: Tensor | None = None,
    labels: Tensor | None = None,
    temperature: float = 0.5,
    class_share: float = 0.1,
) -> LossOutput:
    r"""NT-Xent whose negative signal is that of true negatives, as estimated.

    .. math:: L = -\frac{1}{2N} \sum_i \log \frac{s_{i,partner(i)}}{s_{i,partner(i)} + g_i}, \quad
              g_i = \max\Big( \frac{\sum_{neg} s_{ij} - c\, n\, s_{i,partner(i)}}{1 - c},
              n e^{-1/t} \Big), \quad n = 2N - 2

    Args:
        view1: [N, D] embeddings of the first views, N >= 2; normalised here.
        view2: [N, D] embeddings of the second views, in the same order.
        weight: [N] as in :func:`rscontrast.losses.info_nce`; n counts what is not removed.
        labels: [N] class of each sample; read by the diagnostics only, never by the loss.
        temperature: t, a finite number above 0.
        class_share: c, the probability that a negative is of the anchor's class (tau plus in the
            paper), 0 (NT-Xent) to below 1. The diagnostic ``same_class_share`` measures it.

    Returns:
        As :func:`rscontrast.losses.info_nce`, and ``clamped_share`` of the anchors whose estimate
        was below its least value, n exp(-1/t).

    Raises:
        InputError: an argument outside the ranges above.
    """
    check_settings(temperature, class_share)
    return _loss(batch_contrast(view1, view2, temperature, weight, labels), class_share)


def queue_debiased_contrastive(
    query: Tensor,
    key: Tensor,
    queue: Tensor,
    *,
    weight: Tensor | None = None,
    labels: Tensor | None = None,
    queue_labels: Tensor | None = None,
    temperature: float = 0.07,
    class_share: float = 0.1,
) -> LossOutput:
    """Queue form of :func:`debiased_contrastive`: the key is the positive, and n = K.

    Reconstruction: the released code has the batch form only.

    Args:
        query: [N, D] embeddings of the encoder; normalised here, as all three are.
        key: [N, D] embeddings of the momentum encoder, in the same order; no gradient.
        queue: [K, D] keys of earlier steps; no gradient.
        weight: [N] as in :func:`rscontrast.losses.queue_info_nce`.
        labels: [N] class of each sample; read by the diagnostics only, as the next one.
        queue_labels: [K] class of each entry; both are needed.
        temperature: a finite number above 0.
        class_share: as in :func:`debiased_contrastive`.

    Returns:
        As :func:`debiased_contrastive`.

    Raises:
        InputError: an argument outside the ranges above.
    """
    check_settings(temperature, class_share)
    contrast = queue_contrast(query, key, queue, temperature, weight, labels, queue_labels)
    return _loss(contrast, class_share)


def log_true_negatives(contrast: Contrast, class_share: float) -> tuple[Tensor, Tensor]:
    """Estimate log g of each anchor, [A], and say where it was clamped, [A] boolean."""
    negative, positive = log_sum(contrast.negatives), contrast.positive
    count = contrast.count.to(negative.dtype)
    least = count.log() - 1 / contrast.temperature
    if class_share == 0:
        return negative, torch.zeros_like(negative, dtype=torch.bool)
    # log(S - c n s) = log S + log(1 - exp(log(c n s / S))): no exp of a large number.
    taken = (class_share * count).log() + positive - negative
    empty = taken >= 0
    kept = -torch.expm1(taken.masked_fill(empty, -1.0))
    estimate = negative + kept.log() - math.log1p(-class_share)
    clamped = empty | (estimate < least)
    return torch.where(clamped, least, estimate), clamped


def _loss(contrast: Contrast, class_share: float) -> LossOutput:
    negative, clamped = log_true_negatives(contrast, class_share)
    loss = torch.logaddexp(contrast.positive, negative) - contrast.positive
    share = contrast.average(clamped.to(loss.dtype))
    return LossOutput(contrast.mean(loss), contrast.diagnostics() | {"clamped_share": share})


class DebiasedLoss(BatchLoss):
    """Holds the arguments of :func:`debiased_contrastive`."""

    function = staticmethod(debiased_contrastive)

    def __init__(self, temperature: float = 0.5, class_share: float = 0.1) -> None:
        """Check and keep the arguments.

        Raises:
            InputError: see :func:`debiased_contrastive`.
        """
        check_settings(temperature, class_share)
        super().__init__(temperature=temperature, class_share=class_share)


class QueueDebiasedLoss(QueueLoss):
    """Holds the arguments of :func:`queue_debiased_contrastive`."""

    function = staticmethod(queue_debiased_contrastive)

    def __init__(self, temperature: float = 0.07, class_share: float = 0.1) -> None:
        """Check and keep the arguments.

        Raises:
            InputError: see :func:`queue_debiased_contrastive`.
        """
        check_settings(temperature, class_share)
        super().__init__(temperature=temperature, class_share=class_share)


def check_settings(temperature: float, class_share: float) -> None:
    """Refuse arguments outside the ranges of :func:`debiased_contrastive`.

    Raises:
        InputError: names the first one.
    """
    check_temperature(temperature)
    if not 0 <= class_share < 1:
        raise InputError("class_share", class_share, "a number from 0 to below 1")
