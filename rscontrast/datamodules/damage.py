"""Labelled pairs for fine-tuning: the patches of a grid, of which a share may be used."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
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
from rscontrast.datamodules.patches import NormalisePairs
from rscontrast.datamodules.share import require_share, stratified
from rscontrast.datamodules.splits import ALL, require_shares, split_labelled
from rscontrast.datasets import STACDataset, TemporalPairDataset, VectorLabels
from rscontrast.datasets.onimages import LabelsOn
from rscontrast.errors import InputError, positive, whole
from rscontrast.loader import PairLoader
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
        label: str | None,
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
        labels: str | gpd.GeoDataFrame | None = None,
        attribute: str = "class",
        values: Mapping[str, int] | None = None,
        label_area: str | gpd.GeoDataFrame | None = None,
        splits: tuple[float, float, float] = ALL,
        split_block: float = 1.0,
        split_by: str = "place",
        adapt: bool = False,
    ) -> None:
        """Name what to draw from.

        Args:
            items: of :func:`rscontrast.stac.search`, or the path of its GeoParquet.
            pairs: of :func:`rscontrast.stac.pair_items`, or its GeoParquet; each pair's labels
                are those dated within it.
            bands: the channel order.
            label: asset key of the label raster; None with ``labels``.
            classes: number of classes, background included.
            patch_size: side of a patch, pixels, a multiple of 32.
            batch_size: patches in a batch.
            length: patches drawn an epoch, at least ``batch_size``.
            label_share: share (0-1] of the labelled patches of a grid that may be trained on,
                from every place alike, see :func:`rscontrast.datamodules.share.stratified`.
            num_workers: reading processes; 0 reads in this one, by threads.
            seed: of the share, the draws and the turns.
            contract: of the pretrained encoder; None: statistics of the patches.
            tolerance: as the pairs were made with.
            progress: show bars.
            provider: where bands lie in the assets.
            threads: that read at a time without workers; default: 4.
            prefetch: batches that are read ahead.
            pin_memory: page-locked batches, where there is a device to copy them to.
            labels: polygons or the path of a vector file in place of ``label``; they hold for
                all pairs, see :class:`rscontrast.datasets.VectorLabels`.
            attribute: column of ``labels`` that says the class.
            values: class of each value of that column; None: it holds the classes.
            label_area: polygons within which all there is was drawn; None: everywhere.
            splits: shares of train, validation and test, by place or event; default: all is
                trained on.
            split_block: side of a block of places that stay together, degrees.
            split_by: "place", or a column of the pairs, such as "event", of which all pairs of
                one value are in one split.
            adapt: take a ``contract`` of other bands, with statistics of the patches for those
                that it does not know, see :meth:`rscontrast.types.SensorContract.adapted`.

        Raises:
            InputError: a value out of range, or a table that cannot be read.
        """
        if (label is None) == (labels is None):
            raise InputError("label", label, "one of label (an asset) and labels (a vector file)")
        require_share(label_share)
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
        self.labels, self.attribute, self.label_area = labels, attribute, label_area
        self.values = None if values is None else dict(values)
        self.splits, self.split_block = require_shares(splits), positive("split_block", split_block)
        self.split_by, self.adapt = split_by, adapt
        self.class_weights: list[float] | None = None

    def setup(self, stage: str) -> None:
        """List the labelled patches, take the share, count the classes.

        Raises:
            InputError: no patch has a label, or a label is no class.
            BandError: no item has the label asset, or the contract is of other bands.
            GridError: a label lies off the imagery's grid.
            AssetError: a file cannot be read.
        """
        if self.train_dataset is None:
            parts = split_labelled(
                self.items, self.pairs, self.splits,
                by=self.split_by, block=self.split_block, seed=self.seed,
            )  # fmt: skip
            for split, pairs in parts.items():
                self._setup_split(split, pairs)

    def _setup_split(self, split: str, pairs: gpd.GeoDataFrame) -> None:
        source = pair_images(self.items, pairs, self.bands, self.provider)
        images, labels = TemporalPairDataset(source), self._labels(source)
        places = self._patches(images, labels, pairs)
        dataset = images & labels
        if split == "train":
            self._setup_training(dataset, source, self._share(places))
        elif self.contract is not None:  # the training's, which comes first
            slices = [pair for _, place in places for pair in place.slices]
            setattr(self, f"{split}_dataset", dataset)
            setattr(self, f"{split}_sampler", slices)
            setattr(self, f"{split}_aug", NormalisePairs(self.contract))

    def _setup_training(
        self, dataset: TemporalPairDataset, source: STACDataset, patches: LabelledPatches
    ) -> None:
        def measured() -> SensorContract:
            some = patches.slices[:STATISTICS_PATCHES]
            found = self._statistics(dataset, some, seed=self.seed, progress=self.progress)
            return found.contract(self.bands, source.ground_res)

        if self.contract is None:
            self.contract = measured()
        elif self.adapt:
            self.contract = self.contract.adapted(measured())
        else:
            self.contract.require(self.bands)
            # Normalised as the encoder was, but the pixels that are learned from are these.
            self.contract = replace(self.contract, res=source.ground_res)
        self.class_weights = class_weights(patches.counts.sum(axis=0))
        self.train_dataset, self.train_aug = dataset, Dihedral(self.contract, seed=self.seed)
        draws = LabelledPatchSampler(patches, self.length, self.seed)
        sampler = EpochSampler(draws, seed=self.seed)
        self.train_sampler = sampler  # type: ignore[assignment]  # TorchGeo declares only its own

    def _labels(self, source: STACDataset) -> LabelsOn:
        if self.label is not None:
            return source.labels(self.label)
        vectors: Any = self.labels
        return VectorLabels(source, vectors, self.attribute, self.values, self.label_area)

    def _patches(
        self, images: TemporalPairDataset, labels: LabelsOn, pairs: gpd.GeoDataFrame
    ) -> list[tuple[int, LabelledPatches]]:
        """Labelled patches of a grid, each with its dates, and the number of its place."""
        dates = TemporalPairSampler(
            images, pairs=pairs, tolerance=self.tolerance, generator=self.seed
        )
        grid = GriddedPlaceSampler(images, size=self.patch_size, roi=dates.roi)
        cells = [list(dates._iter_subset(cell)) for cell in grid]
        found = labelled_patches(cells, labels, self.classes, progress=self.progress)
        grounds = shapely.STRtree(shapely.get_parts(grid.geometry))
        centres = [
            shapely.Point(_middle(x), _middle(y)) for x, y, _ in (p.slices[0] for p in found)
        ]
        return list(zip(grounds.nearest(centres).tolist(), found, strict=True))

    def _share(self, places: Sequence[tuple[int, LabelledPatches]]) -> LabelledPatches:
        """What of the labels may be used."""
        order = stratified([place for place, _ in places], self.label_share, self.seed)
        kept = [places[number][1] for number in order]
        slices = [pair for place in kept for pair in place.slices]
        return LabelledPatches(slices, np.concatenate([place.counts for place in kept]))

    def _in_order(self, split: str) -> DataLoader[Sample]:
        """Each labelled patch of a split, once."""
        return PairLoader(
            self._valid_attribute(f"{split}_dataset"),
            batch_size=self.batch_size,
            sampler=self._valid_attribute(f"{split}_sampler"),
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            threads=self.threads,
            prefetch=self.prefetch,
        )

    def val_dataloader(  # type: ignore[override]  # TorchGeo declares one; Lightning takes a list
        self,
    ) -> DataLoader[Sample] | list[DataLoader[Sample]]:
        """Labelled patches of validation; none without a share: `evaluate` scores whole places."""
        return [] if self.val_dataset is None else self._in_order("val")

    def test_dataloader(self) -> DataLoader[Sample]:
        """Labelled patches of the test.

        Raises:
            InputError: they have no share.
        """
        if self.test_dataset is None:
            raise InputError("splits", self.splits, "a share above 0 for test, the third one")
        return self._in_order("test")


def _middle(side: slice) -> float:
    return float(side.start + side.stop) / 2
