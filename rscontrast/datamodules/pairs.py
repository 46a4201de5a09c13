"""Temporal pairs for pretraining, from two tables to augmented batches."""

from collections.abc import Sequence
from typing import Any

import geopandas as gpd
from torch.utils.data import DataLoader
from torchgeo.datasets.utils import Sample

from rscontrast.augment import PairViews
from rscontrast.datamodules.base import ThreadedDataModule
from rscontrast.datamodules.draws import AREA, PairDraws, SameDraws, ShuffledSampler, derived
from rscontrast.datamodules.splits import ALL, split_pairs
from rscontrast.datasets import STACDataset, TemporalPairDataset
from rscontrast.datasets.cache import CachedPairs
from rscontrast.errors import InputError, whole
from rscontrast.samplers import EpochSampler
from rscontrast.stac import read_items
from rscontrast.stac.pairing.file import SomePairs, as_frame, select_items
from rscontrast.stac.pairing.split import NAMES
from rscontrast.stac.provider import Provider
from rscontrast.types import SensorContract

STATISTICS_PATCHES = 64
"""Patches over which the bands' statistics are estimated."""
STATISTICS = "statistics"
SEEDS = {name: number for number, name in enumerate((STATISTICS, *NAMES))}
"""Each draw has a seed of its own, so that the length of one does not change another."""


