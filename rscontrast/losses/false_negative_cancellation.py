"""False-negative cancellation: what is like either view of a sample is attracted, or left out.

Source: Huynh et al. 2020, "Boosting Contrastive Self-Supervised Learning with False Negative
Cancellation", arXiv 2011.11765, without further support views. Two losses: attraction, in the form
of the released code, and elimination, of which the paper has the formula.
"""

import math

import torch
from torch import Tensor

from rscontrast.errors import InputError, whole
from rscontrast.losses.contrast import (
    Contrast,
    batch_contrast,
    check_temperature,
    log_sum,
    log_sum_and_entries,
    queue_contrast,
)
from rscontrast.losses.determination import Determined, describe, pairs, places
from rscontrast.losses.module import BatchLoss, QueueLoss
from rscontrast.losses.output import LossOutput


def false_negative_attraction(
    view1: Tensor,
    view2: Tensor,
    *,
    weight: Tensor | None = None,
    labels: Tensor | None = None,
    temperature: float = 0.5,
    threshold: float = 0.7,
    max_selected: int = 8,
) -> LossOutput:
    r"""NT-Xent in which an anchor's false negatives are positives beside its partner.

    .. math:: L = \frac{1}{2N} \sum_i \Big[ \log \sum_{j \neq i} s_{ij}
              - \frac{1}{1 + |F_i|} \sum_{j \in F_i \cup partner(i)} \cos_{ij} / t \Big]

    F_i is the same for both views of a sample: the ``max_selected`` embeddings with the highest
    cosine to either view, of those above ``threshold``.

    Args:
        view1: [N, D] embeddings of the first views, N >= 2; normalised here.
        view2: [N, D] embeddings of the second views, in the same order.
        weight: [N] as in :func:`rscontrast.losses.info_nce`.
        labels: [N] class of each sample; read by the diagnostics only, never by the loss.
        temperature: t, a finite number above 0.
        threshold: cosine above which a negative is a false one; 1 or more (NT-Xent): none is.
        max_selected: most false negatives of one sample, 1 or more.

    Returns:
        As :func:`rscontrast.losses.false_contrastive`.

    Raises:
        InputError: an argument outside the ranges above.
    """
    check_settings(temperature, threshold, max_selected)
    contrast = batch_contrast(view1, view2, temperature, weight, labels)
    return _attract(contrast, _batch_determined(contrast, threshold, max_selected))


def false_negative_elimination(
    view1: Tensor,
    view2: Tensor,
    *,
    weight: Tensor | None = None,
    labels: Tensor | None = None,
    temperature: float = 0.5,
    threshold: float = 0.7,
    max_selected: int = 8,
) -> LossOutput:
    r"""NT-Xent in which an anchor's false negatives are left out.

    .. math:: L = \frac{1}{2N} \sum_i \Big[ \log \sum_{j \notin F_i \cup i} s_{ij}
              - \cos_{i,partner(i)} / t \Big]

    Args:
        view1: as in :func:`false_negative_attraction`, as are all that follow.
        view2: embeddings of the second views.
        weight: of each sample.
        labels: class of each sample.
        temperature: t.
        threshold: cosine above which a negative is a false one.
        max_selected: most false negatives of one sample.

    Returns:
        As :func:`rscontrast.losses.false_contrastive`.

    Raises:
        InputError: an argument outside the ranges above.
    """
    check_settings(temperature, threshold, max_selected)
    contrast = batch_contrast(view1, view2, temperature, weight, labels)
    return _eliminate(contrast, _batch_determined(contrast, threshold, max_selected))


def queue_false_negative_attraction(
    query: Tensor,
    key: Tensor,
    queue: Tensor,
    *,
    weight: Tensor | None = None,
    labels: Tensor | None = None,
    queue_labels: Tensor | None = None,
    temperature: float = 0.07,
    threshold: float = 0.7,
    max_selected: int = 8,
) -> LossOutput:
    """Queue form of :func:`false_negative_attraction`: F_i are entries like the query or the key.

    Reconstruction: the released code has a memory too, but compares it to embeddings of the
    momentum encoder only.

    Args:
        query: [N, D] embeddings of the encoder; normalised here, as all three are.
        key: [N, D] embeddings of the momentum encoder, in the same order; no gradient.
        queue: [K, D] keys of earlier steps; no gradient.
        weight: [N] as in :func:`rscontrast.losses.queue_info_nce`.
        labels: [N] class of each sample; read by the diagnostics only, as the next one.
        queue_labels: [K] class of each entry; both are needed.
        temperature: as in :func:`false_negative_attraction`, as are the last two.
        threshold: cosine above which an entry is a false negative.
        max_selected: most false negatives of one query.

    Returns:
        As :func:`rscontrast.losses.false_contrastive`.

    Raises:
        InputError: an argument outside the ranges above.
    """
    check_settings(temperature, threshold, max_selected)
    contrast = queue_contrast(query, key, queue, temperature, weight, labels, queue_labels)
    return _attract(contrast, _queue_determined(contrast, key, queue, threshold, max_selected))


