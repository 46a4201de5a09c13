"""Maps that are affine in the bands, composed into one matrix for each image, applied in one pass.

A map is a tensor [N, C, C + 1]: y = A x + b for the C bands x of every pixel, b the last column.
"""

import torch
from torch import Tensor


def compose(first: Tensor, then: Tensor) -> Tensor:
    """Return the map [N, C, C + 1] that does ``first`` and ``then`` what follows."""
    both = then[..., :-1] @ first
    return torch.cat([both[..., :-1], both[..., -1:] + then[..., -1:]], dim=-1)


def through(matrix: Tensor, point: Tensor) -> Tensor:
    """Map ``point`` [N, C]; an image's mean maps as each of its pixels does."""
    return (matrix[..., :-1] @ point.unsqueeze(-1)).squeeze(-1) + matrix[..., -1]


def recolour(images: Tensor, matrix: Tensor) -> Tensor:
    """Apply ``matrix`` [N, C, C + 1] to all pixels of ``images`` [N, C, H, W] in one pass."""
    matrix = matrix.to(images.dtype)
    pixels = torch.baddbmm(matrix[..., -1:], matrix[..., :-1], images.flatten(2))
    return pixels.view_as(images)


def diagonal(gain: Tensor, offset: Tensor) -> Tensor:
    """Return the map y = gain * x + offset of each band; both [N, C]."""
    return torch.cat([torch.diag_embed(gain), offset.unsqueeze(-1)], dim=-1)


def blend(share: Tensor, matrix: Tensor) -> Tensor:
    """Return the map y = share * x + (1 - share) * matrix(x); ``share`` [N]."""
    share = share.view(-1, 1, 1)
    same = torch.eye(*matrix.shape[-2:], device=matrix.device, dtype=matrix.dtype)
    return share * same + (1 - share) * matrix


def constant(value: Tensor) -> Tensor:
    """Return the map of every pixel to ``value`` [N, C]."""
    return diagonal(torch.zeros_like(value), value)
