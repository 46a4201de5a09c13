"""What our datamodules share: loaders that read ahead, and statistics by one."""

from collections.abc import Iterable
from typing import Any

from torch.utils.data import DataLoader, Dataset
from torchgeo.datamodules import GeoDataModule
from torchgeo.datasets.utils import Sample
from tqdm import tqdm

from rscontrast.datamodules.statistics import BandStatistics, band_statistics
from rscontrast.datasets import STACDataset
from rscontrast.loader import PairLoader


class ThreadedDataModule(GeoDataModule):
    """A GeoDataModule whose batches are read by threads of this process, or by workers."""

    length: int  # TorchGeo's may be None; here it is always given

    def __init__(
        self,
        patch_size: int,
        batch_size: int,
        length: int,
        num_workers: int,
        threads: int | None,
        prefetch: int | None,
        pin_memory: bool,
    ) -> None:
        """Take what a :class:`rscontrast.loader.PairLoader` is told."""
        super().__init__(STACDataset, batch_size, patch_size, length, num_workers)
        self.threads, self.prefetch, self.pin_memory = threads, prefetch, pin_memory
        self.statistics: dict[str, Any] | None = None
        self._training: PairLoader | None = None

    def state_dict(self) -> dict[str, Any]:
        """Where the training is in its draws; Lightning puts it into its checkpoints.

        It asks the loader too, but does not give a loader its state back if a task looked at
        ``estimated_stepping_batches``, as ours do for their schedule.
        """
        return {} if self._training is None else self._training.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the draws from there; :meth:`setup` was called."""
        sampler: Any = self.train_sampler
        sampler.load_state_dict(state_dict["sampler"])

    def train_dataloader(self) -> DataLoader[Sample]:
        """Batches to train on."""
        self._training = self._dataloader_factory("train")
        return self._training

    def _dataloader_factory(self, split: str) -> PairLoader:
        dataset = self._valid_attribute(f"{split}_dataset")
        return PairLoader(
            dataset,
            self.batch_size,
            sampler=self._valid_attribute(f"{split}_sampler"),
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            # Negatives are the other samples of a batch: a rest of one would have none.
            drop_last=True,
            persistent_workers=self.num_workers > 0,
            threads=self.threads,
            prefetch=self.prefetch,
        )

    def _statistics(
        self, dataset: Dataset[Sample], draws: Iterable[Any], *, seed: int, progress: bool
    ) -> BandStatistics:
        """Statistics of the bands over some patches, which are kept for the record of the run."""
        patches = PairLoader(dataset, batch_size=None, sampler=draws, threads=self.threads)
        bar = tqdm(patches, "statistics", disable=not progress, leave=False)
        found = band_statistics(bar, seed=seed)
        self.statistics = found.to_dict()
        return found
