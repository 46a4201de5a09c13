"""Labelled pairs for fine-tuning: the patches of a grid, of which a share may be used."""

from dataclasses import replace

import geopandas as gpd
import numpy as np
from torch.utils.data import DataLoader
from torchgeo.datasets.utils import Sample

from rscontrast.augment import Dihedral
from rscontrast.datamodules.base import ThreadedDataModule
from rscontrast.datamodules.labelled import (
    LabelledPatches,
    LabelledPatchSampler,
    class_weights,
    labelled_patches,
)
from rscontrast.datamodules.pairs import STATISTICS_PATCHES, pair_images
from rscontrast.datasets import STACLabels, TemporalPairDataset
from rscontrast.errors import InputError, whole
from rscontrast.samplers import EpochSampler, GriddedPlaceSampler, TemporalPairSampler
from rscontrast.stac import read_items
from rscontrast.stac.pairing.file import SomePairs, as_frame
from rscontrast.stac.provider import Provider
from rscontrast.types import STRIDE, SensorContract


class DamageDataModule(ThreadedDataModule):
    """Labelled patches of the places of ``pairs``, turned and flipped on the device."""

    def __init__(
        self,
        items: gpd.GeoDataFrame | str,
        pairs: SomePairs | str,
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
        tolerance: str = "1h",
        progress: bool = False,
        provider: Provider | str | None = None,
        threads: int | None = None,
        prefetch: int | None = None,
        pin_memory: bool = True,
    ) -> None:
        """Name what to draw from.

        Args:
            items: of :func:`rscontrast.stac.search`, or the path of its GeoParquet.
            pairs: of :func:`rscontrast.stac.pair_items`, or its GeoParquet; each pair's labels
                are those dated within it.
            bands: the channel order.
            label: asset key of the label raster.
            classes: number of classes, background included.
            patch_size: side of a patch, pixels, a multiple of 32.
            batch_size: patches in a batch.
            length: patches drawn an epoch, at least ``batch_size``.
            label_share: share (0-1] of the labelled places (patches of a grid) that may be
                used, drawn by ``seed``.
            num_workers: reading processes; 0 reads in this one, by threads.
            seed: of the share, the draws and the turns.
            contract: of the pretrained encoder; None: statistics of the patches.
            tolerance: as the pairs were made with.
            progress: show bars.
            provider: where bands lie in the assets.
            threads: that read at a time without workers; default: 4.
            prefetch: batches that are read ahead.
            pin_memory: page-locked batches, where there is a device to copy them to.

        Raises:
            InputError: a value out of range, or a table that cannot be read.
        """
        if not 0 < label_share <= 1:
            raise InputError("label_share", label_share, "a share above 0 and up to 1")
        whole("patch_size", patch_size, multiple=STRIDE)
        whole("batch_size", batch_size)
        whole("seed", seed, least=0)
        whole("length", length, least=batch_size)
        super().__init__(patch_size, batch_size, length, num_workers, threads, prefetch, pin_memory)
        self.items = read_items(items) if isinstance(items, str) else items
        self.pairs = as_frame(pairs)
        self.bands, self.label, self.classes = tuple(bands), label, classes
        self.label_share, self.seed, self.contract = label_share, seed, contract
        self.tolerance, self.progress, self.provider = tolerance, progress, provider
        self.class_weights: list[float] | None = None

    def setup(self, stage: str) -> None:
        """List the labelled patches, take the share, count the classes.

        Raises:
            InputError: no patch has a label, or a label is no class.
            BandError: no item has the label asset, or the contract is of other bands.
            GridError: a label lies off the imagery's grid.
            AssetError: a file cannot be read.
        """
        if self.train_dataset is not None:
            return
        if self.contract is not None:
            self.contract.require(self.bands)
        source = pair_images(self.items, self.pairs, self.bands, self.provider)
        if self.contract is not None:
            # Normalised as the encoder was, but the pixels that are learned from are these.
            self.contract = replace(self.contract, res=source.ground_res)
        images, labels = TemporalPairDataset(source), source.labels(self.label)
        patches = self._share(images, labels)
        dataset = images & labels
        if self.contract is None:
            some = patches.slices[:STATISTICS_PATCHES]
            found = self._statistics(dataset, some, seed=self.seed, progress=self.progress)
            self.contract = found.contract(self.bands, source.ground_res)
        self.class_weights = class_weights(patches.counts.sum(axis=0))
        self.train_dataset, self.train_aug = dataset, Dihedral(self.contract, seed=self.seed)
        draws = LabelledPatchSampler(patches, self.length, self.seed)
        sampler = EpochSampler(draws, seed=self.seed)
        self.train_sampler = sampler  # type: ignore[assignment]  # TorchGeo declares only its own

    def _share(self, images: TemporalPairDataset, labels: STACLabels) -> LabelledPatches:
        """Labelled patches of the share of the places that may be used."""
        dates = TemporalPairSampler(
            images, pairs=self.pairs, tolerance=self.tolerance, generator=self.seed
        )
        grid = GriddedPlaceSampler(images, size=self.patch_size, roi=dates.roi)
        places = [list(dates._iter_subset(place)) for place in grid]
        found = labelled_patches(places, labels, self.classes, progress=self.progress)
        order = np.random.default_rng(self.seed).permutation(len(found))
        kept = [found[place] for place in order[: max(1, round(self.label_share * len(found)))]]
        slices = [pair for place in kept for pair in place.slices]
        return LabelledPatches(slices, np.concatenate([place.counts for place in kept]))

    def val_dataloader(  # type: ignore[override]  # TorchGeo declares one; Lightning takes a list
        self,
    ) -> list[DataLoader[Sample]]:
        """No validation set: `evaluate` scores whole places."""
        return []
