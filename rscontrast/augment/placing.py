"""A region of a view at two places of a canvas: what de-positioning is trained on."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from rscontrast.augment.draws import Draws
from rscontrast.errors import InputError, choose, whole

type Surroundings = Literal["content", "reflect", "zero"]
type Cells = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Places:
    """Where regions were taken from and put, in cells (row, column)."""

    grid: Cells
    """(h, w) of a view."""
    region: Cells
    """(r, s)."""
    canvas: Cells
    """At least as large as a view."""
    start: Tensor
    """[N, 2]: the region's first cell in the view."""
    offsets: Tensor
    """[2, N, 2]: its first cell in the first and in the second canvas; they differ."""

    def of_view(self, maps: Tensor) -> Tensor:
        """Region of the view's maps: [N, D, h, w] -> [N, D, r, s]."""
        return window(maps, self.start, self.region)

    def of_canvas(self, maps: Tensor, which: int) -> Tensor:
        """Region of the maps of canvas 0 or 1: -> [N, D, r, s]."""
        return window(maps, self.offsets[which], self.region)


@dataclass(frozen=True)
class RegionPlacing:
    """Put a region of each view at two random places, never at the border of the canvas.

    Source: the abstract of arXiv 2303.16947: zero padding tells where a region lies. The form is a
    reconstruction: both canvases have the same surroundings, so that the place alone differs, and
    a margin keeps the network's own padding away from the region.
    """

    share: float = 0.4
    """Side of the region in sides of the view, above 0, up to 1."""
    fill: Surroundings = "content"
    """Around the region: another patch, the region mirrored at its edges, or 0 (ablation)."""
    margin: int = 1
    """Cells between the region and the border of the canvas, 0 or more."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not 0 < self.share <= 1:
            raise InputError("share", self.share, "a share above 0 and up to 1")
        choose("fill", self.fill, get_args(Surroundings.__value__))
        whole("margin", self.margin, least=0)

    def draw(
        self,
        count: int,
        grid: Cells,
        *,
        device: torch.device | str,
        generator: torch.Generator | None = None,
    ) -> Places:
        """Draw where to take regions from and where to put them.

        Args:
            count: N.
            grid: (h, w) of a view's feature map.
            device: of the result.
            generator: of that device; None: torch's own.
        """
        draws = Draws(count, 1, grid, device, generator)
        region = tuple(max(1, round(self.share * side)) for side in grid)
        # Room for two places at least along each axis.
        needed = [side + 2 * self.margin + 1 for side in region]
        canvas = [max(side, least) for side, least in zip(grid, needed, strict=True)]
        down, across = (1 + c - n + 1 for c, n in zip(canvas, needed, strict=True))
        start = torch.stack(
            [_below(draws, whole_ - side + 1) for whole_, side in zip(grid, region, strict=True)], 1
        )
        first = _below(draws, down * across)
        # Another of the places: 1 to all but one of them further on.
        second = (first + 1 + _below(draws, down * across - 1)) % (down * across)
        offsets = torch.stack([first, second])
        offsets = self.margin + torch.stack([offsets // across, offsets % across], dim=-1)
        return Places(grid, (region[0], region[1]), (canvas[0], canvas[1]), start, offsets)

    @torch.no_grad()
    def canvases(self, images: Tensor, places: Places) -> tuple[Tensor, Tensor]:
        """Put the regions.

        Args:
            images: [N, C, H, W], neighbours of different patches; H and W are multiples of the
                cells' numbers.
            places: of :meth:`draw`.

        Returns:
            two of [N, C, H', W'], as many pixels a cell as ``images`` have.

        Raises:
            InputError: cells that are not of whole pixels.
        """
        (height, width), (h, w) = images.shape[-2:], places.grid
        if height % h or width % w:
            allowed = f"a size that is a multiple of its feature map's, {places.grid}"
            raise InputError("image", (height, width), allowed)
        cell = (height // h, width // w)
        first, second = (self._canvas(images, places, which, cell) for which in (0, 1))
        return first, second

    def _canvas(self, images: Tensor, places: Places, which: int, cell: Cells) -> Tensor:
        rows, columns = (
            torch.arange(count * size, device=images.device)
            for count, size in zip(places.canvas, cell, strict=True)
        )
        region = [count * size for count, size in zip(places.region, cell, strict=True)]
        side = places.start.new_tensor(cell)
        moved, start = places.offsets[which] * side, places.start * side
        down, across = rows - moved[:, :1], columns - moved[:, 1:]
        placed = pixels(
            images,
            start[:, :1] + fold(down, region[0]),
            start[:, 1:] + fold(across, region[1]),
        )
        if self.fill == "reflect":
            return placed
        inside = _inside(down, region[0]).unsqueeze(2) & _inside(across, region[1]).unsqueeze(1)
        if self.fill == "zero":
            return placed * inside.unsqueeze(1)
        other = images.roll(1, dims=0)
        around = other[:, :, fold(rows, images.shape[-2])][..., fold(columns, images.shape[-1])]
        return torch.where(inside.unsqueeze(1), placed, around)


def window(maps: Tensor, start: Tensor, size: Cells) -> Tensor:
    """Cut a window of each map: [N, D, h, w], first cells [N, 2] -> [N, D, *size]."""
    rows, columns = (
        start[:, axis, None] + torch.arange(size[axis], device=maps.device) for axis in (0, 1)
    )
    return pixels(maps, rows, columns)


def pixels(maps: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Read each map [N, D, h, w] at its own rows [N, r] and columns [N, s]: [N, D, r, s]."""
    sample = torch.arange(len(maps), device=maps.device)
    found = maps[sample[:, None, None], :, rows.unsqueeze(2), columns.unsqueeze(1)]
    return found.permute(0, 3, 1, 2)


def fold(index: Tensor, size: int) -> Tensor:
    """Mirror any index at the edges of ``size`` pixels into 0 to size - 1."""
    inside = index % (2 * size)
    return torch.minimum(inside, 2 * size - 1 - inside)


def _inside(index: Tensor, size: int) -> Tensor:
    return (index >= 0) & (index < size)


def _below(draws: Draws, count: int) -> Tensor:
    """Whole numbers [N], 0 to count - 1."""
    return (draws.unit() * count).long().clamp(max=count - 1)
