"""Maps that are affine in the bands, composed into one matrix for each image, applied in one pass.

A map is a tensor [N, C, C + 1]: y = A x + b for the C bands x of every pixel, b the last column.
"""

import torch
from torch import Tensor


def compose(first: Tensor, then: Tensor) -> Tensor:
    """Return the map [N, C, C + 1] that does ``first`` and ``then`` what follows."""
    linear, shift = then[..., :-1], then[..., -1]
    both = linear @ first
    return torch.cat([both[..., :-1], (both[..., -1] + shift).unsqueeze(-1)], dim=-1)


def through(matrix: Tensor, point: Tensor) -> Tensor:
    """Map ``point`` [N, C]; an image's mean maps as each of its pixels does."""
    return (matrix[..., :-1] @ point.unsqueeze(-1)).squeeze(-1) + matrix[..., -1]


def recolour(images: Tensor, matrix: Tensor) -> Tensor:
    """Apply ``matrix`` [N, C, C + 1] to all pixels of ``images`` [N, C, H, W] in one pass."""
    matrix = matrix.to(images.dtype)
    pixels = torch.baddbmm(matrix[..., -1:], matrix[..., :-1], images.flatten(2))
    return pixels.view_as(images)
