"""What the batch-contrastive losses share: the logits of anchors with what they are compared to.

A loss of this family reads, for each anchor, the logit of its positive and those of its negatives.
They come from two views of a batch (every other embedding is a negative) or from queries, keys and
a queue (every entry of the queue is); the loss itself is one formula for both.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rscontrast.errors import InputError


@dataclass(frozen=True)
class Contrast:
    """Anchors against their positives and negatives. A logit is a cosine over the temperature."""

    positive: Tensor
    """[A] logit of each anchor with its positive; 0 where the sample is removed."""
    negatives: Tensor
    """[A, M] logits; -inf where there is no negative: no row and no column of a removed sample."""
    temperature: float
    weight: Tensor | None
    """[A] weight of each anchor in the mean; None: all 1."""
    count: Tensor
    """Scalar: number of negatives of one anchor that is not removed."""
    labels: tuple[Tensor, Tensor] | None
    """Classes of the anchors [A] and of what they are compared to [M]."""

    def mean(self, losses: Tensor) -> Tensor:
        """Weighted mean over the anchors [A]; 0 with a zero gradient where all weights are 0."""
        if self.weight is None:
            return losses.mean()
        total = self.weight.sum()
        return (losses * self.weight).sum() / total.masked_fill(total == 0, 1)

    @torch.no_grad()
    def average(self, values: Tensor) -> Tensor:
        """As :meth:`mean`, for what is logged: NaN where all weights are 0."""
        if self.weight is None:
            return values.mean()
        return (values * self.weight).sum() / self.weight.sum()

    @cached_property
    def same_class(self) -> Tensor | None:
        """Boolean [A, M]: negatives of the anchor's class; None without labels."""
        if self.labels is None:
            return None
        anchors, others = self.labels
        return (anchors.unsqueeze(1) == others) & (self.negatives > -math.inf)

    @torch.no_grad()
    def diagnostics(self) -> dict[str, Tensor]:
        """What every loss logs: ``positive_similarity`` and, with labels, ``same_class_share``."""
        shown = {"positive_similarity": self.average(self.positive) * self.temperature}
        same = self.same_class
        if same is not None:
            shown["same_class_share"] = same.sum() / (self.negatives > -math.inf).sum()
        return shown


def batch_contrast(
    view1: Tensor,
    view2: Tensor,
    temperature: float,
    weight: Tensor | None = None,
    labels: Tensor | None = None,
) -> Contrast:
    """Each of 2N embeddings, [view 1 of all, view 2 of all], against all others of the batch.

    The partner of i is (i + N) mod 2N: its positive. A = M = 2N. One matrix, in float32 or finer
    also under autocast; the division is done on the embeddings, so that it exists once.

    Raises:
        InputError: a bad temperature; shapes other than [N >= 2, D >= 1] and [N]; a bad weight.
    """
    check_temperature(temperature)
    check_views(view1, view2)
    kept = check_samples(view1.shape[0], weight, labels)
    with torch.autocast(view1.device.type, enabled=False):
        z = torch.cat([_unit(view1, kept), _unit(view2, kept)])
        positive = (z * z.roll(len(view1), 0)).sum(1) / temperature
        negatives = (z / temperature) @ z.T
        # Their gradient is 0 already, since exp(-inf) is: autograd need not know.
        with torch.no_grad():
            negatives.fill_diagonal_(-math.inf).scatter_(1, _partner(negatives), -math.inf)
            if kept is not None:
                _remove(negatives, kept.repeat(2)).masked_fill_(~kept.repeat(2), -math.inf)
    present = len(view1) if kept is None else kept.sum()
    count = torch.as_tensor(2 * (present - 1), device=view1.device).clamp_min(0)
    classes = None if labels is None else (labels.repeat(2), labels.repeat(2))
    weight = None if weight is None else weight.to(positive.dtype).repeat(2)
    return Contrast(positive, negatives, temperature, weight, count, classes)


def queue_contrast(
    query: Tensor,
    key: Tensor,
    queue: Tensor,
    temperature: float,
    weight: Tensor | None = None,
    labels: Tensor | None = None,
    queue_labels: Tensor | None = None,
) -> Contrast:
    """Each query against its key, the positive, and the entries of the queue. A = N, M = K.

    Keys and queue carry no gradient. A removed sample must not enter the queue later on.

    Raises:
        InputError: a bad temperature; shapes other than [N, D], [N, D], [K, D], [N] and [K]; a
            bad weight.
    """
    check_temperature(temperature)
    check_queue(query, key, queue)
    kept = check_samples(query.shape[0], weight, labels)
    if queue_labels is not None and queue_labels.shape != queue.shape[:1]:
        raise InputError("queue_labels", tuple(queue_labels.shape), f"({len(queue)},), as queue")
    with torch.autocast(query.device.type, enabled=False):
        anchors, positives = _unit(query, kept), _unit(key.detach(), kept)
        others = _unit(queue.detach(), None).to(anchors.dtype)
        positive = (anchors * positives).sum(1) / temperature
        negatives = (anchors / temperature) @ others.T
        if kept is not None:
            with torch.no_grad():
                _remove(negatives, kept)
    classes = None if labels is None or queue_labels is None else (labels, queue_labels)
    weight = None if weight is None else weight.to(positive.dtype)
    count = torch.as_tensor(len(queue), device=query.device)
    return Contrast(positive, negatives, temperature, weight, count, classes)


