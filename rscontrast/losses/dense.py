"""What the dense losses share: pairs of cells, of which some count, averaged over samples."""

import torch
from torch import Tensor

from rscontrast.errors import InputError
from rscontrast.losses.cells import check_valid, unit
from rscontrast.losses.contrast import check_samples

EPSILON = 1e-6
"""Added to the number of positive pairs of a sample, so that none makes 0 [PixPro's code]."""


def mask_positives(
    positives: Tensor,
    *,
    weight: Tensor | None = None,
    query_valid: Tensor | None = None,
    key_valid: Tensor | None = None,
) -> Tensor:
    """Positives without those of unusable cells and samples.

    Args:
        positives: [N, h * w, h' * w'] boolean, or numbers of 0 or more.
        weight: [N]; 0: the sample has none. None: all count.
        query_valid: [N, h, w] bool; None: all are.
        key_valid: [N, h', w'] bool; None: all are.

    Returns:
        a matrix of the same shape and dtype.

    Raises:
        InputError: a shape that does not fit, a bad weight, or what says usable is not boolean.
    """
    if positives.ndim != 3:
        raise InputError("positives", tuple(positives.shape), "a shape [N, h * w, h' * w']")
    check_samples(len(positives), weight, None)
    sides = ("query_valid", query_valid), ("key_valid", key_valid)
    for cells, (name, valid) in zip(positives.shape[1:], sides, strict=True):
        if valid is not None and valid.ndim != 3:
            raise InputError(name, tuple(valid.shape), "a shape [N, h, w]")
        flat = None if valid is None else valid.flatten(1)
        check_valid(name, flat, (len(positives), cells))
    return _masked(positives, weight, query_valid, key_valid)


def _masked(
    positives: Tensor, weight: Tensor | None, query_valid: Tensor | None, key_valid: Tensor | None
) -> Tensor:
    for keep in (
        None if weight is None else (weight > 0)[:, None, None],
        None if query_valid is None else query_valid.flatten(1).unsqueeze(2),
        None if key_valid is None else key_valid.flatten(1).unsqueeze(1),
    ):
        positives = positives if keep is None else positives.masked_fill(~keep, 0)
    return positives


def prepare(
    query: Tensor,
    key: Tensor,
    positives: Tensor,
    weight: Tensor | None,
    query_valid: Tensor | None,
    key_valid: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Check a dense loss's arguments and take out all that does not count.

    Returns:
        query [N, D, I] and key [N, D, J] of unit length, the key without gradient, 0 where they
        do not count; positives [N, I, J] of their dtype, without gradient.

    Raises:
        InputError: what :func:`check_cells` refuses.
    """
    check_cells(query, key, positives, weight, query_valid, key_valid)
    positives = _masked(positives.detach(), weight, query_valid, key_valid)
    counted = None if weight is None else (weight > 0)[:, None, None]
    unit_query = unit(query, _both(counted, query_valid))
    unit_key = unit(key.detach(), _both(counted, key_valid)).to(unit_query.dtype)
    return unit_query, unit_key, positives.to(unit_query.dtype)


def pair_mean(values: Tensor, positives: Tensor) -> Tensor:
    """Mean over the positive pairs of each sample, 0 where it has none: [N, I, J] -> [N]."""
    return (positives * values).sum((1, 2)) / (positives.sum((1, 2)) + EPSILON)


def sample_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Mean of [N] over samples by their weight; 0 where all weights are."""
    weight = torch.ones_like(values) if weight is None else weight.detach().to(values.dtype)
    total = weight.sum()
    return (weight * values).sum() / torch.where(total > 0, total, 1)


@torch.no_grad()
def counted_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """For the log: mean of [N] over the samples that have a weight; NaN where none has."""
    if weight is None:
        return values.mean()
    counted = (weight > 0).to(values.dtype)
    return (counted * values).sum() / counted.sum()


@torch.no_grad()
def pair_diagnostics(cosine: Tensor, positives: Tensor, weight: Tensor | None) -> dict[str, Tensor]:
    """What every dense loss logs.

    Returns:
        ``positive_similarity``, the mean cosine of positive pairs (NaN if there is none),
        ``positives_per_cell`` of the query, and ``overlap_share`` of the samples that count:
        those with a positive pair. All are NaN where no sample counts.
    """
    count = positives.sum((1, 2))
    similarity = (positives * cosine).sum() / count.sum()
    return {
        "positive_similarity": similarity,
        "positives_per_cell": counted_mean(count / positives.shape[1], weight),
        "overlap_share": counted_mean((count > 0).to(cosine.dtype), weight),
    }


def identity_positives(cells: Tensor) -> Tensor:
    """Positives of maps of one geometry: each cell with itself, [N, h * w, h * w] boolean.

    Args:
        cells: [N, D, h, w].
    """
    count = cells.shape[-2] * cells.shape[-1]
    same = torch.eye(count, dtype=torch.bool, device=cells.device)
    return same.expand(len(cells), -1, -1)


def check_cells(
    query: Tensor,
    key: Tensor,
    positives: Tensor,
    weight: Tensor | None,
    query_valid: Tensor | None,
    key_valid: Tensor | None,
) -> None:
    """Refuse shapes that do not fit, bad weights, and what says usable but is not boolean.

    Raises:
        InputError: names the argument, what it is and what fits.
    """
    if query.ndim != 4 or 0 in query.shape:
        raise InputError("query", tuple(query.shape), "a shape [N, D, h, w], nothing of it 0")
    samples, dim, h, w = query.shape
    if key.ndim != 4 or 0 in key.shape or key.shape[:2] != query.shape[:2]:
        raise InputError("key", tuple(key.shape), f"a shape [{samples}, {dim}, h, w]")
    wanted = (samples, h * w, key.shape[2] * key.shape[3])
    if tuple(positives.shape) != wanted:
        raise InputError("positives", tuple(positives.shape), f"a shape {wanted}")
    check_samples(samples, weight, None)
    check_valid("query_valid", query_valid, (samples, h, w))
    check_valid("key_valid", key_valid, (samples, *key.shape[2:]))


def _both(counted: Tensor | None, valid: Tensor | None) -> Tensor | None:
    if counted is None or valid is None:
        return valid if counted is None else counted
    return counted & valid
