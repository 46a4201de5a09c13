"""Rasters read under views: one reading of each, whatever crops, flips and shifts make it up."""

import torch
import torch.nn.functional as F
from torch import Tensor

from rscontrast.augment.device import fixed
from rscontrast.types import IGNORE


class Warp:
    """Views of a batch, ready to read rasters of its patches.

    Continuous rasters are read bilinearly, in float32 or finer (numbers of half precision would
    be off by whole pixels), labels and ``valid`` at the nearest pixel. Where a view thins the
    patch each of its pixels is the mean of several bilinear readings, evenly spread over it: the
    area's mean, since single readings would alias.
    """

    def __init__(
        self,
        matrix: Tensor,
        size: tuple[int, int],
        shape: tuple[int, int],
        readings: tuple[int, int] = (1, 1),
    ) -> None:
        """Take the views.

        Args:
            matrix: [B, V, 3, 3] of :func:`rscontrast.augment.geometry.draw`.
            size: (h, w) of the views.
            shape: (H, W) of the patches.
            readings: of a view's pixel, down and across.
        """
        self.shape, self.readings, self.views = shape, readings, matrix.shape[1]
        self.matrix, self.size = matrix.flatten(0, 1), size
        height, width = shape
        sides = fixed((width, height), matrix)
        rows, columns = self._steps((1, 1))
        rows = rows - (sides - 1) / 2  # from the middle of the patch
        x, y = (columns[..., axis] + rows[..., axis] for axis in (0, 1))
        # What reaches over the border by some of its readings would be a mean of less.
        across, down = (sides / 2 - self._reach())[..., None, None].unbind(1)
        inside = (x.abs() <= across).logical_and_(y.abs() <= down)
        self.inside = torch.unflatten(inside, 0, (-1, self.views))
        """[B, V, h, w]: pixels of the views that lie on the patch, with all of their readings."""
        # In place: of a large batch new memory costs more than the arithmetic.
        column = x.add_(width / 2).floor_().clamp_(0, width - 1)
        row = y.add_(height / 2).floor_().clamp_(0, height - 1)
        self._nearest = row.long().mul_(width).add_(column.long())

    def continuous(self, raster: Tensor) -> Tensor:
        """Read a raster bilinearly; beyond the patch its border goes on.

        Args:
            raster: [B, D, K, H, W] float; view v is of date v % D.

        Returns:
            [B, V, K, h, w] float32, or float64 of float64.
        """
        raster = raster.to(torch.promote_types(raster.dtype, torch.float32))
        found = F.grid_sample(
            self._of_views(raster),
            self._grid().to(raster.dtype),
            mode="bilinear",
            padding_mode="border",
            align_corners=False,
        )
        if self.readings != (1, 1):
            found = F.avg_pool2d(found, self.readings)
        return torch.unflatten(found, 0, (-1, self.views))

    def nearest(self, raster: Tensor, outside: float = IGNORE) -> Tensor:
        """Read a raster at the nearest pixel, of any dtype, which is kept.

        Args:
            raster: [B, D, K, H, W]; view v is of date v % D.
            outside: value beyond the patch.

        Returns:
            [B, V, K, h, w].
        """
        pixels = self._of_views(raster).flatten(-2)
        index = self._nearest.flatten(1).unsqueeze(1).expand(-1, pixels.shape[1], -1)
        found = torch.unflatten(pixels.gather(-1, index), -1, self.size)
        found = torch.unflatten(found, 0, (-1, self.views))
        return found.masked_fill_(~self.inside.unsqueeze(2), outside)

    def _of_views(self, raster: Tensor) -> Tensor:
        """[B, D, K, H, W] as [B * V, K, H, W]."""
        dates = raster.shape[1]
        if dates != self.views:
            dates_of_views = torch.arange(self.views, device=raster.device) % dates
            raster = raster.index_select(1, dates_of_views)
        return raster.flatten(0, 1)

    def _steps(self, parts: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Rows [N, h, 1, 2] and columns [N, 1, w, 2], whose sums are the patch's (x, y).

        Of readings, of which each pixel of a view has ``parts``, down and across.
        """
        down, across = (
            (torch.arange(side * part, device=self.matrix.device) + 0.5) / part - 0.5
            for side, part in zip(self.size, parts, strict=True)
        )
        of_column, of_row, origin = self.matrix[:, None, None, :2].unbind(-1)
        return of_row * down[:, None, None] + origin, of_column * across[:, None]

    def _reach(self) -> Tensor:
        """How far a pixel's outermost readings are from its centre: [N, 2], patch pixels (x, y)."""
        down, across = ((parts - 1) / (2 * parts) for parts in self.readings)
        return (self.matrix[:, :2, :2].abs() * fixed((across, down), self.matrix)).sum(dim=-1)

    def _grid(self) -> Tensor:
        """Positions as grid_sample has them: -1 to 1 between the patch's outer edges."""
        rows, columns = self._steps(self.readings)
        sides = fixed((self.shape[1], self.shape[0]), self.matrix)
        return 2 * columns / sides + ((2 * rows + 1) / sides - 1)
