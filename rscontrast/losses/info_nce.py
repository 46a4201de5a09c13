"""InfoNCE over a batch (NT-Xent, SimCLR) and over a queue (MoCo): no negative is a false one."""

import torch
from torch import Tensor

from rscontrast.losses.contrast import (
    Contrast,
    batch_contrast,
    check_temperature,
    log_sum,
    queue_contrast,
)
from rscontrast.losses.module import BatchLoss, QueueLoss
from rscontrast.losses.output import LossOutput


def info_nce(
    view1: Tensor,
    view2: Tensor,
    *,
    weight: Tensor | None = None,
    labels: Tensor | None = None,
    temperature: float = 0.5,
) -> LossOutput:
    r"""NT-Xent: contrast every embedding with its partner against all others of the batch.

    .. math:: L = \frac{1}{2N} \sum_i \Big[ \log \sum_{j \neq i} e^{\cos_{ij} / t}
              - \cos_{i,partner(i)} / t \Big]

    Source: Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual
    Representations", arXiv 2002.05709, eq. 1, averaged over all 2N anchors.

    Args:
        view1: [N, D] embeddings of the first views, N >= 2; normalised here.
        view2: [N, D] embeddings of the second views, in the same order.
        weight: [N] weight of each sample in the mean, 0 or more; 0 removes it: as anchor, as
            positive and as negative of the others. None: all 1.
        labels: [N] class of each sample; read by the diagnostics only, never by the loss.
        temperature: t, a finite number above 0.

    Returns:
        The loss, at least float32 also under autocast; ``positive_similarity``, the mean cosine of
        the partners, and with ``labels`` ``same_class_share``, that of the negatives which are of
        the anchor's class. If all weights are 0: a loss of 0, and NaN for the others.

    Raises:
        InputError: a bad temperature or weight; shapes that are not as above.
    """
    return _loss(batch_contrast(view1, view2, temperature, weight, labels))


def queue_info_nce(
    query: Tensor,
    key: Tensor,
    queue: Tensor,
    *,
    weight: Tensor | None = None,
    labels: Tensor | None = None,
    queue_labels: Tensor | None = None,
    temperature: float = 0.07,
) -> LossOutput:
    r"""Contrast every query with its key against all entries of a queue.

    .. math:: L = \frac{1}{N} \sum_i \Big[ \log \big( e^{\cos(q_i, k_i) / t}
              + \sum_j e^{\cos(q_i, u_j) / t} \big) - \cos(q_i, k_i) / t \Big]

    Source: He et al. 2019, "Momentum Contrast for Unsupervised Visual Representation Learning",
    arXiv 1911.05722, eq. 1 and its default temperature.

    Args:
        query: [N, D] embeddings of the encoder; normalised here, as all three are.
        key: [N, D] embeddings of the momentum encoder, in the same order; no gradient.
        queue: [K, D] keys of earlier steps; no gradient.
        weight: [N] as in :func:`info_nce`. A removed sample is no negative of the others here, but
            its key must not enter the queue.
        labels: [N] class of each sample; read by the diagnostics only, as the next one.
        queue_labels: [K] class of each entry; both are needed.
        temperature: t, a finite number above 0.

    Returns:
        As :func:`info_nce`.

    Raises:
        InputError: a bad temperature or weight; shapes that are not as above.
    """
    return _loss(queue_contrast(query, key, queue, temperature, weight, labels, queue_labels))


def _loss(contrast: Contrast) -> LossOutput:
    total = torch.logaddexp(contrast.positive, log_sum(contrast.negatives))
    return LossOutput(contrast.mean(total - contrast.positive), contrast.diagnostics())


class InfoNCE(BatchLoss):
    """Holds the arguments of :func:`info_nce`."""

    function = staticmethod(info_nce)

    def __init__(self, temperature: float = 0.5) -> None:
        """Check and keep the arguments.

        Raises:
            InputError: see :func:`info_nce`.
        """
        super().__init__(temperature=check_temperature(temperature))


class QueueInfoNCE(QueueLoss):
    """Holds the arguments of :func:`queue_info_nce`."""

    function = staticmethod(queue_info_nce)

    def __init__(self, temperature: float = 0.07) -> None:
        """Check and keep the arguments.

        Raises:
            InputError: see :func:`queue_info_nce`.
        """
        super().__init__(temperature=check_temperature(temperature))
