"""Labelled pairs of image files that know no place on the earth: xBD, BRIGHT and their like."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from rasterio.errors import RasterioError
from scipy import ndimage
from torchgeo.datasets import BRIGHTDFC2025, NonGeoDataset, xBD
from torchgeo.datasets.utils import Sample

from rscontrast.errors import AssetError
from rscontrast.types import PathOrStr

FULL = 255
"""Value of eight bits that is taken as reflectance 1."""


class Crop(NamedTuple):
    """A square of a tile."""

    tile: int
    row: int
    col: int
    size: int


@dataclass(frozen=True)
class Tile:
    """The files of one pair."""

    name: str
    """Of the place, such as ``mexico-earthquake_00000002``."""
    pre: PathOrStr
    """Image before."""
    post: PathOrStr
    """Image after."""
    target: PathOrStr | None
    """Classes after; None: not published."""

    @property
    def event(self) -> str:
        """What comes before the number in the name."""
        return self.name.rpartition("_")[0]


class PairTiles(NonGeoDataset):
    """Tiles at two dates in our sample layout; a :class:`Crop` of one, or a whole tile by number.

    ``image`` float32 [2, 3, H, W], 0 to 1, ``valid`` bool [2, H, W] and, where published,
    ``mask`` int64 [H, W]. Not valid is the black beyond the edge of the swath: all pixels of
    black that hang together with the border of the tile. Black within it is a shadow.
    """

    thread_safe = True
    """Many threads may read samples at once."""

    def __init__(self, tiles: Sequence[Tile], *, in_memory: bool = False) -> None:
        """List the tiles.

        Args:
            tiles: their files.
            in_memory: keep what was read, in eight bits.
        """
        self.tiles, self.in_memory = tuple(tiles), in_memory
        self._kept: dict[int, tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.uint8]]] = {}

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.tiles)

    def __getitem__(self, index: int | Crop) -> Sample:
        """Read a tile or a part of it.

        Raises:
            AssetError: a file cannot be read, or files of one tile differ in size.
        """
        crop = index if isinstance(index, Crop) else Crop(int(index), 0, 0, 2**31)
        image, valid, mask = self.arrays(crop.tile)
        part = np.s_[
            ..., crop.row : crop.row + crop.size, crop.col : crop.col + crop.size
        ]  # fmt: skip
        sample = {
            "image": torch.from_numpy(image[part].astype(np.float32) / FULL),
            "valid": torch.from_numpy(valid[part].copy()),
            "index": torch.tensor(crop.tile),
        }
        if mask.size:
            sample["mask"] = torch.from_numpy(mask[part].astype(np.int64))
        return sample

    def shape(self, tile: int) -> tuple[int, int]:
        """Height and width of a tile, of which no pixel is decoded.

        Raises:
            AssetError: the file cannot be read.
        """
        return read_shape(self.tiles[tile].pre)

    def arrays(self, tile: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.uint8]]:
        """Images [2, 3, H, W], valid pixels [2, H, W], and classes [H, W] or none at all."""
        if tile in self._kept:
            return self._kept[tile]
        found = self.tiles[tile]
        dates = [_bands(found.pre), _bands(found.post)]
        mask = np.zeros(0, np.uint8) if found.target is None else read_pixels(found.target)[0]
        shapes = {date.shape[1:] for date in dates} | ({mask.shape} if mask.size else set())
        if len(shapes) > 1:
            raise AssetError(f"{found.name}: files of different sizes {sorted(shapes)}")
        made = np.stack(dates), np.stack([seen(date) for date in dates]), mask
        if self.in_memory:
            self._kept[tile] = made  # two threads may both read: they find the same
        return made


def seen(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which pixels [H, W] of an image [C, H, W] are not black beyond the edge of the swath."""
    black = ~image.any(axis=0)
    if not black.any():
        return ~black
    regions, _ = ndimage.label(black)
    border = np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]])
    outside: NDArray[np.bool_] = np.isin(regions, np.unique(border[border > 0]))
    return ~outside


def read_shape(path: PathOrStr) -> tuple[int, int]:
    """Height and width of a picture or a raster.

    Raises:
        AssetError: it cannot be read.
    """
    try:
        if _is_raster(path):
            with rasterio.open(path) as source:
                return source.height, source.width
        with Image.open(path) as picture:
            return picture.height, picture.width
    except (OSError, RasterioError, UnidentifiedImageError) as error:
        raise AssetError(f"{path}: cannot be read ({error})") from error


def _is_raster(path: PathOrStr) -> bool:
    return Path(path).suffix.lower() in (".tif", ".tiff")


def read_pixels(path: PathOrStr) -> NDArray[np.uint8]:
    """Pixels [C, H, W] of eight bits of a picture or a raster.

    Raises:
        AssetError: it cannot be read.
    """
    try:
        if _is_raster(path):
            with rasterio.open(path) as source:
                pixels: NDArray[np.uint8] = source.read()
            return pixels
        with Image.open(path) as picture:
            array = np.array(picture)
        return array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    except (OSError, RasterioError, UnidentifiedImageError) as error:
        raise AssetError(f"{path}: cannot be read ({error})") from error


def _bands(path: PathOrStr) -> NDArray[np.uint8]:
    """Three bands; one alone, as of radar, three times, as BRIGHT's own readers do."""
    pixels = read_pixels(path)
    return pixels.repeat(3, axis=0) if len(pixels) == 1 else pixels[:3]


def xbd_tiles(root: PathOrStr, split: str) -> list[Tile]:
    """Tiles of TorchGeo's xBD, whose targets are those of the date after.

    TorchGeo's own ``mask`` is target after minus target before, in which an undamaged building
    (1 - 1) is background.

    Args:
        root: folder with ``train`` and ``test``.
        split: "train" or "test".

    Raises:
        DatasetNotFoundError: there is no xBD; of TorchGeo.
    """
    files = xBD(root=root, split=split, checksum=False).files  # type: ignore[arg-type]
    suffix = "_pre_disaster"
    return [
        Tile(Path(f["image1"]).stem.removesuffix(suffix), f["image1"], f["image2"], f["mask2"])
        for f in files
    ]


def bright_tiles(root: PathOrStr, split: str) -> list[Tile]:
    """Tiles of TorchGeo's BRIGHT (DFC 2025): optical before, radar after.

    Args:
        root: folder with ``dfc25_track2_trainval``.
        split: "train", "val", or "test", which has no targets.

    Raises:
        DatasetNotFoundError: there is no BRIGHT; of TorchGeo.
    """
    paths = BRIGHTDFC2025(root=root, split=split, checksum=False).sample_paths  # type: ignore[arg-type]
    suffix = "_pre_disaster"
    return [
        Tile(
            Path(p["image_pre"]).stem.removesuffix(suffix),
            p["image_pre"], p["image_post"], p.get("target"),
        )
        for p in paths
    ]  # fmt: skip
