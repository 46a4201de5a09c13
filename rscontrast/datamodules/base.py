"""What our datamodules share: loaders that read ahead, and statistics by one."""

from collections.abc import Iterable
from typing import Any

from torch.utils.data import DataLoader, Dataset
from torchgeo.datamodules import GeoDataModule
from torchgeo.datasets.utils import Sample
from tqdm import tqdm

from rscontrast.augment.replay import Seeds
from rscontrast.datamodules.statistics import BandStatistics, band_statistics
from rscontrast.datasets import STACDataset
from rscontrast.errors import InputError
from rscontrast.loader import PairLoader, check_reading


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
        check_reading(num_workers, threads, prefetch)
        super().__init__(STACDataset, batch_size, patch_size, length, num_workers)
        self.threads, self.prefetch, self.pin_memory = threads, prefetch, pin_memory
        self.statistics: dict[str, Any] | None = None
        self._training: PairLoader | None = None

    def state_dict(self) -> dict[str, Any]:
        """Where the training is in its draws and views, and for the record the bands' statistics.

        Lightning puts it into its checkpoints. It asks the loader too, but does not give a loader
        its state back if a task looked at ``estimated_stepping_batches``, as ours do for their
        schedule.
        """
        if self._training is None:
            return {}
        own = {"statistics": self.statistics, "views": self._seeds.calls}
        return self._training.state_dict() | own

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the draws and views from there; :meth:`setup` was called.

        Raises:
            InputError: the state is of other draws: of another seed or length.
        """
        if "sampler" not in state_dict:
            raise InputError("state", sorted(state_dict), "the state of such a datamodule")
        sampler: Any = self.train_sampler
        sampler.load_state_dict(state_dict["sampler"])
        self._seeds.calls = state_dict.get("views", 0)

    @property
    def _seeds(self) -> Seeds:
        """Of the views of the training; augmentations that are not ours have none of their own."""
        return getattr(self.train_aug, "seeds", None) or Seeds(None)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Make views: of each pass of validation the same, however far the training is."""
        if self.trainer is not None and self.trainer.training:
            self._restart("val")
        return super().on_after_batch_transfer(batch, dataloader_idx)

    def _restart(self, split: str) -> None:
        """Let the views of a split begin at its first draws."""
        seeds = getattr(getattr(self, f"{split}_aug", None), "seeds", None)
        if seeds is not None:
            seeds.calls = 0

    def train_dataloader(self) -> DataLoader[Sample]:
        """Batches to train on.

        Raises:
            InputError: a rank would have none.
        """
        self._training = self._dataloader_factory("train")
        return self._training

    def _dataloader_factory(self, split: str) -> PairLoader:
        if split != "train":
            self._restart(split)
        sampler = self._valid_attribute(f"{split}_sampler")
        loader = PairLoader(
            self._valid_attribute(f"{split}_dataset"),
            self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            # A step over a rest would weigh as much as one over a batch.
            drop_last=split == "train",
            persistent_workers=self.num_workers > 0,
            threads=self.threads,
            prefetch=self.prefetch,
        )
        if not len(loader):
            ranks = sampler.num_replicas
            allowed = f"{ranks * self.batch_size} or more: a batch of {self.batch_size} a rank"
            raise InputError("length", self.length, f"{allowed}, of which there are {ranks}")
        return loader

    def _statistics(
        self, dataset: Dataset[Sample], draws: Iterable[Any], *, seed: int, progress: bool
    ) -> BandStatistics:
        """Statistics of the bands over some patches, which are kept for the record of the run."""
        patches = PairLoader(dataset, batch_size=None, sampler=draws, threads=self.threads)
        bar = tqdm(patches, "statistics", disable=not progress, leave=False)
        found = band_statistics(bar, seed=seed)
        self.statistics = found.to_dict()
        return found
