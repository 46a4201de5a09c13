"""Squares of tiles: all of a grid, and random ones."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from rscontrast.datasets import Crop, PairTiles
from rscontrast.errors import InputError


def grid_crops(shapes: Sequence[tuple[int, int]], size: int) -> list[Crop]:
    """Squares that cover every tile; the last of a row or column may overlap its neighbour.

    Args:
        shapes: height and width of each tile.
        size: side of a square, pixels.

    Raises:
        InputError: a tile is smaller.
    """
    found = []
    for tile, (height, width) in enumerate(shapes):
        if size > min(height, width):
            raise InputError("patch_size", size, f"up to {min(height, width)}, a tile's side")
        rows, cols = ([*range(0, side - size, size), side - size] for side in (height, width))
        found += [Crop(tile, row, col, size) for row in rows for col in cols]
    return found


def tile_shapes(dataset: PairTiles) -> list[tuple[int, int]]:
    """Height and width of each tile."""
    return [dataset.shape(tile) for tile in range(len(dataset))]


class RandomCropSampler(Sampler[Crop]):
    """Squares anywhere in any tile; tiles are equally likely."""

    def __init__(
        self, shapes: Sequence[tuple[int, int]], size: int, length: int, seed: int
    ) -> None:
        """Take the tiles' shapes, the side of a square, the draws an epoch and their seed."""
        self.shapes, self.size, self.length = shapes, size, length
        self.generator = np.random.default_rng(seed)

    def __len__(self) -> int:
        """Draws an epoch."""
        return self.length

    def __iter__(self) -> Iterator[Crop]:
        """Yield squares."""
        for tile in self.generator.integers(len(self.shapes), size=self.length).tolist():
            ends = np.array(self.shapes[tile]) - self.size + 1
            row, col = self.generator.integers(ends).tolist()
            yield Crop(tile, row, col, self.size)
