"""GloFND: each sample learns the similarity above which a negative is a false one.

Source: Balmaseda et al. 2025, "Discovering Global False Negatives On the Fly for Self-supervised
Contrastive Learning", arXiv 2502.20612. The released code takes Adam's step for the thresholds and
begins after some epochs; ours is the plain step, from the first one.
"""

import math

import torch
from torch import Tensor

from rscontrast.errors import InputError, positive, whole
from rscontrast.losses.contrast import (
    Contrast,
    batch_contrast,
    check_temperature,
    log_sum,
    queue_contrast,
)
from rscontrast.losses.determination import summary
from rscontrast.losses.module import Held
from rscontrast.losses.output import LossOutput


def glofnd(
    view1: Tensor,
    view2: Tensor,
    thresholds: Tensor,
    *,
    weight: Tensor | None = None,
    labels: Tensor | None = None,
    temperature: float = 0.5,
) -> LossOutput:
    r"""NT-Xent without the negatives above a sample's threshold, rescaled to their number.

    .. math:: L = -\frac{1}{2N} \sum_i \log \frac{s_{i,partner(i)}}{s_{i,partner(i)}
              + \frac{n}{|K_i|} \sum_{j \in K_i} s_{ij}}, \quad
              K_i = \{ j : \cos_{ij} \le \lambda_i \}, \quad n = 2N - 2

    Args:
        view1: [N, D] embeddings of the first views, N >= 2; normalised here.
        view2: [N, D] embeddings of the second views, in the same order.
        thresholds: [N] lambda of each sample, of both its views; 1 or more leaves out none. No
            gradient.
        weight: [N] as in :func:`rscontrast.losses.info_nce`; n counts what is not removed.
        labels: [N] class of each sample; read by the diagnostics only, never by the loss.
        temperature: a finite number above 0.

    Returns:
        As :func:`rscontrast.losses.false_contrastive`, and ``threshold``, the mean of lambda. An
        anchor that keeps no negative adds 0 (the released code divides by 0).

    Raises:
        InputError: an argument outside the ranges above.
    """
    contrast = batch_contrast(view1, view2, temperature, weight, labels)
    return _loss(contrast, _checked(thresholds, view1).repeat(2))


def queue_glofnd(
    query: Tensor,
    key: Tensor,
    queue: Tensor,
    thresholds: Tensor,
    *,
    weight: Tensor | None = None,
    labels: Tensor | None = None,
    queue_labels: Tensor | None = None,
    temperature: float = 0.07,
) -> LossOutput:
    """Queue form of :func:`glofnd`: entries above a query's threshold are left out, n = K.

    Reconstruction: the released code has the batch form only.

    Args:
        query: [N, D] embeddings of the encoder; normalised here, as all three are.
        key: [N, D] embeddings of the momentum encoder, in the same order; no gradient.
        queue: [K, D] keys of earlier steps; no gradient.
        thresholds: [N] lambda of each sample.
        weight: [N] as in :func:`rscontrast.losses.queue_info_nce`.
        labels: [N] class of each sample; read by the diagnostics only, as the next one.
        queue_labels: [K] class of each entry; both are needed.
        temperature: a finite number above 0.

    Returns:
        As :func:`glofnd`.

    Raises:
        InputError: an argument outside the ranges above.
    """
    contrast = queue_contrast(query, key, queue, temperature, weight, labels, queue_labels)
    return _loss(contrast, _checked(thresholds, query))


@torch.no_grad()
def step_thresholds(
    contrast: Contrast, thresholds: Tensor, false_share: float, rate: float
) -> Tensor:
    """Move each threshold towards the quantile above which ``false_share`` of negatives lie.

    lambda <- clip(lambda - rate (false_share - mean_j 1[cos_ij > lambda]), -1, 1), the mean over
    the negatives of both views. That of a removed sample stays.

    Args:
        contrast: of the batch, or of queries.
        thresholds: [N].
        false_share: alpha, the share of negatives that are taken for false ones.
        rate: size of a step.

    Returns:
        [N] new thresholds.
    """
    views = len(contrast.positive) // len(thresholds)
    above = _above(contrast, thresholds.repeat(views)).sum(1).view(views, -1)
    found = above.sum(0) / (views * contrast.count.clamp_min(1))
    moved = (thresholds - rate * (false_share - found)).clamp(-1, 1)
    if contrast.weight is None:
        return moved
    return torch.where(contrast.weight[: len(thresholds)] > 0, moved, thresholds)


def _above(contrast: Contrast, thresholds: Tensor) -> Tensor:
    # Of identical embeddings the cosine may be above 1, by a rounding.
    limit = (thresholds / contrast.temperature).masked_fill(thresholds >= 1, math.inf)
    return contrast.negatives > limit.unsqueeze(1)


def _loss(contrast: Contrast, thresholds: Tensor) -> LossOutput:
    with torch.no_grad():
        above = _above(contrast, thresholds)
        each = above.sum(1).to(contrast.positive.dtype)
        diagnostics = _describe(contrast, above, each)
        diagnostics["threshold"] = contrast.average(thresholds)
        # In place: the gradient of what is left out is 0 already.
        contrast.negatives.masked_fill_(above, -math.inf)
        kept = contrast.count - each
        # A removed anchor counts its negatives too; it has no weight.
        scale = (contrast.count / kept.clamp_min(1)).clamp_min(1).log()
    total = torch.logaddexp(contrast.positive, log_sum(contrast.negatives) + scale)
    return LossOutput(contrast.mean(total - contrast.positive), diagnostics)