class PairDataModule(ThreadedDataModule):
    """Random patches of temporal pairs, made into views on the device."""

    def __init__(
        self,
        items: gpd.GeoDataFrame | str | None = None,
        pairs: SomePairs | str | None = None,
        bands: list[str] | None = None,
        patch_size: int = 96,
        batch_size: int = 64,
        length: int = 1024,
        view_size: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
        views: dict[str, Any] | None = None,
        tolerance: str = "1h",
        progress: bool = False,
        by: str = AREA,
        weights: str | None = None,
        min_valid: float | None = None,
        tries: int = 5,
        per_block: int | None = None,
        register: float | None = None,
        provider: Provider | str | None = None,
        splits: tuple[float, float, float] = ALL,
        split_block: float = 1.0,
        statistics_patches: int = STATISTICS_PATCHES,
        threads: int | None = None,
        prefetch: int | None = None,
        pin_memory: bool = True,
        cache: str | None = None,
    ) -> None:
        """Name what to draw from.

        Args:
            items: of :func:`rscontrast.stac.search`, or the path of its GeoParquet.
            pairs: of :func:`rscontrast.stac.pair_items`, or the path of its GeoParquet.
            bands: the channel order.
            patch_size: side of a patch, pixels.
            batch_size: pairs in a batch, 2 or more.
            length: pairs an epoch; validation and test have their share of it.
            view_size: side of a view, pixels; default: that of the patch.
            num_workers: reading processes; 0 reads in this one, by threads.
            seed: of places, dates, splits and statistics.
            views: arguments of :class:`rscontrast.augment.PairViews`.
            tolerance: as the pairs were made with.
            progress: show a bar while the statistics are estimated.
            by: what is equally likely: "area" (any patch on the ground of pairs), "place" or
                "pair".
            weights: how often a pair is drawn: a column of the pairs, or "season".
            min_valid: least share (0-1) of a patch's pixels that are valid on both dates.
            tries: patches that are read at most for one draw with ``min_valid``.
            per_block: patches of each visited block of a file, which is then decoded once for
                all; see :class:`rscontrast.samplers.BlockAlignedPairSampler` for its cost.
            register: move the second date onto the first, by at most so many pixels.
            provider: where bands lie in the assets.
            splits: shares of train, validation and test, by place; default: all is trained on.
            split_block: side of a block of places that stay together, degrees.
            statistics_patches: over which mean, deviation and percentiles are estimated.
            threads: that read at a time without workers; default: 8.
            prefetch: batches that are read ahead.
            pin_memory: page-locked batches, where there is a device to copy them to.
            cache: path of what ``rscontrast cache`` wrote, in place of ``items`` and ``pairs``.

        Raises:
            InputError: a value out of range, or a table that cannot be read.
            AssetError: the cache cannot be read.
            BandError: it is of other bands.
        """
        if batch_size < 2:
            raise InputError("batch_size", batch_size, "2 or more: negatives are other samples")
        whole("length", length, least=batch_size)
        draws = PairDraws(patch_size, by, weights, min_valid, tries, per_block, tolerance)
        whole("view_size", patch_size if view_size is None else view_size)
        super().__init__(patch_size, batch_size, length, num_workers, threads, prefetch, pin_memory)
        self.draws, self.seed, self.progress = draws, seed, progress
        self.view_size, self.views = view_size or patch_size, dict(views or {})
        self.register, self.provider = register, provider
        self.splits, self.split_block = tuple(splits), split_block
        self.statistics_patches = whole("statistics_patches", statistics_patches)
        self.contract: SensorContract | None = None
        self.cached = None if cache is None else self._cached(cache, bands)
        if self.cached is None:
            self._take(items, pairs, bands)

    def _take(
        self,
        items: gpd.GeoDataFrame | str | None,
        pairs: SomePairs | str | None,
        bands: Sequence[str] | None,
    ) -> None:
        for name, value in (("items", items), ("pairs", pairs), ("bands", bands)):
            if value is None:
                raise InputError(name, None, f"{name}, since no cache is given")
        self.items = read_items(items) if isinstance(items, str) else items
        self.pairs = as_frame(pairs)
        self.bands = tuple(bands or ())

    def _cached(self, path: str, bands: Sequence[str] | None) -> CachedPairs:
        """Open a cache; what it was made with cannot be chosen again."""
        cached = CachedPairs(path)
        made = PairDraws(self.draws.patch_size, tolerance=self.draws.tolerance)
        if (self.draws, self.register, self.provider, self.splits) != (made, None, None, ALL):
            allowed = "no rules of the draw with it (by, min_valid, splits, ...): it is drawn"
            raise InputError("cache", path, allowed)
        side = cached.attributes["rules"]["patch_size"]
        if self.patch_size != side:
            raise InputError("patch_size", self.patch_size, f"{side}, as the cache holds")
        if bands is not None:
            cached.contract.require(bands)
        self.bands = cached.contract.bands
        return cached

    def setup(self, stage: str) -> None:
        """Build datasets and samplers, and estimate the bands' statistics once.

        Raises:
            InputError: the tables do not fit each other, or the patch does not fit the places.
            AssetError: a file cannot be read.
        """
        if self.contract is not None:
            return
        if self.cached is None:
            contract = self._setup_drawn()
        else:
            contract, self.statistics = self.cached.contract, self.cached.attributes["statistics"]
            numbers = ShuffledSampler(len(self.cached), self.length, self.seed)
            self._use("train", self.cached, EpochSampler(numbers, seed=self.seed))
        self.train_aug = self.val_aug = self.test_aug = self._views(contract)
        self.contract = contract

    def _setup_drawn(self) -> SensorContract:
        shares = dict(zip(NAMES, self.splits, strict=True))
        parts = split_pairs(
            self.items, self.pairs, self.splits, block=self.split_block, seed=self.seed
        )
        for split, pairs in parts.items():
            images = pair_images(self.items, pairs, self.bands, self.provider)
            dataset = TemporalPairDataset(images, register=self.register)
            seed = derived(self.seed, SEEDS[split])
            if split == "train":
                contract = self._measured(dataset, images, pairs)
                draws = self.draws.sampler(dataset, pairs, self.length, seed)
            else:
                batches = round(self.length * shares[split] / shares["train"] / self.batch_size)
                length = max(1, batches) * self.batch_size
                draws = SameDraws(self.draws.sampler(dataset, pairs, length, seed), seed)
            self._use(split, dataset, EpochSampler(draws, seed=seed))
        return contract

    def _use(self, split: str, dataset: Any, sampler: Any) -> None:
        setattr(self, f"{split}_dataset", dataset)
        setattr(self, f"{split}_sampler", sampler)

    def _measured(
        self, dataset: TemporalPairDataset, images: STACDataset, pairs: gpd.GeoDataFrame
    ) -> SensorContract:
        """Statistics of some draws of the training split, from which it takes none."""
        seed = derived(self.seed, SEEDS[STATISTICS])
        draws = self.draws.sampler(dataset, pairs, self.statistics_patches, seed)
        # All ranks measure the same patches.
        alone = EpochSampler(draws, seed=seed, rank=0, world=1)
        found = self._statistics(dataset, alone, seed=self.seed, progress=self.progress)
        return SensorContract(
            self.bands, images.ground_res, tuple(found.mean.tolist()), tuple(found.std.tolist())
        )

    def _views(self, contract: SensorContract) -> PairViews:
        try:
            return PairViews(contract, self.view_size, **self.views)
        except TypeError as error:
            raise InputError("views", self.views, f"arguments of PairViews ({error})") from error

    def val_dataloader(  # type: ignore[override]  # TorchGeo declares one; Lightning takes a list
        self,
    ) -> DataLoader[Sample] | list[DataLoader[Sample]]:
        """Pairs of the places of validation, the same ones each time; none without a share."""
        return [] if self.val_dataset is None else super().val_dataloader()

    def test_dataloader(self) -> DataLoader[Sample]:
        """Pairs of the places of the test.

        Raises:
            InputError: they have no share.
        """
        if self.test_dataset is None:
            raise InputError("splits", self.splits, "a share above 0 for test, the third one")
        return super().test_dataloader()


def pair_images(
    items: gpd.GeoDataFrame,
    pairs: gpd.GeoDataFrame,
    bands: Sequence[str],
    provider: Provider | str | None = None,
) -> STACDataset:
    """Imagery of the items that the pairs name.

    Raises:
        InputError: the pairs name items that are not there, or items of several collections.
        BandError: an item lacks a band.
    """
    return STACDataset(select_items(items, pairs), bands=bands, provider=provider)
