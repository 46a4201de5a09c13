"""Temporal pairs for pretraining, from two tables to augmented batches."""

from typing import Any

import geopandas as gpd
import numpy as np
from torch.utils.data import DataLoader
from torchgeo.datamodules import GeoDataModule
from torchgeo.datasets.utils import Sample
from tqdm import tqdm

from rscontrast.augment import PairViews
from rscontrast.datamodules.statistics import band_statistics
from rscontrast.datasets import STACDataset, TemporalPairDataset
from rscontrast.errors import InputError, whole
from rscontrast.samplers import RandomPlaceSampler, TemporalPairSampler
from rscontrast.stac import read_items
from rscontrast.stac.pairing.file import SomePairs, as_frame, select_items
from rscontrast.types import SensorContract

STATISTICS_PATCHES = 64
"""Patches over which the bands' statistics are estimated."""


class PairDataModule(GeoDataModule):
    """Random patches of temporal pairs, made into views on the device."""

    length: int  # TorchGeo's may be None; here it is always given

    def __init__(
        self,
        items: gpd.GeoDataFrame | str,
        pairs: SomePairs | str,
        bands: list[str],
        patch_size: int = 96,
        batch_size: int = 64,
        length: int = 1024,
        view_size: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
        views: dict[str, Any] | None = None,
        tolerance: str = "1h",
        progress: bool = False,
    ) -> None:
        """Name what to draw from.

        Args:
            items: of :func:`rscontrast.stac.search`, or the path of its GeoParquet.
            pairs: of :func:`rscontrast.stac.pair_items`, or the path of its GeoParquet.
            bands: the channel order.
            patch_size: side of a patch, pixels.
            batch_size: pairs in a batch, 2 or more.
            length: pairs an epoch.
            view_size: side of a view, pixels; default: that of the patch.
            num_workers: reading processes; 0 reads in this one.
            seed: of places, dates and statistics.
            views: arguments of :class:`rscontrast.augment.PairViews`.
            tolerance: as the pairs were made with.
            progress: show a bar while the statistics are estimated.

        Raises:
            InputError: a value out of range, or a table that cannot be read.
        """
        if batch_size < 2:
            raise InputError("batch_size", batch_size, "2 or more: negatives are other samples")
        whole("length", length, least=batch_size)
        whole("patch_size", patch_size)
        whole("view_size", patch_size if view_size is None else view_size)
        super().__init__(STACDataset, batch_size, patch_size, length, num_workers)
        self.items = read_items(items) if isinstance(items, str) else items
        self.pairs = as_frame(pairs)
        self.bands, self.seed = tuple(bands), seed
        self.view_size, self.views = view_size or patch_size, dict(views or {})
        self.tolerance, self.progress = tolerance, progress
        self.contract: SensorContract | None = None

    def setup(self, stage: str) -> None:
        """Build the dataset and the sampler, and estimate the bands' statistics once.

        Raises:
            InputError: the tables do not fit each other, or the patch does not fit the places.
            AssetError: a file cannot be read.
        """
        if self.contract is not None:
            return
        images = pair_images(self.items, self.pairs, self.bands)
        dataset = TemporalPairDataset(images)
        # Statistics must not take draws from training, or their number would change the run.
        look, draw = np.random.default_rng(self.seed).spawn(2)
        patches = self._sampler(dataset, STATISTICS_PATCHES, look)
        patches = tqdm(patches, "statistics", disable=not self.progress, leave=False)
        mean, std = band_statistics(dataset[place] for place in patches)
        self.contract = SensorContract(
            self.bands, images.ground_res, tuple(mean.tolist()), tuple(std.tolist())
        )
        self.train_dataset = dataset
        self.train_sampler = self._sampler(dataset, self.length, draw)
        self.train_aug = self._views(self.contract)

    def _views(self, contract: SensorContract) -> PairViews:
        try:
            return PairViews(contract, self.view_size, **self.views)
        except TypeError as error:
            raise InputError("views", self.views, f"arguments of PairViews ({error})") from error

    def _sampler(
        self, dataset: TemporalPairDataset, length: int, generator: np.random.Generator
    ) -> Any:
        dates = TemporalPairSampler(
            dataset, pairs=self.pairs, tolerance=self.tolerance, generator=generator
        )
        return (
            RandomPlaceSampler(
                dataset, size=self.patch_size, length=length, roi=dates.roi, generator=generator
            )
            @ dates
        )

    def val_dataloader(  # type: ignore[override]  # TorchGeo declares one; Lightning takes a list
        self,
    ) -> list[DataLoader[Sample]]:
        """No validation set: pretraining is judged by what is built on it."""
        return []


def pair_images(
    items: gpd.GeoDataFrame, pairs: gpd.GeoDataFrame, bands: tuple[str, ...]
) -> STACDataset:
    """Imagery of the items that the pairs name.

    Raises:
        InputError: the pairs name items that are not there, or items of several collections.
        BandError: an item lacks a band.
    """
    return STACDataset(select_items(items, pairs), bands=bands)
