"""How good embeddings are, with and without labels: pure functions of torch tensors.

All of them reckon in float32 or finer, also under autocast, without gradient, and draw nothing.
"""

import math
from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor

from rscontrast.errors import InputError, positive, whole

NEIGHBOURS, TEMPERATURE = 20, 0.07
"""Of the k-nearest-neighbour vote, as in arXiv 1805.01978 (temperature) and in DINO (k)."""
RIDGE = 1e-2
"""Of the linear probe, relative to features of variance 1."""
BLOCK = 1024
"""Embeddings whose similarities to all others are held at a time."""


def _exact[**P](metric: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Without gradient, and without the half precision that autocast would multiply in."""

    @wraps(metric)
    def measured(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        device = next(arg.device.type for arg in args if isinstance(arg, Tensor))
        with torch.no_grad(), torch.autocast(device, enabled=False):
            return metric(*args, **kwargs)

    return measured


@_exact
def embedding_std(embeddings: Tensor) -> Tensor:
    r"""Spread of the directions: 0 where all embeddings are one, 1 where they fill the sphere.

    .. math:: \sqrt{D} \cdot \frac{1}{D} \sum_d \mathrm{std}_n \, \frac{z_{nd}}{\|z_n\|}

    Source: SimSiam (arXiv 2011.10566, section 4.1), where the standard deviation of a dimension is
    compared to 1 / sqrt(D); here it is divided by that.

    Args:
        embeddings: [N, D].

    Returns:
        a scalar, 0 to 1 (population deviation, so that one embedding has none).

    Raises:
        InputError: another shape.
    """
    unit = _unit("embeddings", embeddings)
    std: Tensor = unit.std(0, correction=0)
    return std.mean() * math.sqrt(unit.shape[1])


@_exact
def effective_rank(embeddings: Tensor) -> Tensor:
    r"""How many directions are used: exp of the entropy of the singular values, 1 to min(N, D).

    .. math:: \exp \Big( -\sum_k p_k \log p_k \Big), \quad p_k = \sigma_k / \sum_j \sigma_j

    Source: RankMe (arXiv 2210.02885, eq. 1), on the embeddings as they are, neither centred nor
    normalised. The paper adds 1e-7 to each p_k against log 0; here 0 log 0 is 0.

    Args:
        embeddings: [N, D], finite; N well above D, or the rank is bounded by N.

    Returns:
        a scalar; 1 where all embeddings are 0.

    Raises:
        InputError: another shape, or an embedding that is not finite.
    """
    values: Tensor = torch.linalg.svdvals(_finite("embeddings", embeddings))
    total = values.sum()
    share = torch.where(total > 0, values / total, torch.zeros_like(values))
    return (-torch.xlogy(share, share)).sum().exp()


@_exact
def alignment(view1: Tensor, view2: Tensor, *, alpha: float = 2.0) -> Tensor:
    r"""Mean distance of the two views of a sample, to the power ``alpha``: 0 is perfect.

    .. math:: \frac{1}{N} \sum_n \| z_n - z'_n \|^\alpha

    Source: Wang & Isola (arXiv 2005.10242, eq. 3), of normalised embeddings.

    Args:
        view1: [N, D].
        view2: [N, D], in the same order.
        alpha: above 0.

    Returns:
        a scalar, 0 to 2 ** ``alpha``.

    Raises:
        InputError: shapes that differ, or ``alpha`` out of range.
    """
    positive("alpha", alpha)
    first, second = _unit("view1", view1), _unit("view2", view2)
    if first.shape != second.shape:
        raise InputError("view2", tuple(second.shape), f"the shape of view1, {tuple(first.shape)}")
    distance: Tensor = torch.linalg.vector_norm(first - second, dim=1)
    return distance.pow(alpha).mean()


@_exact
def uniformity(embeddings: Tensor, *, t: float = 2.0) -> Tensor:
    r"""How evenly embeddings fill the sphere: 0 where all are one, the lower the more evenly.

    .. math:: \log \frac{1}{N (N - 1)} \sum_{i \neq j} e^{-t \| z_i - z_j \|^2}

    Source: Wang & Isola (arXiv 2005.10242, eq. 4), of normalised embeddings.

    Args:
        embeddings: [N, D], N >= 2.
        t: above 0.

    Returns:
        a scalar, -4 t to 0.

    Raises:
        InputError: another shape, or ``t`` out of range.
    """
    positive("t", t)
    unit = _unit("embeddings", embeddings, least=2)
    count = len(unit)
    parts = []
    for start in range(0, count, BLOCK):
        # |a - b|^2 = 2 - 2 cos; the sum of squares loses digits where a and b are one.
        exponent = (2 * t * (unit[start : start + BLOCK] @ unit.T - 1)).clamp_(max=0)
        rows = torch.arange(len(exponent), device=unit.device)
        exponent[rows, start + rows] = -torch.inf
        parts.append(exponent.logsumexp(1))
    total: Tensor = torch.cat(parts).logsumexp(0)
    return total - math.log(count * (count - 1))


@_exact
def knn_predict(
    train: Tensor,
    labels: Tensor,
    test: Tensor,
    *,
    k: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
) -> Tensor:
    r"""Class of each embedding by the weighted vote of its nearest neighbours.

    .. math:: \arg\max_c \sum_{i \in \mathrm{kNN}, y_i = c} e^{\cos_i / t}

    Source: Wu et al. (arXiv 1805.01978, section 3.4).

    Args:
        train: [M, D] embeddings with labels.
        labels: [M] classes, 0 or more.
        test: [N, D] embeddings to classify.
        k: neighbours, 1 or more; at most M count.
        temperature: above 0.

    Returns:
        [N] classes.

    Raises:
        InputError: shapes that do not fit, an embedding that is not finite, or a number out of
            range.
    """
    whole("k", k)
    positive("temperature", temperature)
    known, asked = _unit("train", _finite("train", train)), _unit("test", _finite("test", test))
    classes = _classes(known, labels, asked)
    found = []
    for start in range(0, len(asked), BLOCK):
        block = asked[start : start + BLOCK]
        cosine, nearest = (block @ known.T).topk(min(k, len(known)), dim=1)
        # The largest weight is 1: at a small temperature e^(cos / t) leaves float32.
        weight = ((cosine - cosine[:, :1]) / temperature).exp()
        votes = weight.new_zeros(len(block), classes)
        found.append(votes.scatter_add_(1, labels[nearest], weight).argmax(1))
    return torch.cat(found)


@_exact
def probe_predict(train: Tensor, labels: Tensor, test: Tensor, *, ridge: float = RIDGE) -> Tensor:
    r"""Class of each embedding by a linear probe in closed form: ridge regression on one-hot.

    .. math:: W = (X^\top X / M + \lambda I)^{-1} X^\top Y / M

    X: the labelled embeddings, each dimension with mean 0 and variance 1; Y: their classes,
    centred one-hot. Reckoned in float64: the same result each time, without a learning rate. A
    stand-in for the logistic probe of the literature, a little below it.

    Args:
        train: [M, D] embeddings with labels.
        labels: [M] classes, 0 or more.
        test: [N, D] embeddings to classify.
        ridge: lambda, above 0.

    Returns:
        [N] classes.

    Raises:
        InputError: shapes that do not fit, an embedding that is not finite, or ``ridge`` out of
            range.
    """
    positive("ridge", ridge)
    known, asked = _finite("train", train).double(), _finite("test", test).double()
    classes = _classes(known, labels, asked)
    mean, std = known.mean(0), known.std(0, correction=0)
    std = torch.where(std > 0, std, torch.ones_like(std))
    features, targets = (known - mean) / std, torch.nn.functional.one_hot(labels, classes).double()
    share = targets.mean(0)
    gram = features.T @ features / len(features)
    gram.diagonal().add_(ridge)
    cross = features.T @ (targets - share) / len(features)
    weight = torch.cholesky_solve(cross, torch.linalg.cholesky(gram))
    return ((asked - mean) / std @ weight + share).argmax(1)


def accuracy(predicted: Tensor, labels: Tensor) -> Tensor:
    """Share of classes that are right.

    Args:
        predicted: [N].
        labels: [N].

    Returns:
        a scalar, 0 to 1; NaN of none.

    Raises:
        InputError: shapes that differ.
    """
    if predicted.shape != labels.shape:
        raise InputError("labels", tuple(labels.shape), f"{tuple(predicted.shape)}")
    return (predicted == labels).float().mean()


def _fine(name: str, embeddings: Tensor, *, least: int = 1) -> Tensor:
    """Embeddings [N, D] in float32 or finer."""
    shape = tuple(embeddings.shape)
    if len(shape) != 2 or shape[0] < least or shape[1] < 1:
        raise InputError(name, shape, f"a shape [N, D] with N >= {least} and D >= 1")
    return embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))


def _finite(name: str, embeddings: Tensor) -> Tensor:
    fine = _fine(name, embeddings)
    if not fine.isfinite().all():
        bad = int((~fine.isfinite()).any(1).sum())
        raise InputError(name, f"{bad} of {len(fine)} with NaN or infinity", "finite embeddings")
    return fine


def _unit(name: str, embeddings: Tensor, *, least: int = 1) -> Tensor:
    return torch.nn.functional.normalize(_fine(name, embeddings, least=least), dim=1)


def _classes(train: Tensor, labels: Tensor, test: Tensor) -> int:
    """Number of classes, once all fits together."""
    if labels.shape != train.shape[:1] or labels.dtype != torch.int64 or int(labels.min()) < 0:
        got = f"{labels.dtype} {tuple(labels.shape)}"
        raise InputError("labels", got, f"int64 [{len(train)}], classes of 0 or more")
    if test.shape[1] != train.shape[1]:
        raise InputError("test", tuple(test.shape), f"[N, {train.shape[1]}], as train")
    return int(labels.max()) + 1
