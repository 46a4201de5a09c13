"""Where views lie on their patch: drawn for a whole batch at once, told as affine matrices."""

from dataclasses import dataclass
from math import inf, log, sqrt
from typing import Literal

import torch
from torch import Tensor

from rscontrast.augment.device import fixed
from rscontrast.augment.draws import is_number, within
from rscontrast.errors import InputError, height_width

type Dihedral = bool | Literal["flips"]

PIXELS = 1e6
"""Greatest registration: beyond it float32 has no parts of a pixel."""
TRIES = 12
"""Draws of the views of a sample, of which the first with enough overlap is taken."""
PULLS = (0.75, 0.5, 0.25, 0.0)
"""What is left of the last draw's distance to the first view, should none of them be enough."""
AREA, RATIO, X, Y, SHIFT_X, SHIFT_Y, TURN = range(7)
"""Columns of what is drawn: where in its range each value lies, 0-1."""


@dataclass(frozen=True)
class Geometry:
    """What may be drawn."""

    size: tuple[int, int]
    """(h, w) of a view, pixels."""
    scale: tuple[float, float] = (0.3, 1.0)
    """Share of the patch's area that a view shows; above 1 it reaches beyond the patch."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Width to height of a view's pixel on the patch; for square views that of the crop."""
    dihedral: Dihedral = True
    """All symmetries of the view: eight of a square, else four. Overhead imagery has no up.
    "flips": four of a square too, without quarter turns."""
    min_overlap: float = 0.0
    """Least share (0-1) of the smaller of any two views of a sample that lies in the other."""
    registration: float = 0.0
    """Patch pixels by up to which each view is moved along x and y, as dates are against dates."""
    same: bool = False
    """All views of a sample have one geometry, but for ``registration``."""

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        object.__setattr__(self, "size", height_width("size", self.size))
        for name in ("scale", "ratio"):
            object.__setattr__(self, name, _range(name, getattr(self, name)))
        if self.dihedral not in (True, False, "flips"):
            raise InputError("dihedral", self.dihedral, "true, false or 'flips'")
        within("min_overlap", self.min_overlap, 0, 1)
        within("registration", self.registration, 0, PIXELS)

    def readings(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Readings (down, across) that a view's pixel needs so that none is skipped.

        As many as the patch pixels that it may span, rounded: beyond that readings are over a
        pixel and a half apart, and what lies between them would alias.

        Args:
            shape: (H, W) of the patch.
        """
        (height, width), (h, w) = shape, self.size
        area = self.scale[1] * height * width
        most = max(1.0, sqrt(self.scale[1]))
        high = min(most * height, sqrt(area * h / w / self.ratio[0]))
        wide = min(most * width, sqrt(area * w / h * self.ratio[1]))
        if self.dihedral is True and h == w:
            high = wide = max(high, wide)
        return max(1, round(high / h)), max(1, round(wide / w))


def draw(
    settings: Geometry,
    batch: int,
    views: int,
    shape: tuple[int, int],
    *,
    device: torch.device | str,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw where views lie.

    A crop has a uniform share of the patch's area, and of the ratios that fit into the patch one
    uniform in its logarithm: a reconstruction of RandomResizedCrop (Szegedy et al., 2015,
    arXiv:1409.4842), which draws both again where they do not fit. With ``min_overlap`` the
    first of ``TRIES`` draws that holds it is taken. Should none, the views of the last one are
    pulled to the first view, by ``PULLS``, in area, ratio and place alike: at the end of which
    they are one rectangle, so the overlap holds in any case.

    Args:
        settings: what may be drawn.
        batch: samples.
        views: of each sample.
        shape: (H, W) of the patches.
        device: of the matrices, where the numbers are drawn too.
        generator: of that device; None: torch's own.

    Returns:
        [B, V, 3, 3] float32: (column, row, 1) of a view's pixel to (column, row, 1) of the patch,
        centres of pixels at whole numbers.
    """
    rounds = TRIES if settings.min_overlap > 0 and views > 1 else 1
    unit = torch.rand(rounds, batch, views, TURN + 1, device=device, generator=generator)
    kinds = 8 if settings.dihedral is True else 4
    turn = (kinds * unit[0, ..., TURN]).floor().clamp(max=kinds - 1) if settings.dihedral else None
    if settings.same:
        unit = torch.cat([unit[:, :, :1, :SHIFT_X].expand_as(unit[..., :SHIFT_X]),
                          unit[..., SHIFT_X:]], dim=-1)  # fmt: skip
        turn = None if turn is None else turn[:, :1].expand_as(turn)
    boxes = _boxes(settings, unit, shape)
    boxes = boxes[0] if rounds == 1 else _overlapping(settings, unit, boxes, shape)
    return _matrix(boxes, turn, settings.size)


def rectangles(matrix: Tensor, size: tuple[int, int], shape: tuple[int, int]) -> Tensor:
    """Where views lie on their patch, as PixPro says it (arXiv:2011.10043).

    Args:
        matrix: [B, V, 3, 3] of :func:`draw`.
        size: (h, w) of the views.
        shape: (H, W) of the patches.

    Returns:
        [B, V, 4] (x1, y1, x2, y2): the outer corners of the view's first and last pixel, 0-1
        along the patch. A flip swaps x1 and x2, or y1 and y2. Of views that are :func:`turned` by
        a quarter the corners are right, but x runs down the view: only ``matrix`` says where their
        cells lie, see :func:`cell_centres`.
    """
    h, w = size
    ends = fixed(((-0.5, -0.5), (w - 0.5, h - 0.5)), matrix)
    sides = fixed((shape[1], shape[0]), matrix)
    return ((place(matrix, ends) + 0.5) / sides).flatten(-2)


def turned(matrix: Tensor) -> Tensor:
    """Whether views [B, V] lie on their side: rows of the patch run down them."""
    return matrix[..., 0, 1] != 0


def cell_centres(matrix: Tensor, size: tuple[int, int], cells: int | tuple[int, int]) -> Tensor:
    """Where the cells of a feature map of each view lie on the patch, however it is turned.

    Args:
        matrix: [B, V, 3, 3] of :func:`draw`.
        size: (h, w) of the views.
        cells: rows and columns of the feature map, or one number for both.

    Returns:
        [B, V, rows, columns, 2]: (x, y) of the cells' centres, patch pixels.
    """
    steps = [
        (torch.arange(count, device=matrix.device, dtype=matrix.dtype) + 0.5) * side / count - 0.5
        for count, side in zip(height_width("cells", cells), size, strict=True)
    ]
    down, across = torch.meshgrid(*steps, indexing="ij")
    points = torch.stack([across, down], dim=-1)
    return torch.unflatten(place(matrix, points.flatten(0, 1)), -2, points.shape[:2])


def to_map(matrix: Tensor, transform: Tensor) -> Tensor:
    """Views on the map.

    Args:
        matrix: [B, V, 3, 3] of :func:`draw`.
        transform: [B, 9] or [B, 6], the patches' affine by rows, from corners of pixels to map
            coordinates, as rasterio has it.

    Returns:
        [B, V, 3, 3] float64: (column, row, 1) of the centre of a view's pixel to (x, y, 1).
    """
    rows = torch.unflatten(transform.double()[..., :6], -1, (2, 3))
    # The centre of the patch's first pixel is half a pixel from its corner.
    origin = rows[..., 2:] + rows[..., :2].sum(dim=-1, keepdim=True) / 2
    return _affine(rows[..., :2], origin).unsqueeze(-3) @ matrix.double()


def place(matrix: Tensor, points: Tensor) -> Tensor:
    """Map ``points`` [P, 2] (x, y) by ``matrix`` [..., 3, 3]: [..., P, 2].

    Without a matrix product, which a GPU may be told to round to ten bits.
    """
    linear, moved = matrix[..., None, :2, :2], matrix[..., None, :2, 2]
    return (linear * points.unsqueeze(-2)).sum(dim=-1) + moved


def _range(name: str, got: object) -> tuple[float, float]:
    allowed = "(least, most), both above 0"
    if not isinstance(got, list | tuple) or len(got) != 2 or not all(map(is_number, got)):
        raise InputError(name, got, allowed)
    least, most = float(got[0]), float(got[1])
    if not 0 < least <= most < inf:
        raise InputError(name, got, allowed)
    return least, most


def _between(ends: tuple[float, float], unit: Tensor) -> Tensor:
    return ends[0] + (ends[1] - ends[0]) * unit


def _boxes(settings: Geometry, unit: Tensor, shape: tuple[int, int]) -> Tensor:
    """Unsigned boxes [..., 4] (centre x and y, width, height), patch pixels from its corner."""
    (height, width), (h, w) = shape, settings.size
    share = _between(settings.scale, unit[..., AREA])
    area, most = share * (height * width), share.clamp(min=1).sqrt()
    # Of the ratios that are wanted, those with which the crop fits into the patch.
    whole = log(w / h)
    wanted = [log(end) + whole for end in settings.ratio]
    least = (area / (most * height) ** 2).log().clamp(*wanted)
    greatest = ((most * width) ** 2 / area).log().clamp(*wanted)
    root = ((least + (greatest - least) * unit[..., RATIO]) / 2).exp()
    wide, high = area.sqrt() * root, area.sqrt() / root
    # Where none of them fits the crop is smaller.
    fit = torch.minimum(most * width / wide, most * height / high).clamp(max=1)
    wide, high = wide * fit, high * fit
    shift = (2 * unit[..., SHIFT_X : SHIFT_Y + 1] - 1) * settings.registration
    x = wide / 2 + unit[..., X] * (width - wide) + shift[..., 0]
    y = high / 2 + unit[..., Y] * (height - high) + shift[..., 1]
    return torch.stack([x, y, wide, high], dim=-1)


def _overlapping(settings: Geometry, unit: Tensor, boxes: Tensor, shape: tuple[int, int]) -> Tensor:
    """For each sample the first draw that has the overlap: of [T, B, V, 4] one [B, V, 4]."""
    first = unit[-1, :, :1]
    pulls = fixed(PULLS, unit)[:, None, None, None]
    pulled = _boxes(settings, first + pulls * (unit[-1] - first), shape)
    boxes = torch.cat([boxes, pulled])
    enough = (overlaps(boxes) >= settings.min_overlap).flatten(2).all(dim=-1)
    # The last is one rectangle for all: rounding shall not refuse it.
    enough = torch.cat([enough[:-1], torch.ones_like(enough[-1:])])
    taken = enough.byte().argmax(dim=0)
    return boxes.gather(0, taken[None, :, None, None].expand_as(boxes[:1])).squeeze(0)


def overlaps(boxes: Tensor) -> Tensor:
    """Shares of the smaller of two boxes that the other holds: [..., V, 4] -> [..., V, V]."""
    centre, side = boxes[..., :2], boxes[..., 2:]
    low, high = centre - side / 2, centre + side / 2
    ends = torch.minimum(high.unsqueeze(-2), high.unsqueeze(-3))
    starts = torch.maximum(low.unsqueeze(-2), low.unsqueeze(-3))
    area = side.prod(dim=-1)
    smaller = torch.minimum(area.unsqueeze(-1), area.unsqueeze(-2))
    return (ends - starts).clamp(min=0).prod(dim=-1) / smaller


def _matrix(boxes: Tensor, turn: Tensor | None, size: tuple[int, int]) -> Tensor:
    h, w = size
    step = boxes[..., 2:] / fixed((w, h), boxes)
    if turn is None:
        linear = torch.diag_embed(step)
    else:
        # Three coins: mirror along x, along y, and, for square views, swap rows with columns.
        signs = torch.stack([1 - 2 * (turn % 2), 1 - 2 * (turn // 2 % 2)], dim=-1)
        swapped = (turn >= 4).unsqueeze(-1) if h == w else torch.zeros_like(signs[..., :1]).bool()
        moved = step * signs
        upright, aside = torch.diag_embed(moved), torch.diag_embed(moved).flip(-1)
        linear = torch.where(swapped.unsqueeze(-1), aside, upright)
    middle = fixed(((w - 1) / 2, (h - 1) / 2), boxes)
    origin = boxes[..., :2] - 0.5 - (linear * middle).sum(dim=-1)
    return _affine(linear, origin.unsqueeze(-1))


def _affine(linear: Tensor, origin: Tensor) -> Tensor:
    """[..., 2, 2] and [..., 2, 1] as [..., 3, 3]."""
    rows = torch.cat([linear, origin], dim=-1)
    last = fixed((0.0, 0.0, 1.0), rows).expand_as(rows[..., :1, :])
    return torch.cat([rows, last], dim=-2)
