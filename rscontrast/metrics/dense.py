"""How far a cell's feature hangs on its surroundings, and on its place in the view."""

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, one_hot

from rscontrast.errors import InputError, positive


@torch.no_grad()
def coupling(alone: Tensor, surrounded: Tensor, valid: Tensor | None = None) -> Tensor:
    """How far features change with their surroundings: mean of 1 - cosine, 0 (not at all) to 2.

    Source: the idea of arXiv 2303.16947 (dense features are coupled); the measure is a
    reconstruction.

    Args:
        alone: [N, D, h, w] cells of regions by themselves.
        surrounded: [N, D, h, w] the same cells in new surroundings.
        valid: [N, h, w] bool: only these are measured; None: all.

    Returns:
        a scalar; NaN where nothing is valid.

    Raises:
        InputError: shapes that differ, or ``valid`` that is not boolean.
    """
    if alone.shape != surrounded.shape or alone.ndim != 4:
        raise InputError("surrounded", tuple(surrounded.shape), f"{tuple(alone.shape)}, 4 axes")
    if valid is not None and (valid.shape != alone[:, 0].shape or valid.dtype != torch.bool):
        got = f"{valid.dtype} {tuple(valid.shape)}"
        raise InputError("valid", got, f"bool {tuple(alone[:, 0].shape)}")
    change = 1 - cosine_similarity(_precise(alone), _precise(surrounded), dim=1)
    return change.mean() if valid is None else change[valid].mean()


@torch.no_grad()
def positional_leakage(train: Tensor, test: Tensor, *, ridge: float = 1e-3) -> Tensor:
    """How well a linear probe tells from a cell's feature where in the view the cell lies.

    The probe is a ridge regression on one column a place, solved exactly: no rate, no steps, no
    seed. Source: the idea of arXiv 2303.16947 (dense features are positional); the measure is a
    reconstruction.

    Args:
        train: [N, D, h, w] features that the probe is fitted on.
        test: [M, D, h, w] features of other patches.
        ridge: penalty on the probe's weights, in shares of the features' mean variance, above 0.

    Returns:
        accuracy on ``test``, a scalar; 1 / (h * w) is chance, NaN where there are no features.

    Raises:
        InputError: shapes that do not fit, or a penalty out of range.
    """
    positive("ridge", ridge)
    if train.ndim != 4 or test.shape[1:] != train.shape[1:]:
        raise InputError("test", tuple(test.shape), f"[M, {', '.join(map(str, train.shape[1:]))}]")
    known, places = _rows(train)
    asked, wanted = _rows(test)
    if len(known) == 0:
        return known.new_full((), torch.nan)
    mean = known.mean(0)
    known, asked = known - mean, asked - mean
    count = train.shape[2] * train.shape[3]
    target = one_hot(places, count).to(known.dtype) - 1 / count
    gram = known.T @ known
    penalty = ridge * gram.diagonal().mean().clamp(min=torch.finfo(gram.dtype).tiny)
    solved = torch.linalg.solve(gram + penalty * torch.eye(len(gram)).to(gram), known.T @ target)
    right: Tensor = (asked @ solved).argmax(1) == wanted
    return right.to(known.dtype).mean()


def _rows(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Cells as rows [N * h * w, D], and the number of each one's place."""
    cells = _precise(maps).flatten(2).transpose(1, 2)
    places = torch.arange(cells.shape[1], device=maps.device).expand(len(maps), -1)
    return cells.flatten(0, 1).double(), places.flatten()


def _precise(maps: Tensor) -> Tensor:
    return maps.to(torch.promote_types(maps.dtype, torch.float32))
