"""Which cells of two feature maps show the same place: the positives of every dense loss.

Source: PixPro (Xie et al. 2021, "Propagate Yourself", arXiv 2011.10043), with the
released threshold and diagonals; the match by features is DenseCL's (Wang et al. 2021,
arXiv 2011.09157).
"""

import math

import torch
from torch import Tensor

from rscontrast.errors import InputError, height_width
from rscontrast.losses.contrast import unit_length

THRESHOLD = 0.7
"""Largest distance of two positive cells, diagonals of the larger cell [released code]."""


@torch.no_grad()
def cell_positives(
    rectangle_query: Tensor,
    rectangle_key: Tensor,
    cells_query: tuple[int, int],
    cells_key: tuple[int, int],
    threshold: float = THRESHOLD,
) -> Tensor:
    r"""Positives of views that lie upright on their patch, mirrored or not.

    .. math:: A_{ij} = 1\big[ |c_i - c_j| / \max(diag_{query}, diag_{key}) < threshold \big]

    A rectangle cannot say that a view is turned by a quarter: use :func:`view_positives` for
    views that may be.

    Args:
        rectangle_query: [N, 4] (x1, y1, x2, y2) of the query's view on its patch, in any unit;
            x1 > x2 of a view that is mirrored left to right, y1 > y2 top to bottom.
        rectangle_key: [N, 4] of the key's view on the same patch.
        cells_query: (h, w) of the query's feature map.
        cells_key: (h', w') of the key's.
        threshold: above 0; in diagonals of the larger cell.

    Returns:
        [N, h * w, h' * w'] boolean, cells row by row. No gradient.

    Raises:
        InputError: another shape, or a threshold out of range.
    """
    frames = [_of_rectangle(r, c) for r, c in
              ((rectangle_query, cells_query), (rectangle_key, cells_key))]  # fmt: skip
    return _near(frames[0], frames[1], cells_query, cells_key, threshold)


@torch.no_grad()
def view_positives(
    matrix_query: Tensor,
    matrix_key: Tensor,
    size: tuple[int, int],
    cells_query: tuple[int, int],
    cells_key: tuple[int, int],
    threshold: float = THRESHOLD,
) -> Tensor:
    """Positives of views under any affine geometry: turned, mirrored, moved by parts of a pixel.

    As :func:`cell_positives`, which it equals where patches are square. Distances are in pixels
    of the patch, so that a patch that is not square is not stretched.

    Args:
        matrix_query: [N, 3, 3] view pixels (column, row, 1) to patch pixels, centres at whole
            numbers: ``view_matrix`` of :class:`rscontrast.augment.PairViews`.
        matrix_key: [N, 3, 3] of the key's view on the same patch.
        size: (H, W) of both views, pixels.
        cells_query: (h, w) of the query's feature map.
        cells_key: (h', w') of the key's.
        threshold: above 0; in diagonals of the larger cell.

    Returns:
        [N, h * w, h' * w'] boolean, cells row by row. No gradient.

    Raises:
        InputError: another shape, or a threshold out of range.
    """
    frames = [_of_matrix(m, size, c) for m, c in
              ((matrix_query, cells_query), (matrix_key, cells_key))]  # fmt: skip
    return _near(frames[0], frames[1], cells_query, cells_key, threshold)


@torch.no_grad()
def matched_positives(query: Tensor, key: Tensor, *, key_valid: Tensor | None = None) -> Tensor:
    """One positive for each cell: the most similar one of the other view, wherever it lies.

    Source: DenseCL, arXiv 2011.09157: the match is made on features of the backbone.

    Args:
        query: [N, C, h, w] features of the backbone.
        key: [N, C, h', w'].
        key_valid: [N, h', w'] bool: only these are matched; None: all.

    Returns:
        [N, h * w, h' * w'] boolean: one True a row, none where no cell of the key is valid.

    Raises:
        InputError: shapes that do not fit each other.
    """
    if query.ndim != 4:
        raise InputError("query", tuple(query.shape), "a shape [N, C, h, w]")
    if key.ndim != 4 or key.shape[:2] != query.shape[:2]:
        allowed = f"a shape [{query.shape[0]}, {query.shape[1]}, h', w']"
        raise InputError("key", tuple(key.shape), allowed)
    check_valid("key_valid", key_valid, (len(key), *key.shape[2:]))
    with torch.autocast(query.device.type, enabled=False):
        cosine = unit(query).transpose(1, 2) @ unit(key, key_valid)
    if key_valid is not None:
        cosine = cosine.masked_fill(~key_valid.flatten(1).unsqueeze(1), -math.inf)
    best = cosine.argmax(2, keepdim=True)
    found = torch.zeros_like(cosine, dtype=torch.bool)
    return found.scatter_(2, best, cosine.gather(2, best) > -math.inf)


