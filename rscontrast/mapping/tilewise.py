"""Class probabilities of a pair, tile by tile on its native grid: what scores are made of."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rscontrast.augment import Normalise
from rscontrast.errors import GridError, InputError, TrainingError, whole
from rscontrast.io import read_mosaic
from rscontrast.io.grid import ground_res
from rscontrast.mapping.native import PairJob, Tile, inside, part
from rscontrast.models.checkpoint import Segmenter
from rscontrast.models.device import torch_device
from rscontrast.types import RES_TOLERANCE, STRIDE


@dataclass(frozen=True)
class Prediction:
    """What a segmenter says of a tile."""

    probabilities: NDArray[np.float32]
    """[K, h, w], sum 1 over the classes."""
    valid: NDArray[np.bool_]
    """[h, w]: both dates are usable and the pixel lies in the job's aoi."""
    pre: NDArray[np.float32]
    """Reflectance before, [C, h, w]."""
    post: NDArray[np.float32]
    """Reflectance after, [C, h, w]."""


class Predictor:
    """A segmenter with its way of cutting a tile into patches."""

    def __init__(
        self,
        segmenter: Segmenter,
        *,
        patch_size: int = 128,
        overlap: int = 32,
        batch_size: int = 16,
        device: str = "auto",
    ) -> None:
        """Take the segmenter.

        Args:
            segmenter: what was read from a checkpoint.
            patch_size: side of a patch, pixels, a multiple of 32.
            overlap: pixels that neighbouring patches share, at most half of a patch.
            batch_size: patches at a time.
            device: "auto", "cpu" or "gpu".

        Raises:
            InputError: a size out of range.
        """
        whole("patch_size", patch_size, multiple=STRIDE)
        whole("batch_size", batch_size)
        starts(0, 1, patch_size, overlap)
        self.segmenter, self.device = segmenter, torch_device(device)
        self.size, self.overlap, self.batch = patch_size, overlap, batch_size
        self.model = segmenter.module.to(self.device).eval()
        self.normalise = Normalise(segmenter.contract).to(self.device)

    def require_res(self, job: PairJob) -> None:
        """Refuse imagery whose pixels are not of the size that the segmenter learned from.

        Raises:
            GridError: names both sizes.
        """
        there, learned = ground_res(job.geobox), self.segmenter.contract.res
        if not 1 / RES_TOLERANCE <= there / learned <= RES_TOLERANCE:
            sizes = f"pixels of {there:.3g} m, the segmenter learned from {learned:.3g} m"
            raise GridError(f"pair {job.name}: {sizes}; fine-tune on this imagery")

    def tile(self, job: PairJob, tile: Tile) -> Prediction:
        """Predict one tile; what it says does not depend on how the job is cut into tiles.

        Raises:
            AssetError: a file cannot be read.
            TrainingError: the segmenter says NaN.
        """
        rows = starts(tile.row, tile.row + tile.height, self.size, self.overlap)
        cols = starts(tile.col, tile.col + tile.width, self.size, self.overlap)
        height, width = rows[-1] - rows[0] + self.size, cols[-1] - cols[0] + self.size
        box = part(job.geobox, rows[0], cols[0], height, width)
        dates = [read_mosaic(date, box) for date in job.sources(self.segmenter.contract.bands)]
        image = torch.from_numpy(np.stack([image for image, _ in dates]))
        usable = torch.from_numpy(np.stack([valid for _, valid in dates]))
        corners = [(row - rows[0], col - cols[0]) for row in rows for col in cols]
        blended = self._blend(image, usable, corners)
        cut = np.s_[
            ...,
            tile.row - rows[0] : tile.row - rows[0] + tile.height,
            tile.col - cols[0] : tile.col - cols[0] + tile.width,
        ]
        valid = usable.all(dim=0).numpy()[cut] & inside(job, tile)
        return Prediction(blended[cut], valid, image[0].numpy()[cut], image[1].numpy()[cut])

    def _blend(
        self, image: torch.Tensor, valid: torch.Tensor, corners: list[tuple[int, int]]
    ) -> NDArray[np.float32]:
        """Weighted mean of the patches' probabilities: [2, C, H, W] -> [K, H, W]."""
        weight = ramp(self.size, self.overlap)
        total = np.zeros((len(self.segmenter.class_names), *image.shape[-2:]), dtype=np.float32)
        weights = np.zeros(image.shape[-2:], dtype=np.float32)
        for first in range(0, len(corners), self.batch):
            some = corners[first : first + self.batch]
            windows = [np.s_[..., r : r + self.size, c : c + self.size] for r, c in some]
            patches = torch.stack([image[window] for window in windows])
            usable = torch.stack([valid[window] for window in windows])
            for window, found in zip(windows, self._classify(patches, usable), strict=True):
                total[window] += found * weight
                weights[window] += weight
        total /= weights
        return total

    @torch.inference_mode()
    def _classify(self, patches: torch.Tensor, valid: torch.Tensor) -> NDArray[np.float32]:
        inputs = self.normalise(patches.to(self.device), valid.to(self.device))
        probabilities = self.model.probabilities(self.model(inputs)).float().cpu()
        if not torch.isfinite(probabilities).all():
            raise TrainingError("the segmenter says NaN: its weights are broken, fine-tune again")
        found: NDArray[np.float32] = probabilities.numpy()
        return found


def starts(first: int, last: int, size: int, overlap: int) -> range:
    """Where the patches begin that touch the pixels [first, last) of an axis.

    Patches lie on one endless lattice, at multiples of ``size - overlap`` less the overlap, so
    that a pixel is covered by the same patches whichever tile asks, and the border of a scene as
    often as its middle.

    Raises:
        InputError: the overlap is not in [0, size / 2].
    """
    if not 0 <= overlap <= size // 2:
        raise InputError("overlap", overlap, f"0 to half of the patch ({size // 2})")
    stride = size - overlap
    # The first patch of the lattice that ends after `first`.
    index = (first - size + overlap) // stride + 1
    return range(index * stride - overlap, last, stride)


def ramp(size: int, overlap: int) -> NDArray[np.float32]:
    """Weights of a patch [size, size]: 1 in the middle, linear over the overlap, above 0."""
    edge = np.minimum(np.arange(size) + 1, size - np.arange(size)) / (overlap + 1)
    axis = np.minimum(edge, 1.0).astype(np.float32)
    return np.outer(axis, axis)