def log_sum(negatives: Tensor) -> Tensor:
    """Logarithm of the sum of exp over each row: [A, M] -> [A].

    An empty row (all -inf) gives the lowest finite number and no gradient, where
    ``torch.logsumexp`` gives NaN. Its gradient takes one matrix of this size.
    """
    total: Tensor = log_sum_and_entries(negatives, None)[0]
    return total


def log_sum_and_entries(negatives: Tensor, where: Tensor | None) -> tuple[Tensor, Tensor]:
    """As :func:`log_sum`, and single entries beside it, with one gradient matrix for both.

    Args:
        negatives: [A, M] logits.
        where: [E] places in the flattened matrix; None: none.

    Returns:
        [A] sums and [E] entries.
    """
    if where is None:
        where = torch.empty(0, dtype=torch.long, device=negatives.device)
    sums, entries = _LogSum.apply(negatives, where)
    return sums, entries


class _LogSum(torch.autograd.Function):
    """Gathering entries the plain way would fill a second matrix with zeros and add it."""

    @staticmethod
    def forward(ctx: "_Saved", negatives: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
        lowest = torch.finfo(negatives.dtype).min
        highest = negatives.amax(1, keepdim=True).clamp_min_(lowest)
        sums = (negatives - highest).exp_().sum(1, keepdim=True)
        sums = sums.log_().add_(highest).clamp_min_(lowest)
        ctx.save_for_backward(negatives, sums, where)
        return sums.squeeze(1), negatives.flatten()[where]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: "_Saved", of_sums: Tensor, of_entries: Tensor) -> tuple[Tensor, None]:
        negatives, sums, where = ctx.saved_tensors
        gradient = (negatives - sums).exp_().mul_(of_sums.unsqueeze(1))
        gradient.view(-1).index_add_(0, where, of_entries)
        return gradient, None


class _Saved(torch.autograd.function.FunctionCtx):
    saved_tensors: tuple[Tensor, Tensor, Tensor]


def _unit(embeddings: Tensor, kept: Tensor | None) -> Tensor:
    """Embeddings of length 1; those removed are 0, so that no NaN in them counts."""
    z = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
    if kept is not None:
        z = z.masked_fill(~kept.unsqueeze(1), 0.0)
    return unit_length(z)


def unit_length(vectors: Tensor) -> Tensor:
    """Vectors along axis 1 at length 1; one of length 0 stays 0, with a gradient that is finite.

    ``torch.nn.functional.normalize`` divides its gradient by 1e-12.
    """
    length = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors / torch.where(length == 0, 1, length)


def _remove(negatives: Tensor, kept: Tensor) -> Tensor:
    return negatives.masked_fill_(~kept.unsqueeze(1), -math.inf)


def _partner(matrix: Tensor) -> Tensor:
    count = matrix.shape[0]
    return torch.arange(count, device=matrix.device).roll(count // 2).unsqueeze(1)


def check_temperature(temperature: float) -> float:
    """Return ``temperature`` if it is finite and above 0.

    Raises:
        InputError: it is not (NaN included).
    """
    if not 0 < temperature < math.inf:
        raise InputError("temperature", temperature, "a finite number above 0")
    return temperature


def check_views(view1: Tensor, view2: Tensor) -> None:
    """Refuse embeddings that are not two equal shapes [N, D].

    Raises:
        InputError: names the view and both shapes.
    """
    shape = tuple(view1.shape)
    if len(shape) != 2 or shape[0] < 2 or shape[1] < 1:
        allowed = "a shape [N, D] with N >= 2 (a negative needs a second sample) and D >= 1"
        raise InputError("view1", shape, allowed)
    if tuple(view2.shape) != shape:
        raise InputError("view2", tuple(view2.shape), f"the shape of view1, {shape}")


def check_queue(query: Tensor, key: Tensor, queue: Tensor) -> None:
    """Refuse embeddings that are not [N, D], [N, D] and [K, D].

    Raises:
        InputError: names the one and the shapes.
    """
    shape = tuple(query.shape)
    if len(shape) != 2 or min(shape) < 1:
        raise InputError("query", shape, "a shape [N, D] with N >= 1 and D >= 1")
    if tuple(key.shape) != shape:
        raise InputError("key", tuple(key.shape), f"the shape of query, {shape}")
    if queue.ndim != 2 or queue.shape[0] < 1 or queue.shape[1] != shape[1]:
        raise InputError("queue", tuple(queue.shape), f"a shape [K, {shape[1]}] with K >= 1")


def check_samples(count: int, weight: Tensor | None, labels: Tensor | None) -> Tensor | None:
    """Return which samples are kept, [N] boolean; None without a weight.

    Raises:
        InputError: weights or labels that are not [N]; a weight below 0, NaN or infinite.
    """
    for name, values in (("weight", weight), ("labels", labels)):
        if values is not None and tuple(values.shape) != (count,):
            raise InputError(name, tuple(values.shape), f"one a sample, ({count},)")
    if weight is None:
        return None
    if not ((weight >= 0) & (weight < math.inf)).all():
        raise InputError("weight", [weight.min().item(), weight.max().item()], "0 or more, finite")
    return weight > 0
