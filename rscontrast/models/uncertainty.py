"""How far a prediction can be trusted: by the symmetries of the image, and by other models."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rscontrast.errors import InputError

type Model = Callable[[Tensor], Tensor]
"""A pair [B, 2, C, H, W] to logits [B, K, H, W]."""


class Uncertainty(NamedTuple):
    """What several predictions of one pair say together; entropies are 0 to 1."""

    probabilities: Tensor
    """Their mean, [B, K, H, W]."""
    entropy: Tensor
    """Entropy of the mean [B, H, W]: all doubt there is. 1 where all classes are alike."""
    mutual_information: Tensor
    """Entropy of the mean less the mean of the entropies [B, H, W]: the part of the doubt that
    is of the models, which disagree; the rest is of the image."""


def softmax(logits: Tensor) -> Tensor:
    """Class probabilities [B, K, H, W] of logits, in float32 or finer."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(dim=1)


@torch.no_grad()
def augmented(model: Model, pair: Tensor, probabilities: Model = softmax) -> Uncertainty:
    """Predict a pair in its eight symmetries and turn the predictions back.

    Test-time augmentation. The mean does not depend on how the image is turned.

    Args:
        model: pair to logits; it must take H x W and W x H.
        pair: [B, 2, C, H, W].
        probabilities: logits to class probabilities.
    """
    turned = (
        turn(probabilities(model(turn(pair, k, flip))), -k, flip, back=True)
        for k in range(4)
        for flip in (False, True)
    )
    return combine(turned)


@torch.no_grad()
def ensemble(models: Sequence[Model], pair: Tensor, probabilities: Model = softmax) -> Uncertainty:
    """Predict a pair by several models, as trained from several seeds.

    Source: Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation using
    Deep Ensembles", 2017, arXiv 1612.01474.

    Args:
        models: one or more, each pair to logits of the same classes.
        pair: [B, 2, C, H, W].
        probabilities: logits to class probabilities.

    Raises:
        InputError: no model.
    """
    return combine(probabilities(model(pair)) for model in models)


def turn(image: Tensor, quarters: int, flip: bool, *, back: bool = False) -> Tensor:
    """Mirror the last axis, then turn by quarters; ``back``: turn first, to undo the other."""
    if flip and not back:
        image = image.flip(-1)
    image = image.rot90(quarters, (-2, -1))
    return image.flip(-1) if flip and back else image


def combine(members: Iterable[Tensor]) -> Uncertainty:
    """Mean, entropy and mutual information of predictions, held one at a time.

    H[mean p] and H[mean p] - mean H[p], both by log K. Source: Gal, "Uncertainty in Deep
    Learning", 2016, section 3.3.1.

    Args:
        members: class probabilities [B, K, H, W] each.

    Raises:
        InputError: there is none, or fewer than two classes.
    """
    total, doubt, count = _sums(iter(members))
    mean = total / count
    scale = math.log(mean.shape[1])
    whole = entropy(mean)
    # Rounding may bring the mean of equal entropies over the entropy of their mean.
    between = (whole - doubt / count).clamp(min=0)
    return Uncertainty(mean, whole / scale, between / scale)


def _sums(members: Iterator[Tensor]) -> tuple[Tensor, Tensor, int]:
    first = next(members, None)
    if first is None:
        raise InputError("members", "none", "1 prediction or more")
    if first.shape[1] < 2:
        raise InputError("members", tuple(first.shape), "[B, K, H, W] with 2 classes or more")
    total, doubt, count = first, entropy(first), 1
    for member in members:
        total, doubt, count = total + member, doubt + entropy(member), count + 1
    return total, doubt, count


def entropy(probabilities: Tensor) -> Tensor:
    """-sum_k p_k log p_k [B, H, W] of [B, K, H, W], in nats; 0 log 0 is 0."""
    summed: Tensor = torch.special.entr(probabilities).sum(dim=1)
    return summed
