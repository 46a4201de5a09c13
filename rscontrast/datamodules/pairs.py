"""Temporal pairs for pretraining, from two tables to augmented batches."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import geopandas as gpd
from torch.utils.data import DataLoader
from torchgeo.datasets.utils import Sample

from rscontrast.augment import PairViews
from rscontrast.datamodules.base import ThreadedDataModule
from rscontrast.datamodules.draws import AREA, PairDraws, SameDraws, ShuffledSampler, derived
from rscontrast.datamodules.patches import DatedPatches, NormalisePatches
from rscontrast.datamodules.splits import ALL, require_shares, split_pairs
from rscontrast.datasets import STACDataset, STACDepth, TemporalPairDataset
from rscontrast.datasets.cache import CachedPairs
from rscontrast.datasets.depth import DEPTH, Rasters
from rscontrast.errors import InputError, positive, whole
from rscontrast.loader import PairLoader
from rscontrast.samplers import EpochSampler
from rscontrast.stac import read_items
from rscontrast.stac.pairing.file import SomePairs, as_frame, select_items
from rscontrast.stac.pairing.split import NAMES
from rscontrast.stac.provider import Provider
from rscontrast.types import SensorContract

PATCH_SIZE, LENGTH = 96, 1024
"""Side of a patch and pairs an epoch, where a cache does not say them."""
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
        patch_size: int | None = None,
        batch_size: int = 64,
        length: int | None = None,
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
        depth: Rasters | None = None,
        depth_band: str = DEPTH,
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
            patch_size: side of a patch, pixels; default: the cache's, or 96.
            batch_size: pairs in a batch, 2 or more.
            length: pairs an epoch; validation and test have their share of it. Default: all of
                the cache, or 1024.
            view_size: side of a view, pixels; default: that of the patch.
            num_workers: reading processes; 0 reads in this one, by threads.
            seed: of places, dates, splits, statistics and views.
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
            depth: terrain (heights, coherence) that goes with the views as ``depth``: items,
                the path of their GeoParquet, or the path of a raster.
            depth_band: asset key or band of those items.
            provider: where bands lie in the assets.
            splits: shares of train, validation and test, by place; default: all is trained on.
            split_block: side of a block of places that stay together, degrees: small enough that
                there are several blocks for each split.
            statistics_patches: over which mean, deviation and percentiles are estimated.
            threads: that read at a time without workers; default: 4.
            prefetch: batches that are read ahead.
            pin_memory: page-locked batches, where there is a device to copy them to.
            cache: path of what ``rscontrast cache`` wrote, in place of ``items``, ``pairs`` and
                all that says what is drawn from them.

        Raises:
            InputError: a value out of range, or a table that cannot be read.
            AssetError: the cache cannot be read.
            BandError: it is of other bands.
        """
        if batch_size < 2:
            raise InputError("batch_size", batch_size, "2 or more: negatives are other samples")
        self.splits, self.split_block = require_shares(splits), positive("split_block", split_block)
        self.register, self.provider = register, provider
        self.depth, self.depth_band = depth, depth_band
        self.statistics_patches = whole("statistics_patches", statistics_patches)
        cached = None
        if cache is not None:
            self._refuse_beside_cache({
                "items": items, "pairs": pairs, "tolerance": tolerance, "by": by,
                "weights": weights, "min_valid": min_valid, "tries": tries,
                "per_block": per_block, "register": register, "provider": provider, "depth": depth,
                "splits": self.splits, "split_block": split_block,
                "statistics_patches": statistics_patches,
            })  # fmt: skip
            cached = CachedPairs(cache)
            patch_size = _cached_size(cached, patch_size)
            if batch_size > len(cached):
                allowed = f"up to {len(cached)}, the number of cached pairs"
                raise InputError("batch_size", batch_size, allowed)
        default = LENGTH if cached is None else len(cached)
        length = whole("length", default if length is None else length, least=batch_size)
        side = PATCH_SIZE if patch_size is None else patch_size
        self.draws = PairDraws(side, by, weights, min_valid, tries, per_block, tolerance)
        self.view_size = whole("view_size", side if view_size is None else view_size)
        super().__init__(side, batch_size, length, num_workers, threads, prefetch, pin_memory)
        self.seed, self.progress = int(whole("seed", seed, least=0)), progress
        if not isinstance(views, Mapping | None):
            raise InputError("views", views, "arguments of PairViews, each with its name")
        self.views, self.cached = dict(views or {}), cached
        self.contract: SensorContract | None = None
        # Only draws with min_valid say how many patches were read for them.
        self.redraws = None if min_valid is None else {"drawn": 0, "read": 0}
        if cached is None:
            self._take(items, pairs, bands)
        else:
            if bands is not None:
                cached.contract.require(bands)
            self.bands = cached.contract.bands

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

    @classmethod
    def _refuse_beside_cache(cls, given: Mapping[str, Any]) -> None:
        """What a cache was made with cannot be chosen again."""
        parameters = inspect.signature(cls.__init__).parameters
        for name, value in given.items():
            default = parameters[name].default
            if value is not default and (default is None or value != default):
                plain = isinstance(value, str | int | float | tuple)
                allowed = "not given with a cache, which holds what was drawn by other rules"
                raise InputError(name, value if plain else type(value).__name__, allowed)

    def setup(self, stage: str) -> None:
        """Build datasets and samplers, and estimate the bands' statistics once.

        Raises:
            InputError: the tables do not fit each other, or the patch does not fit the places.
            AssetError: a file cannot be read.
        """
        if self.contract is None:
            self._setup_views()
        if stage == "predict":
            self._setup_predict()

    def rules(self) -> dict[str, Any]:
        """What is drawn and how, once it is set up: of equal rules and seed comes the same."""
        contract = None if self.contract is None else self.contract.to_dict()
        drawn = self.draws.to_dict()
        drawn["weights_by"] = drawn.pop("weights")
        return drawn | {
            "contract": contract,
            "bands": self.bands,
            "batch_size": self.batch_size,
            "length": self.length,
            "view_size": self.view_size,
            "views": self.views,
            "register": self.register,
            "depth": self.depth is not None,
            "depth_band": self.depth_band,
            "splits": self.splits,
            "split_block": self.split_block,
            "seed": self.seed,
        }

    def _setup_views(self) -> None:
        if self.cached is None:
            contract = self._setup_drawn()
        else:
            contract, self.statistics = self.cached.contract, self.cached.attributes["statistics"]
            numbers = ShuffledSampler(len(self.cached), self.length, self.seed)
            self._use("train", self.cached, EpochSampler(numbers, seed=self.seed))
        self.train_aug, self.val_aug, self.test_aug = (self._views(contract, n) for n in NAMES)
        self.contract = contract

    def _setup_predict(self) -> None:
        """Each patch at each date of all splits, normalised as the training was."""
        if self.cached is not None:
            allowed = "None, but items and pairs: a cache does not say where its patches lie"
            raise InputError("cache", str(self.cached.path), allowed)
        images = pair_images(self.items, self.pairs, self.bands, self.provider)
        size, tolerance = int(self.draws.patch_size), self.draws.tolerance
        self.predict_dataset = DatedPatches(images, self.pairs, size, tolerance)
        self._normalise_predictions()

    def _normalise_predictions(self) -> None:
        if self.contract is not None:
            self.predict_aug = NormalisePatches(self.contract)

    def _setup_drawn(self) -> SensorContract:
        shares = dict(zip(NAMES, self.splits, strict=True))
        parts = split_pairs(
            self.items, self.pairs, self.splits, block=self.split_block, seed=self.seed
        )
        terrain = []
        if self.depth is not None:
            terrain = [STACDepth(self.depth, band=self.depth_band, provider=self.provider)]
        for split, pairs in parts.items():
            images = pair_images(self.items, pairs, self.bands, self.provider)
            dataset = TemporalPairDataset(images, extras=terrain, register=self.register)
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
        return found.contract(self.bands, images.ground_res)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Count the patches that were read for the draws that are trained on."""
        if self.redraws and self.trainer is not None and self.trainer.training:
            self.redraws["drawn"] += len(batch["tries"])
            self.redraws["read"] += int(batch["tries"].sum())
        return super().on_before_batch_transfer(batch, dataloader_idx)

    def state_dict(self) -> dict[str, Any]:
        """As the base; with ``min_valid`` also how many patches this rank read for its draws."""
        found = super().state_dict()
        return found | {"redraws": dict(self.redraws)} if found and self.redraws else found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As the base; to predict, only the statistics that the encoder was trained with."""
        if self.contract is not None and self.predict_dataset is not None:
            mean, std = (tuple(state_dict["statistics"][name]) for name in ("mean", "std"))
            self.contract = replace(self.contract, mean=mean, std=std)
            self._normalise_predictions()
            return
        super().load_state_dict(state_dict)
        if self.redraws:
            self.redraws = dict(state_dict.get("redraws", self.redraws))

    def _views(self, contract: SensorContract, split: str) -> PairViews:
        seed = whole("seed", self.views.get("seed", self.seed), least=0)
        own = derived(seed, SEEDS[split])
        try:
            return PairViews(contract, self.view_size, **{**self.views, "seed": own})
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

    def predict_dataloader(self) -> DataLoader[Sample]:
        """Each patch of a grid over each place, at each of its dates, in a fixed order."""
        return PairLoader(
            self._valid_attribute("predict_dataset"),
            batch_size=self.batch_size,  # by name: Lightning makes it anew with another one
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            threads=self.threads,
            prefetch=self.prefetch,
        )


def _cached_size(cached: CachedPairs, patch_size: int | None) -> int:
    side = int(cached.attributes["rules"]["patch_size"])
    if patch_size not in (None, side):
        raise InputError("patch_size", patch_size, f"{side}, as the cache holds")
    return side


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