def _describe(contrast: Contrast, above: Tensor, each: Tensor) -> dict[str, Tensor]:
    similarity = torch.where(above, contrast.negatives, 0.0).sum() * contrast.temperature
    same = contrast.same_class
    return summary(contrast, each, similarity, None if same is None else (same & above).sum())


def _checked(thresholds: Tensor, samples: Tensor) -> Tensor:
    if thresholds.shape != samples.shape[:1]:
        raise InputError("thresholds", tuple(thresholds.shape), f"({len(samples)},), one a sample")
    return thresholds.detach()


class _Thresholds(Held):
    """Holds the thresholds of all samples; they are a buffer, so that a checkpoint keeps them."""

    needs_index = True
    thresholds: Tensor

    def __init__(self, size: int, temperature: float, false_share: float, rate: float) -> None:
        check_temperature(temperature)
        if not 0 <= false_share <= 1:
            raise InputError("false_share", false_share, "a number from 0 to 1")
        whole("size", size)
        positive("rate", rate)
        super().__init__(size=size, temperature=temperature, false_share=false_share, rate=rate)
        self.register_buffer("thresholds", torch.ones(size))

    def step(self, contrast: Contrast, index: Tensor, count: int) -> Tensor:
        """Thresholds of the batch, [N]: in training moved first, and kept; else 1, NT-Xent."""
        if not self.training:
            return self.thresholds.new_ones(count)
        self._check_index(index, count)
        settings = {name: self.settings[name] for name in ("false_share", "rate")}
        moved = step_thresholds(contrast, self.thresholds[index], **settings)
        moved = moved.to(self.thresholds.dtype)
        # A sample may come twice: as query of either date.
        self.thresholds.scatter_reduce_(0, index, moved, "mean", include_self=False)
        return self.thresholds[index]

    def _check_index(self, index: Tensor, count: int) -> None:
        if tuple(index.shape) != (count,) or index.dtype != torch.int64:
            got = f"{index.dtype} {tuple(index.shape)}"
            raise InputError("index", got, f"int64 ({count},), one a sample")
        first, last = int(index.min()), int(index.max())
        if first < 0 or last >= len(self.thresholds):
            allowed = f"0 to {len(self.thresholds) - 1}: size is the number of samples to train on"
            raise InputError("index", [first, last], allowed)


class GloFNDLoss(_Thresholds):
    """Holds the arguments of :func:`glofnd` and the thresholds, which it moves in training."""

    def __init__(
        self, size: int, temperature: float = 0.5, false_share: float = 0.01, rate: float = 1.0
    ) -> None:
        """Check and keep the arguments; all thresholds start at 1, which is NT-Xent.

        Args:
            size: number of samples of the data set; of a cache, that of its pairs.
            temperature: see :func:`glofnd`.
            false_share: see :func:`step_thresholds`; as ``rate``.
            rate: above 0; its default is ours, and untuned.

        Raises:
            InputError: an argument out of range.
        """
        super().__init__(size, temperature, false_share, rate)

    def forward(
        self,
        view1: Tensor,
        view2: Tensor,
        *,
        index: Tensor,
        weight: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> LossOutput:
        """Move the thresholds of the samples at ``index`` [N]; then see :func:`glofnd`.

        Out of training no threshold is read: numbers of a validation are of other samples.

        Raises:
            InputError: also an index that is not int64 [N] below ``size``.
        """
        contrast = batch_contrast(view1, view2, self.settings["temperature"], weight, labels)
        return _loss(contrast, self.step(contrast, index, len(view1)).repeat(2))


class QueueGloFNDLoss(_Thresholds):
    """Holds the arguments of :func:`queue_glofnd` and the thresholds."""

    def __init__(
        self, size: int, temperature: float = 0.07, false_share: float = 0.01, rate: float = 1.0
    ) -> None:
        """Check and keep the arguments, as :class:`GloFNDLoss` does.

        Args:
            size: number of samples of the data set.
            temperature: see :func:`queue_glofnd`.
            false_share: see :func:`step_thresholds`; as ``rate``.
            rate: above 0.

        Raises:
            InputError: an argument out of range.
        """
        super().__init__(size, temperature, false_share, rate)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        queue: Tensor,
        *,
        index: Tensor,
        weight: Tensor | None = None,
        labels: Tensor | None = None,
        queue_labels: Tensor | None = None,
    ) -> LossOutput:
        """Move the thresholds of the samples at ``index`` [N]; then see :func:`queue_glofnd`.

        Out of training no threshold is read: numbers of a validation are of other samples.

        Raises:
            InputError: also an index that is not int64 [N] below ``size``.
        """
        temperature = self.settings["temperature"]
        contrast = queue_contrast(query, key, queue, temperature, weight, labels, queue_labels)
        return _loss(contrast, self.step(contrast, index, len(query)))
