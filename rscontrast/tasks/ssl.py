"""What every self-supervised task shares: encoder, views of a batch, and the loop around a loss."""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchgeo.datasets.utils import Sample

from rscontrast.augment.layout import as_pair
from rscontrast.errors import InputError, TrainingError, choose, flag, whole
from rscontrast.losses import LossOutput, gather_embeddings
from rscontrast.models.encoder import create_encoder, embed
from rscontrast.models.recompute import recompute_blocks
from rscontrast.models.start import load_start
from rscontrast.tasks.base import ScheduledTask
from rscontrast.tasks.optimisers import WARMUP
from rscontrast.tasks.predicted import Embedded, embed_batch
from rscontrast.tasks.signals import Signals

SAMPLE_WEIGHTS = ("share", "usable")
"""By usable pixels: their share, or 1 for any and 0 for none."""


@dataclass(frozen=True, eq=False)
class Views:
    """A batch as a loss sees it."""

    view1: Tensor
    """[B, C, H, W], normalised."""
    view2: Tensor
    """As ``view1``, of the same places."""
    weight: Tensor | None
    """[B], 0 where a view has no usable pixel; None where the batch does not say."""
    labels: Tensor | None
    """[B] class of each sample, for diagnostics only."""
    index: Tensor | None
    """[B] number of each sample in the data set, for losses that remember samples."""