def queue_false_negative_elimination(
    query: Tensor,
    key: Tensor,
    queue: Tensor,
    *,
    weight: Tensor | None = None,
    labels: Tensor | None = None,
    queue_labels: Tensor | None = None,
    temperature: float = 0.07,
    threshold: float = 0.7,
    max_selected: int = 8,
) -> LossOutput:
    """Queue form of :func:`false_negative_elimination`; a reconstruction as the other one is.

    Args:
        query: as in :func:`queue_false_negative_attraction`, as are all that follow.
        key: embeddings of the momentum encoder.
        queue: keys of earlier steps.
        weight: of each sample.
        labels: class of each sample.
        queue_labels: class of each entry.
        temperature: t.
        threshold: cosine above which an entry is a false negative.
        max_selected: most false negatives of one query.

    Returns:
        As :func:`rscontrast.losses.false_contrastive`.

    Raises:
        InputError: an argument outside the ranges above.
    """
    check_settings(temperature, threshold, max_selected)
    contrast = queue_contrast(query, key, queue, temperature, weight, labels, queue_labels)
    return _eliminate(contrast, _queue_determined(contrast, key, queue, threshold, max_selected))


@torch.no_grad()
def _batch_determined(contrast: Contrast, threshold: float, max_selected: int) -> Determined:
    # Both rows leave out both views, so that none of the sample's own is found.
    scores = torch.maximum(*contrast.negatives.chunk(2))
    columns, accepted = _most_similar(scores, contrast.temperature, threshold, max_selected)
    return pairs(columns.repeat(2, 1), accepted.repeat(2, 1))


@torch.no_grad()
def _queue_determined(
    contrast: Contrast, key: Tensor, queue: Tensor, threshold: float, max_selected: int
) -> Determined:
    weight, temperature = contrast.weight, contrast.temperature
    other = queue_contrast(key, key, queue, temperature, weight).negatives
    scores = torch.maximum(contrast.negatives, other)
    return pairs(*_most_similar(scores, temperature, threshold, max_selected))


def _most_similar(
    scores: Tensor, temperature: float, threshold: float, max_selected: int
) -> tuple[Tensor, Tensor]:
    values, columns = scores.topk(min(max_selected, scores.shape[1]), dim=1)
    # Of identical embeddings the cosine may be above 1, by a rounding.
    limit = threshold / temperature if threshold < 1 else math.inf
    return columns, values > limit


def _attract(contrast: Contrast, found: Determined) -> LossOutput:
    negative, entries = log_sum_and_entries(contrast.negatives, places(found, contrast))
    total = torch.logaddexp(contrast.positive, negative)
    attracted = contrast.positive.index_add(
        0, found.anchor, entries.masked_fill(~found.accepted, 0.0)
    )
    number = torch.ones_like(total).index_add_(0, found.anchor, found.accepted.to(total.dtype))
    return LossOutput(contrast.mean(total - attracted / number), describe(contrast, found))


def _eliminate(contrast: Contrast, found: Determined) -> LossOutput:
    diagnostics = describe(contrast, found)
    with torch.no_grad():  # in place: the gradient of what is left out is 0 already
        entries = contrast.negatives[found.anchor, found.negative]
        left = entries.masked_fill_(found.accepted, -math.inf)
        contrast.negatives.index_put_((found.anchor, found.negative), left)
    total = torch.logaddexp(contrast.positive, log_sum(contrast.negatives))
    return LossOutput(contrast.mean(total - contrast.positive), diagnostics)


class FalseNegativeAttraction(BatchLoss):
    """Holds the arguments of :func:`false_negative_attraction`."""

    function = staticmethod(false_negative_attraction)

    def __init__(
        self, temperature: float = 0.5, threshold: float = 0.7, max_selected: int = 8
    ) -> None:
        """Check and keep the arguments.

        Raises:
            InputError: see :func:`false_negative_attraction`.
        """
        super().__init__(**check_settings(temperature, threshold, max_selected))


class FalseNegativeElimination(BatchLoss):
    """Holds the arguments of :func:`false_negative_elimination`."""

    function = staticmethod(false_negative_elimination)

    def __init__(
        self, temperature: float = 0.5, threshold: float = 0.7, max_selected: int = 8
    ) -> None:
        """Check and keep the arguments.

        Raises:
            InputError: see :func:`false_negative_elimination`.
        """
        super().__init__(**check_settings(temperature, threshold, max_selected))


class QueueFalseNegativeAttraction(QueueLoss):
    """Holds the arguments of :func:`queue_false_negative_attraction`."""

    function = staticmethod(queue_false_negative_attraction)

    def __init__(
        self, temperature: float = 0.07, threshold: float = 0.7, max_selected: int = 8
    ) -> None:
        """Check and keep the arguments.

        Raises:
            InputError: see :func:`queue_false_negative_attraction`.
        """
        super().__init__(**check_settings(temperature, threshold, max_selected))


class QueueFalseNegativeElimination(QueueLoss):
    """Holds the arguments of :func:`queue_false_negative_elimination`."""

    function = staticmethod(queue_false_negative_elimination)

    def __init__(
        self, temperature: float = 0.07, threshold: float = 0.7, max_selected: int = 8
    ) -> None:
        """Check and keep the arguments.

        Raises:
            InputError: see :func:`queue_false_negative_elimination`.
        """
        super().__init__(**check_settings(temperature, threshold, max_selected))


def check_settings(temperature: float, threshold: float, max_selected: int) -> dict[str, float]:
    """Return the arguments by name if they are in the ranges of the functions above.

    Raises:
        InputError: names the first one that is not.
    """
    check_temperature(temperature)
    if not math.isfinite(threshold):
        raise InputError("threshold", threshold, "a finite number")
    whole("max_selected", max_selected)
    return {"temperature": temperature, "threshold": threshold, "max_selected": max_selected}
