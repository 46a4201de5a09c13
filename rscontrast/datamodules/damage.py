"""Labelled pairs for fine-tuning: a fixed set of cells, of which a share may be used."""

from collections.abc import Iterator, Sequence

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler
from torchgeo.datamodules import GeoDataModule
from torchgeo.datasets.utils import Sample

from rscontrast.augment import Dihedral
from rscontrast.datamodules.pairs import pair_images
from rscontrast.datamodules.statistics import band_statistics
from rscontrast.datasets import STACDataset, TemporalPairDataset
from rscontrast.datasets.pairs import PairSlice
from rscontrast.datasets.stac import STACLabels
from rscontrast.errors import InputError
from rscontrast.samplers import GriddedPlaceSampler, TemporalPairSampler
from rscontrast.stac import read_items, read_pairs
from rscontrast.types import IGNORE, SensorContract


class CellSampler(Sampler[PairSlice]):
    """Draw cells with replacement, half of them from those that show a class other than 0."""

    def __init__(
        self, cells: Sequence[PairSlice], foreground: NDArray[np.bool_], length: int, seed: int
    ) -> None:
        """Take the cells, which of them show foreground, the draws an epoch and their seed."""
        self.cells, self.length = list(cells), length
        weight = np.where(foreground, 0.5 / max(1, int(foreground.sum())), 0.0)
        weight += np.where(~foreground, 0.5 / max(1, int((~foreground).sum())), 0.0)
        self.weight = weight / weight.sum()
        self.generator = np.random.default_rng(seed)

    def __len__(self) -> int:
        """Draws an epoch."""
        return self.length

    def __iter__(self) -> Iterator[PairSlice]:
        """Yield the slices of each drawn cell."""
        for cell in self.generator.choice(len(self.cells), self.length, p=self.weight):
            yield self.cells[cell]


class DamageDataModule(GeoDataModule):
    """Labelled cells of the places of ``pairs``, turned and flipped on the device."""

    length: int  # TorchGeo's may be None; here it is always given

    def __init__(
        self,
        items: gpd.GeoDataFrame | str,
        pairs: gpd.GeoDataFrame | str,
        bands: list[str],
        label: str,
        classes: int,
        patch_size: int = 96,
        batch_size: int = 16,
        length: int = 256,
        label_share: float = 1.0,
        num_workers: int = 0,
        seed: int = 0,
        contract: SensorContract | None = None,
    ) -> None:
        """Name what to draw from.

        Args:
            items: of :func:`rscontrast.stac.search`, or the path of its GeoParquet.
            pairs: of :func:`rscontrast.stac.pair_items`, or its GeoParquet; each pair's labels
                are those dated within it.
            bands: the channel order.
            label: asset key of the label raster.
            classes: number of classes, background included.
            patch_size: side of a cell, pixels, a multiple of the encoder's stride.
            batch_size: cells in a batch.
            length: cells drawn an epoch.
            label_share: share (0-1] of the labelled cells that may be used, drawn by ``seed``.
            num_workers: reading processes.
            seed: of the share and the draws.
            contract: of the pretrained encoder; None: statistics of the cells.

        Raises:
            InputError: a value out of range, or a table that cannot be read.
        """
        if not 0 < label_share <= 1:
            raise InputError("label_share", label_share, "a share above 0 and up to 1")
        super().__init__(STACDataset, batch_size, patch_size, length, num_workers)
        self.items = read_items(items) if isinstance(items, str) else items
        self.pairs = read_pairs(pairs) if isinstance(pairs, str) else pairs
        self.bands, self.label, self.classes = tuple(bands), label, classes
        self.label_share, self.seed, self.contract = label_share, seed, contract
        self.class_weights: list[float] | None = None

    def setup(self, stage: str) -> None:
        """List the labelled cells, take the share, count the classes.

        Raises:
            InputError: no cell has a label, or a label is no class.
            BandError: no item has the label asset, or the contract is of other bands.
        """
        if self.train_dataset is not None:
            return
        if self.contract is not None:
            self.contract.require(self.bands)
        source = pair_images(self.items, self.pairs, self.bands)
        images, labels = TemporalPairDataset(source), source.labels(self.label)
        dates = TemporalPairSampler(images, pairs=self.pairs, generator=self.seed)
        grid = GriddedPlaceSampler(images, size=self.patch_size, roi=dates.roi)
        every = [next(dates._iter_subset(place)) for place in grid]
        cells, counts = self._labelled(every, labels)
        rng = np.random.default_rng(self.seed)
        kept = rng.permutation(len(cells))[: max(1, round(self.label_share * len(cells)))]
        cells, counts = [cells[cell] for cell in kept], counts[kept]
        dataset = images & labels
        if self.contract is None:
            mean, std = band_statistics(dataset[cell] for cell in cells[:64])
            statistics = tuple(mean.tolist()), tuple(std.tolist())
            self.contract = SensorContract(self.bands, dataset.res[0], *statistics)
        self.class_weights = class_weights(counts.sum(axis=0))
        self.train_dataset, self.train_aug = dataset, Dihedral(self.contract)
        foreground = counts[:, 1:].sum(axis=1) > 0
        draws = CellSampler(cells, foreground, self.length, self.seed)
        self.train_sampler = draws  # type: ignore[assignment]  # TorchGeo declares only its own

    def _labelled(
        self, cells: Sequence[PairSlice], labels: STACLabels
    ) -> tuple[list[PairSlice], NDArray[np.int64]]:
        """Cells that have labels, and the pixels of each class in them, [N, classes]."""
        kept, counts = [], []
        for x, y, (pre, post) in cells:
            try:
                mask = labels[x, y, slice(pre.start, post.stop)]["mask"].numpy()
            except IndexError:
                continue  # a place without a labelled item within the pair
            known = mask[mask != IGNORE]
            if known.size and known.max() >= self.classes:
                raise InputError(
                    "classes", self.classes, f"{known.max() + 1} or more: label values"
                )
            if known.size:
                kept.append((x, y, (pre, post)))
                counts.append(np.bincount(known, minlength=self.classes))
        if not kept:
            raise InputError("pairs", len(cells), f"pairs with {self.label!r} dated within them")
        return kept, np.stack(counts)

    def val_dataloader(  # type: ignore[override]  # TorchGeo declares one; Lightning takes a list
        self,
    ) -> list[DataLoader[Sample]]:
        """No validation set: `evaluate` scores whole places."""
        return []


def class_weights(counts: NDArray[np.int64]) -> list[float]:
    """Inverse square root of each class's frequency, mean 1 over the classes that occur.

    A class that does not occur gets 1: it has no pixel to weigh.
    """
    seen = counts > 0
    weight = np.ones(len(counts))
    weight[seen] = 1 / np.sqrt(counts[seen] / counts.sum())
    weight[seen] /= weight[seen].mean()
    return [float(w) for w in weight]