class SSLTask(ScheduledTask):
    """Learn an encoder from two views of each place.

    The encoder is ``self.model``, under which name TorchGeo's decoders find it in a checkpoint of
    Lightning's too. Batches hold views already: the datamodule augments on the device. A method
    says what its loss is in :meth:`contrast`.

    All that a step draws (dropout, mixing) comes from the seed, the rank and the number of the
    step, so a run that was stopped goes on with the very draws that it would have made.
    """

    monitor = "train_loss"

    def __init__(
        self,
        model: str = "resnet18",
        in_channels: int = 4,
        weights: str | None = None,
        lr: float = 1e-3,
        weight_decay: float = 1e-4,
        *,
        optimizer: str = "adamw",
        momentum: float = 0.9,
        warmup: float = WARMUP,
        sample_weight: str = "usable",
        compile: bool | str = False,  # noqa: A002  # as torch and Lightning call it
        gradient_checkpointing: bool = False,
        channels_last: bool = False,
        seed: int = 0,
    ) -> None:
        """Build encoder, heads and losses.

        Args:
            model: name of the encoder, see :func:`rscontrast.models.create_encoder`.
            in_channels: bands of one date.
            weights: to start from: a checkpoint of ours or of TorchGeo's, or the name of weights
                of TorchGeo's, see :func:`rscontrast.models.start.load_start`.
            lr: peak learning rate.
            weight_decay: of the weights of layers.
            optimizer: "adamw", "sgd" or "lars".
            momentum: of "sgd" and "lars".
            warmup: over which the learning rate rises: share of all steps below 1, else steps.
            sample_weight: of a sample without a usable pixel in a view it is 0; of others 1
                ("usable") or the mean share of usable pixels ("share").
            compile: compile the encoder, by torch's default or the backend of this name; the keys
                of a checkpoint stay.
            gradient_checkpointing: compute the encoder's stages again in the backward pass, for
                less memory.
            channels_last: keep images and encoder in that layout, in which tensor cores work.
            seed: of what the steps draw.

        Raises:
            InputError: an unknown name or a value out of range.
            CheckpointError: ``weights`` is no encoder, or of another one.
            BandError: it has another number of bands.
        """
        super().__init__()
        self.signals = Signals()
        choose("sample_weight", sample_weight, SAMPLE_WEIGHTS)
        whole("seed", seed, least=0)
        self._scale()

    def _scale(self) -> None:
        """Bring the encoders to what they run as, last: copies are of the plain encoder."""
        hp = self.hparams
        flag("channels_last", hp["channels_last"])
        flag("gradient_checkpointing", hp["gradient_checkpointing"])
        if isinstance(hp["compile"], str):
            choose("compile", hp["compile"], torch.compiler.list_backends(exclude_tags=()))
        else:
            flag("compile", hp["compile"])
        if hp["compile"] and hp["gradient_checkpointing"]:
            allowed = "one of both: what is compiled cannot leave out norms when it is run again"
            raise InputError("compile", True, allowed)
        if hp["gradient_checkpointing"]:
            recompute_blocks(self.model)
        for encoder in self.encoders():
            if hp["channels_last"]:
                encoder.to(memory_format=torch.channels_last)
            if hp["compile"]:
                encoder.compile(backend="inductor" if hp["compile"] is True else hp["compile"])

    def encoders(self) -> list[nn.Module]:
        """Every encoder that images pass."""
        return [self.model]

    def configure_models(self) -> None:
        """Build the encoder; a method adds heads and copies."""
        hp = self.hparams
        self.model: nn.Module = create_encoder(hp["model"], hp["in_channels"])
        if hp["weights"] is not None:
            load_start(self.model, hp["weights"], hp["model"], hp["in_channels"])

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings before the projection head: [B, C, H, W] -> [B, D]."""
        return embed(self.model, images)

    @abstractmethod
    def contrast(self, batch: Sample) -> LossOutput:
        """Loss of a batch, over the samples of all processes.

        Args:
            batch: ``image`` [B, 2, C, H, W] or [B, 2C, H, W], normalised; ``valid`` [B, 2, H, W],
                ``label`` [B] and ``index`` [B] where known.
        """

    def views(self, batch: Sample) -> Views:
        """Take a batch apart; all that is known of its samples."""
        pair = as_pair(batch["image"], self.hparams["in_channels"])
        view1, view2 = pair.unbind(1)
        if self.hparams["channels_last"]:
            view1, view2 = (v.contiguous(memory_format=torch.channels_last) for v in (view1, view2))
        weight = _weight(batch.get("valid"), self.hparams["sample_weight"])
        return Views(view1, view2, weight, batch.get("label"), batch.get("index"))

    def known(self, views: Views, criterion: nn.Module) -> dict[str, Tensor]:
        """What a loss is told of the samples of all ranks, by the names of its arguments.

        Raises:
            TrainingError: it remembers samples, and the batch does not say which they are.
        """
        told = {"weight": views.weight, "labels": views.labels}
        if getattr(criterion, "needs_index", False):
            if views.index is None:
                remedy = "the loss remembers samples: train from a cache, which numbers its pairs"
                raise TrainingError(f"batch without 'index': {remedy}")
            told["index"] = views.index
        return {k: gather_embeddings(v) for k, v in told.items() if v is not None}

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Loss of one step.

        Raises:
            TrainingError: it is not finite.
        """
        with self._drawing(self.current_epoch, batch_idx):
            loss, diagnostics = self.contrast(batch)
        named = {f"train_{k}": v for k, v in diagnostics.items()}
        # A dense loss is this rank's part of the mean.
        told: dict[str, Any] = {"batch_size": len(batch["image"]), "sync_dist": True}
        self.log("train_loss", loss, prog_bar=True, **told)
        self.log_dict(named, **told)
        return self.finite(loss)

    @contextmanager
    def _drawing(self, *step: int) -> Iterator[None]:
        """Draw by seed, rank and step; the random numbers of all else stay as they were."""
        devices = [self.device] if self.device.type == "cuda" else []
        words = self.hparams["seed"], self.global_rank, *step
        with torch.random.fork_rng(devices):
            torch.manual_seed(int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0]))
            yield

    @torch.no_grad()
    def validation_step(self, batch: Sample, batch_idx: int) -> None:
        """Log the loss of a batch that is not trained on; collect what else it says."""
        # Without the epoch: one validation is compared with the next.
        with self._drawing(batch_idx):
            loss, diagnostics = self.contrast(batch)
        self.log("val_loss", loss, batch_size=len(batch["image"]), sync_dist=True)
        views = self.views(batch)
        self.signals.update(self(views.view1), self(views.view2), views.weight, diagnostics)

    def on_validation_epoch_end(self) -> None:
        """Log what the epoch says, see :class:`rscontrast.tasks.signals.Signals`."""
        found = self.signals.compute()
        self.signals.reset()
        self.log_dict({f"val_{name}": value for name, value in found.items()}, sync_dist=True)

    def predict_step(self, batch: Sample, batch_idx: int) -> Embedded:
        """Embed each date of each patch; where it is and when comes along."""
        return embed_batch(self, batch, self.hparams["in_channels"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the sensor contract, with which Lightning's checkpoint is an encoder's too."""
        contract = getattr(getattr(self.trainer, "datamodule", None), "contract", None)
        if contract is not None:
            checkpoint["contract"] = contract.to_dict()


def _weight(valid: Tensor | None, kind: str) -> Tensor | None:
    if valid is None:
        return None
    share = valid.float().flatten(2).mean(dim=2)
    usable = (share > 0).all(dim=1)
    return torch.where(usable, share.mean(dim=1), 0.0) if kind == "share" else usable.float()
