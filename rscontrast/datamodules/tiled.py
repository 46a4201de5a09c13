"""Labelled tiles for fine-tuning, and the same pairs without labels for pretraining."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from torch import nn
from torch.utils.data import DataLoader, Sampler
from torchgeo.datasets.utils import Sample
from tqdm import tqdm

from rscontrast.augment import Dihedral, PairViews
from rscontrast.datamodules.base import ThreadedDataModule
from rscontrast.datamodules.crops import RandomCropSampler, grid_crops, tile_shapes
from rscontrast.datamodules.labelled import LabelledPatches, LabelledPatchSampler, class_weights
from rscontrast.datamodules.patches import NormalisePairs
from rscontrast.datamodules.share import held_out, require_share, stratified
from rscontrast.datasets import Crop, PairTiles
from rscontrast.datasets.tiles import Tile, bright_tiles, xbd_tiles
from rscontrast.errors import InputError, choose, whole
from rscontrast.loader import PairLoader
from rscontrast.samplers import EpochSampler
from rscontrast.types import DAMAGE_CLASSES, IGNORE, STRIDE, PathOrStr, SensorContract

SPLIT_BY = ("place", "event")
STATISTICS_CROPS = 64
"""Crops over which the bands' statistics are estimated."""


class TiledDataModule(ThreadedDataModule, ABC):
    """Crops of tiles at two dates to train on, whole tiles to validate and test on.

    Validation holds out whole tiles or whole events, never crops. A derived class says which
    tiles there are.
    """

    bands: ClassVar[tuple[str, ...]] = ("red", "green", "blue")
    class_names: ClassVar[tuple[str, ...]]
    res: ClassVar[float]
    """Pixel size on the ground, metres."""

    def __init__(
        self,
        root: PathOrStr,
        patch_size: int = 128,
        batch_size: int = 16,
        length: int = 256,
        label_share: float = 1.0,
        val_share: float = 0.2,
        split_by: str = "place",
        events: Sequence[str] | None = None,
        test_events: Sequence[str] | None = None,
        views: dict[str, Any] | None = None,
        view_size: int | None = None,
        contract: SensorContract | None = None,
        in_memory: bool = False,
        num_workers: int = 0,
        seed: int = 0,
        threads: int | None = None,
        prefetch: int | None = None,
        pin_memory: bool = True,
        progress: bool = False,
    ) -> None:
        """Name what to draw from.

        Args:
            root: folder of the data set.
            patch_size: side of a crop, pixels, a multiple of 32.
            batch_size: crops in a batch; of whole tiles as many as have as many pixels.
            length: crops an epoch, half of them with a class other than 0.
            label_share: share (0-1] of the crops that may be trained on, from every tile alike,
                see :func:`rscontrast.datamodules.share.stratified`.
            val_share: share [0-1) of the places or events for training that validate instead.
            split_by: "place" (tile) or "event": what validation holds out.
            events: names of those that are used; None: all.
            test_events: events that are tested on and not trained on; None: the test is the data
                set's own, which has other tiles of the same events.
            views: arguments of :class:`rscontrast.augment.PairViews`: pairs to pretrain on, from
                all crops, without labels and without validation.
            view_size: side of a view, pixels; default: that of the crop.
            contract: of a pretrained encoder; None: statistics of the crops.
            in_memory: keep tiles in memory, in eight bits.
            num_workers: reading processes; 0 reads in this one, by threads.
            seed: of splits, shares, draws and turns.
            threads: that read at a time without workers; default: 4.
            prefetch: batches that are read ahead.
            pin_memory: page-locked batches, where there is a device to copy them to.
            progress: show bars.

        Raises:
            InputError: a value out of range.
        """
        self.label_share = require_share(label_share)
        self.split_by = choose("split_by", split_by, SPLIT_BY)
        if not 0 <= val_share < 1:
            raise InputError("val_share", val_share, "a share from 0 to below 1")
        whole("patch_size", patch_size, multiple=STRIDE)
        whole("length", length, least=whole("batch_size", batch_size))
        super().__init__(patch_size, batch_size, length, num_workers, threads, prefetch, pin_memory)
        self.side = int(patch_size)
        self.root, self.val_share, self.seed = root, val_share, int(whole("seed", seed, least=0))
        self.events, self.test_events, self.views = events, test_events, views
        self.view_size = whole("view_size", patch_size if view_size is None else view_size)
        self.contract, self.in_memory, self.progress = contract, in_memory, progress
        self.class_weights: list[float] | None = None

    @abstractmethod
    def tiles(self, split: str) -> list[Tile]:
        """All tiles of "train" or "test"."""

    def _chosen(self, tiles: Iterable[Tile], *, test: bool = False) -> list[Tile]:
        """Tiles of the events that are asked for."""
        kept = [t for t in tiles if self.events is None or t.event in self.events]
        held = set(self.test_events or ())
        if held:
            kept = [t for t in kept if (t.event in held) == test]
        if not kept:
            raise InputError("events", (self.events, self.test_events), "events that have tiles")
        return kept

    def _parts(self) -> tuple[list[Tile], list[Tile]]:
        """Tiles to train on, and to validate on."""
        tiles = self._chosen(self.tiles("train"))
        if self.views is not None:
            return tiles, []
        groups = [t.event if self.split_by == "event" else t.name for t in tiles]
        held = held_out(groups, self.val_share, self.seed)
        val = [t for t, group in zip(tiles, groups, strict=True) if group in held]
        return [t for t, group in zip(tiles, groups, strict=True) if group not in held], val

    def setup(self, stage: str) -> None:
        """List tiles and crops, take the share, measure the bands, count the classes.

        Raises:
            InputError: no crop fits a tile, no event is left, or a label is no class.
            BandError: the contract is of other bands.
            AssetError: a file cannot be read.
        """
        if stage in ("fit", "validate") and self.train_dataset is None:
            self._setup_fit()
        if stage in ("test", "predict") and self.test_dataset is None:
            if self.contract is None:
                allowed = "that of the checkpoint: what is tested was normalised by it"
                raise InputError("contract", None, allowed)
            # Events that are held out are tested on all their tiles.
            both = ("train", "test") if self.test_events else ("test",)
            tiles = self._chosen((t for s in both for t in self.tiles(s)), test=True)
            self.test_dataset = self.predict_dataset = PairTiles(tiles, in_memory=self.in_memory)
            self.test_aug = self.predict_aug = NormalisePairs(self.contract)

    def _setup_fit(self) -> None:
        train, val = self._parts()
        dataset = PairTiles(train, in_memory=self.in_memory)
        shapes = tile_shapes(dataset)
        crops = grid_crops(shapes, self.side)
        contract = self._known(dataset, crops)
        if self.views is None:
            draws, self.train_aug = self._labelled(dataset, crops, contract)
        else:
            draws = RandomCropSampler(shapes, self.side, self.length, self.seed)
            self.train_aug = self._views(contract, self.views)
        sampler = EpochSampler(draws, seed=self.seed)
        self.train_dataset, self.contract = dataset, contract
        self.train_sampler = sampler  # type: ignore[assignment]  # TorchGeo declares only its own
        if val:
            self.val_dataset = PairTiles(val, in_memory=self.in_memory)
            self.val_aug = NormalisePairs(contract)

    def _known(self, dataset: PairTiles, crops: list[Crop]) -> SensorContract:
        """The contract that was given, or one of statistics of some crops."""
        if self.contract is None:
            order = np.random.default_rng(self.seed).permutation(len(crops))[:STATISTICS_CROPS]
            some = [crops[n] for n in order]
            found = self._statistics(dataset, some, seed=self.seed, progress=self.progress)
            return found.contract(self.bands, self.res)
        self.contract.require(self.bands)
        return self.contract

    def _labelled(
        self, dataset: PairTiles, crops: list[Crop], contract: SensorContract
    ) -> tuple[Sampler[Any], nn.Module]:
        kept = stratified([crop.tile for crop in crops], self.label_share, self.seed)
        patches = self._counted(dataset, [crops[n] for n in kept])
        self.class_weights = class_weights(patches.counts.sum(axis=0))
        draws = LabelledPatchSampler(patches, self.length, self.seed)
        return draws, Dihedral(contract, seed=self.seed)

    def _views(self, contract: SensorContract, views: dict[str, Any]) -> PairViews:
        try:
            return PairViews(contract, self.view_size, **({"seed": self.seed} | views))
        except TypeError as error:
            raise InputError("views", views, f"arguments of PairViews ({error})") from error

    def _counted(self, dataset: PairTiles, crops: list[Crop]) -> LabelledPatches:
        """Usable pixels of each class in each crop; crops without any are left out."""
        kept, counts = [], []
        for crop in tqdm(crops, "labels", disable=not self.progress, leave=False):
            sample = dataset[crop]
            known = sample["mask"][sample["valid"].all(dim=0)].numpy()
            known = known[known != IGNORE]
            if known.size and known.max() >= len(self.class_names):
                raise InputError("mask", int(known.max()), f"0 to {len(self.class_names) - 1}")
            if known.size:
                kept.append(crop)
                counts.append(np.bincount(known, minlength=len(self.class_names)))
        if not kept:
            raise InputError("label_share", self.label_share, "more: no crop has a usable pixel")
        return LabelledPatches(kept, np.stack(counts))

    def _whole(self, dataset: PairTiles) -> DataLoader[Sample]:
        """Whole tiles, in order."""
        height, width = dataset.shape(0)
        return PairLoader(
            dataset,
            batch_size=max(1, self.batch_size * self.side**2 // (height * width)),
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            threads=self.threads,
            prefetch=self.prefetch,
        )

    def val_dataloader(  # type: ignore[override]  # TorchGeo declares one; Lightning takes a list
        self,
    ) -> DataLoader[Sample] | list[DataLoader[Sample]]:
        """Whole tiles of validation; none without a share."""
        if self.val_dataset is None:
            return []
        return self._whole(self._valid_attribute("val_dataset"))

    def test_dataloader(self) -> DataLoader[Sample]:
        """Whole tiles of the test."""
        return self._whole(self._valid_attribute("test_dataset"))

    def predict_dataloader(self) -> DataLoader[Sample]:
        """Whole tiles of the test."""
        return self._whole(self._valid_attribute("predict_dataset"))


class XBDDataModule(TiledDataModule):
    """xBD in TorchGeo's layout: 0.5 m or so, red, green, blue, five classes."""

    class_names = DAMAGE_CLASSES
    res = 0.5

    def tiles(self, split: str) -> list[Tile]:
        """Tiles of "train" or "test"."""
        return xbd_tiles(self.root, split)


class BRIGHTDataModule(TiledDataModule):
    """BRIGHT (DFC 2025) in TorchGeo's layout: optical before, radar after, four classes.

    The data set's own validation is the test, since labels of its test are not published.
    """

    class_names = ("background", "intact", "damaged", "destroyed")
    res = 0.5

    def tiles(self, split: str) -> list[Tile]:
        """Tiles of "train" or "test"."""
        return bright_tiles(self.root, {"test": "val"}.get(split, split))