def check_valid(name: str, valid: Tensor | None, shape: tuple[int, ...]) -> None:
    """Refuse what does not say of each cell whether it is usable; None says that all are.

    Raises:
        InputError: another shape, or not boolean.
    """
    if valid is not None and (tuple(valid.shape) != shape or valid.dtype != torch.bool):
        raise InputError(name, tuple(valid.shape), f"a shape {shape} of bool, not {valid.dtype}")


def unit(features: Tensor, valid: Tensor | None = None) -> Tensor:
    """Cells of length 1: [N, D, h, w] -> [N, D, h * w], float32 or finer.

    A cell that is not valid becomes 0, whatever it held; so does one of length 0, with a finite
    gradient.

    Args:
        features: [N, D, h, w].
        valid: broadcastable to [N, h, w] bool; None: all are.
    """
    if valid is not None:
        features = torch.where(valid.unsqueeze(1), features, 0)
    return unit_length(features.to(torch.promote_types(features.dtype, torch.float32)).flatten(2))


type Frame = tuple[Tensor, Tensor, Tensor]
"""Patch coordinates [N, 2] of a map's first cell, and the steps to the next column and row."""


def _of_rectangle(rectangle: Tensor, cells: tuple[int, int]) -> Frame:
    if rectangle.ndim != 2 or rectangle.shape[1] != 4:
        raise InputError("rectangle", tuple(rectangle.shape), "a shape [N, 4]")
    h, w = height_width("cells", cells)
    rectangle = rectangle.to(torch.promote_types(rectangle.dtype, torch.float32))
    start, end = rectangle[:, :2], rectangle[:, 2:]
    step = (end - start) / start.new_tensor([w, h])
    along_x, along_y = torch.diag_embed(step).unbind(1)
    return start + step / 2, along_x, along_y


def _of_matrix(matrix: Tensor, size: tuple[int, int], cells: tuple[int, int]) -> Frame:
    if matrix.ndim != 3 or matrix.shape[1:] != (3, 3):
        raise InputError("view_matrix", tuple(matrix.shape), "a shape [N, 3, 3]")
    (high, wide), (h, w) = height_width("size", size), height_width("cells", cells)
    matrix = matrix.to(torch.promote_types(matrix.dtype, torch.float32))
    column, row, origin = matrix[:, :2].unbind(2)
    # The view's outer corner is half a pixel before the centre of its first pixel.
    corner, across, down = origin - (column + row) / 2, column * (wide / w), row * (high / h)
    return corner + (across + down) / 2, across, down


def _near(
    query: Frame, key: Frame, cells_query: tuple[int, int], cells_key: tuple[int, int], most: float
) -> Tensor:
    if not 0 < most < math.inf:
        raise InputError("threshold", most, "a finite number above 0")
    if query[0].shape != key[0].shape:
        raise InputError("key", len(key[0]), f"as many views as the query, {len(query[0])}")
    centre, other = _centres(query, cells_query), _centres(key, cells_key)
    # By axis: the difference of all pairs at once would be twice the memory.
    x, y = (centre[..., axis, None] - other[:, None, :, axis] for axis in (0, 1))
    limit = most * torch.maximum(_diagonal(query), _diagonal(key))
    return x.square_().add_(y.square_()).sqrt_() < limit[:, None, None]


def _centres(frame: Frame, cells: tuple[int, int]) -> Tensor:
    """[N, h * w, 2] (x, y)."""
    first, across, down = (part[:, None, None] for part in frame)
    rows, columns = (torch.arange(count, device=first.device) for count in cells)
    return (first + columns[:, None] * across + rows[:, None, None] * down).flatten(1, 2)


def _diagonal(frame: Frame) -> Tensor:
    return (frame[1].square() + frame[2].square()).sum(1).sqrt()
