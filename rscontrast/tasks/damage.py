"""Segmentation of what changed between two dates: damage classes, or change and no change."""

from collections.abc import Sequence

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torchgeo.datasets.utils import Sample

from rscontrast.augment.layout import as_pair
from rscontrast.errors import InputError
from rscontrast.models.checkpoint import load_encoder
from rscontrast.models.damage import SiameseSegmenter
from rscontrast.tasks.base import ScheduledTask
from rscontrast.types import IGNORE


class DamageSegmentation(ScheduledTask):
    """Fine-tune a Siamese segmenter: cross-entropy plus Dice over the labelled, usable pixels."""

    def __init__(
        self,
        model: str = "resnet18",
        decoder: str = "unet",
        in_channels: int = 4,
        classes: int = 5,
        weights: str | None = None,
        class_weights: Sequence[float] | None = None,
        freeze_encoder: bool = False,
        lr: float = 1e-3,
        weight_decay: float = 1e-4,
    ) -> None:
        """Build the segmenter.

        Args:
            model: name of the encoder.
            decoder: name in :data:`rscontrast.models.decoders.DECODERS`.
            in_channels: bands of one date.
            classes: number of classes, background included.
            weights: checkpoint of a pretrained encoder; None: random.
            class_weights: weight of each class in the cross-entropy; None: all 1.
            freeze_encoder: train only the decoder.
            lr: peak learning rate.
            weight_decay: of the weights of layers.

        Raises:
            InputError: an unknown name or a value out of range.
            CheckpointError: ``weights`` is no encoder of ours.
            BandError: it has another number of bands.
        """
        super().__init__()

    def configure_models(self) -> None:
        """Build the segmenter, its encoder from ``weights`` where they are given."""
        hp = self.hparams
        self.model = SiameseSegmenter(hp["model"], hp["decoder"], hp["in_channels"], hp["classes"])
        if hp["weights"] is not None:
            start = load_encoder(hp["weights"])
            start.require(hp["model"], hp["in_channels"])
            self.model.encoder.load_state_dict(start.module.state_dict())
        self.model.encoder.requires_grad_(not hp["freeze_encoder"])

    def on_train_epoch_start(self) -> None:
        """Keep a frozen encoder's norms from going on to learn the images' statistics."""
        if self.hparams["freeze_encoder"]:
            self.model.encoder.eval()

    def configure_losses(self) -> None:
        """Build the two terms of the loss."""
        weights = self.hparams["class_weights"]
        if weights is not None and len(weights) != self.hparams["classes"]:
            raise InputError("class_weights", weights, f"{self.hparams['classes']} numbers")
        tensor = None if weights is None else torch.tensor(weights, dtype=torch.float32)
        self.cross_entropy = nn.CrossEntropyLoss(weight=tensor, ignore_index=IGNORE)
        self.dice = smp.losses.DiceLoss("multiclass", ignore_index=IGNORE)

    def step(self, batch: Sample) -> Tensor:
        """Loss of a batch.

        Args:
            batch: ``image`` in either layout, ``valid`` [B, 2, H, W] and ``mask`` [B, H, W].
        """
        mask = batch["mask"].masked_fill(~batch["valid"].all(dim=1), IGNORE)
        logits = self.model(as_pair(batch["image"], self.hparams["in_channels"]))
        if (mask == IGNORE).all():
            nothing: Tensor = 0.0 * logits.sum()
            return nothing
        loss: Tensor = self.cross_entropy(logits, mask) + self.dice(logits, mask)
        return loss

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Loss of one step.

        Raises:
            TrainingError: it is not finite.
        """
        loss = self.step(batch)
        self.log("train_loss", loss, prog_bar=True, batch_size=len(batch["image"]))
        return self.finite(loss)

    @torch.no_grad()
    def validation_step(self, batch: Sample, batch_idx: int) -> None:
        """Log the loss of a batch that is not trained on."""
        self.log("val_loss", self.step(batch), batch_size=len(batch["image"]))
