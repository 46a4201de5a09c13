"""Are the embeddings worth something to a task with labels? Asked while a pretraining runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from rscontrast.errors import InputError, positive, whole
from rscontrast.metrics.embedding import (
    NEIGHBOURS,
    RIDGE,
    TEMPERATURE,
    accuracy,
    knn_predict,
    probe_predict,
)

MOST = 10_000
"""Labelled images that are looked at of each of the two loaders."""


class OnlineProbe(Callback):
    """Logs ``val_knn`` and ``val_probe``: accuracies on labelled images, epoch by epoch.

    The embeddings are those of ``module(images)``: the encoder's, before any head. What votes or
    is fitted is the training loader of ``data``, what is scored its validation loader. The run
    itself goes on as without it: weights, gradients, modes and random numbers are as they were.
    """

    def __init__(
        self,
        data: pl.LightningDataModule,
        every_n_epochs: int = 1,
        k: int = NEIGHBOURS,
        temperature: float = TEMPERATURE,
        ridge: float = RIDGE,
        most: int = MOST,
    ) -> None:
        """Take the labelled images.

        Args:
            data: any datamodule whose batches are dicts with ``image`` [B, C, H, W], normalised
                for the encoder by then, and ``label`` [B]. TorchGeo's are normalised by their
                ``val_aug`` or ``aug``, on both loaders.
            every_n_epochs: 1 or more; the last epoch is looked at in any case.
            k: neighbours that vote.
            temperature: of the vote.
            ridge: of the linear probe.
            most: labelled images that are looked at of each loader.

        Raises:
            InputError: a number out of range.
        """
        self.data = data
        self.every_n_epochs = whole("every_n_epochs", every_n_epochs)
        self.k, self.most = whole("k", k), whole("most", most)
        self.temperature = positive("temperature", temperature)
        self.ridge = positive("ridge", ridge)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Prepare the labelled images, where there is a training to look at."""
        if stage == "fit":
            with isolate_rng():
                if trainer.local_rank == 0:
                    self.data.prepare_data()
                trainer.strategy.barrier()
                self.data.setup("fit")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Score the epoch.

        Raises:
            InputError: a batch has no ``image`` or no ``label``.
        """
        epoch = trainer.current_epoch + 1
        last = epoch == trainer.max_epochs or trainer.global_step == trainer.max_steps
        if epoch % self.every_n_epochs and not last:
            return
        with _undisturbed(pl_module), torch.no_grad():
            train, labels = self._embedded(trainer, pl_module, self.data.train_dataloader())
            test, truth = self._embedded(trainer, pl_module, self.data.val_dataloader())
            if not (len(train) and len(test)):
                return
            votes = knn_predict(train, labels, test, k=self.k, temperature=self.temperature)
            fitted = probe_predict(train, labels, test, ridge=self.ridge)
            found = {"val_knn": accuracy(votes, truth), "val_probe": accuracy(fitted, truth)}
        # Each rank looks at what its loaders give: the same, or a share.
        pl_module.log_dict(found, sync_dist=True, batch_size=len(test))

    def _embedded(
        self, trainer: pl.Trainer, module: pl.LightningModule, loader: Any
    ) -> tuple[Tensor, Tensor]:
        """Embeddings [N, D] and labels [N] of a loader; those that are not finite are left out."""
        embeddings, labels, count = [], [], 0
        precision = trainer.precision_plugin
        for batch in loader:
            images, label = self._read(batch, module.device)
            with precision.forward_context():
                found = module(precision.convert_input(images)).float()
            usable = found.isfinite().all(1)
            embeddings.append(found[usable][: self.most - count])
            labels.append(label[usable][: self.most - count].long())
            count += len(embeddings[-1])
            if count >= self.most:
                break
        if not embeddings:
            return torch.zeros(0, 1), torch.zeros(0, dtype=torch.int64)
        return torch.cat(embeddings), torch.cat(labels)

    def _read(self, batch: Any, device: torch.device) -> tuple[Tensor, Tensor]:
        if not (isinstance(batch, dict) and {"image", "label"} <= set(batch)):
            got = sorted(batch) if isinstance(batch, dict) else type(batch).__name__
            raise InputError("data", got, "batches that are dicts with image and label")
        moved = {name: batch[name].to(device) for name in ("image", "label")}
        # TorchGeo's datamodules normalise after the transfer, by the stage of their trainer, of
        # which these have none.
        normalise = getattr(self.data, "val_aug", None) or getattr(self.data, "aug", None)
        moved = moved if normalise is None else normalise(moved)
        return moved["image"], moved["label"]


@contextmanager
def _undisturbed(module: nn.Module) -> Iterator[None]:
    """Evaluation mode and random numbers of its own; afterwards all is as before."""
    modes = {part: part.training for part in module.modules()}
    with isolate_rng():
        torch.manual_seed(0)  # so that a shuffled loader gives the same images each time
        module.eval()
        try:
            yield
        finally:
            for part, training in modes.items():
                part.training = training
