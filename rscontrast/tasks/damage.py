"""Segmentation of what changed between two dates: damage classes, or change and no change."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torchgeo.datasets.utils import Sample

from rscontrast.augment.layout import as_pair
from rscontrast.errors import InputError, positive, whole
from rscontrast.losses import SegmentationLoss
from rscontrast.models.checkpoint import load_encoder
from rscontrast.models.encoder import create_encoder
from rscontrast.models.fusion import FUSION
from rscontrast.models.probabilities import log_probabilities
from rscontrast.models.segmenter import create_segmenter
from rscontrast.models.start import load_start
from rscontrast.tasks.base import ScheduledTask
from rscontrast.tasks.calibrated import Calibration
from rscontrast.tasks.optimisers import WARMUP
from rscontrast.tasks.scored import MapScores, named_classes
from rscontrast.types import IGNORE, SensorContract

LOSS = "cross_entropy+dice"


class DamageSegmentation(ScheduledTask):
    """Fine-tune a segmenter of pairs on the labelled pixels that are usable at both dates.

    Three ways to treat the encoder: train it with the rest (full fine-tune); keep it as it is
    (``freeze_encoder``, with ``decoder="linear"`` a linear probe); or keep it for some epochs and
    then train it at a lower rate (``unfreeze_epoch``, ``encoder_lr_factor``).

    Where there is a validation, each epoch of it fits the temperature of the probabilities anew;
    the checkpoint keeps the last. Scores of validation are at temperature 1, those of a test and
    predictions are calibrated.
    """

    monitor = "val_loss"

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
        *,
        fusion: str = FUSION,
        heads: str = "one",
        loss: str = LOSS,
        unfreeze_epoch: int | None = None,
        encoder_lr_factor: float = 1.0,
        class_names: Sequence[str] | None = None,
        adapt_to: Mapping[str, Any] | None = None,
        optimizer: str = "adamw",
        momentum: float = 0.9,
        warmup: float = WARMUP,
    ) -> None:
        """Build the segmenter.

        Args:
            model: name of the encoder.
            decoder: see :func:`rscontrast.models.create_segmenter`; "linear" for a probe.
            in_channels: bands of one date.
            classes: number of classes, background included.
            weights: what the encoder starts from, see :func:`rscontrast.models.start.load_start`;
                None: random.
            class_weights: weight of each class where the loss is a mean over pixels; None: 1.
            freeze_encoder: keep the encoder as it starts, its norms' statistics too.
            lr: peak learning rate.
            weight_decay: of the weights of layers.
            fusion: of the two dates, see :data:`rscontrast.models.fusion.FUSIONS`.
            heads: "one", or "two": whether there is a building, and its grade.
            loss: names of :data:`rscontrast.losses.SEGMENTATION` with "+" between.
            unfreeze_epoch: the encoder is frozen before this epoch, counted from 0, and trained
                from it on; None: no such stage.
            encoder_lr_factor: of the encoder's learning rate to the others', above 0.
            class_names: in label order; None: xBD's where there are five classes.
            adapt_to: contract of the data, as ``SensorContract.to_dict`` gives it: the encoder of
                ``weights`` is fitted to it where bands differ, see :mod:`rscontrast.models.adapt`.
            optimizer: "adamw", "sgd" or "lars".
            momentum: of "sgd" and "lars".
            warmup: share of all steps below 1, else steps.

        Raises:
            InputError: an unknown name or a value out of range.
            CheckpointError: ``weights`` is no encoder, or does not fit.
            BandError: it has other bands.
        """
        super().__init__()
        hp = self.hparams
        positive("encoder_lr_factor", hp["encoder_lr_factor"])
        if hp["unfreeze_epoch"] is not None:
            whole("unfreeze_epoch", hp["unfreeze_epoch"])
            if hp["freeze_encoder"]:
                raise InputError("unfreeze_epoch", hp["unfreeze_epoch"], "None: it stays frozen")
        self.class_names = named_classes(hp["classes"], hp["class_names"])
        self.val_scores, self.test_scores = (MapScores(self.class_names) for _ in range(2))
        self.calibration = Calibration()

    def configure_models(self) -> None:
        """Build the segmenter, its encoder from ``weights`` where they are given."""
        hp = self.hparams
        self.model = create_segmenter(
            hp["model"], hp["decoder"], hp["in_channels"], hp["classes"], hp["fusion"], hp["heads"]
        )
        if hp["weights"] is not None:
            self.model.start_from(self._start())
        self.model.freeze_encoder(hp["freeze_encoder"])

    def _start(self) -> torch.nn.Module:
        hp = self.hparams
        if hp["adapt_to"] is None:
            encoder = create_encoder(hp["model"], hp["in_channels"])
            load_start(encoder, hp["weights"], hp["model"], hp["in_channels"])
            return encoder
        contract = SensorContract.from_dict(hp["adapt_to"])
        start = load_encoder(hp["weights"], contract, adapt=True)
        start.require(hp["model"], hp["in_channels"])
        return start.module

    def configure_losses(self) -> None:
        """Build the loss."""
        hp = self.hparams
        self.criterion = SegmentationLoss(hp["loss"], hp["classes"], hp["class_weights"])

    def make_optimizer(self) -> Optimizer:
        """Make the optimiser, in which the encoder's groups have a rate of their own."""
        made = super().make_optimizer()
        encoder = {id(p) for p in self.model.encoder.parameters()}
        for group in list(made.param_groups):
            own = [p for p in group["params"] if id(p) in encoder]
            group["params"] = [p for p in group["params"] if id(p) not in encoder]
            if own:
                lr = group["lr"] * self.hparams["encoder_lr_factor"]
                made.add_param_group({**group, "params": own, "lr": lr})
        return made

    @property
    def frozen(self) -> bool:
        """Whether the encoder is kept as it is in this epoch."""
        staged = self.hparams["unfreeze_epoch"]
        before = staged is not None and self.current_epoch < staged
        return bool(self.hparams["freeze_encoder"]) or before

    def on_fit_start(self) -> None:
        """Start uncalibrated."""
        self.model.temperature = 1.0

    def on_train_epoch_start(self) -> None:
        """Freeze or train the encoder; a frozen one's norms do not go on to learn statistics."""
        # DDP waits for gradients of all that was trained when it began: there the encoder's are
        # computed, and dropped in on_before_optimizer_step.
        if self.trainer.world_size == 1:
            self.model.freeze_encoder(self.frozen)
        self.model.encoder.train(not self.frozen)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Drop the gradients of a frozen encoder: what has none is not moved."""
        if self.frozen:
            for parameter in self.model.encoder.parameters():
                parameter.grad = None

    def forward(self, pair: Tensor) -> Tensor:
        """Logits [B, C, H, W] of a pair [B, 2, C, H, W] or [B, 2C, H, W]."""
        logits: Tensor = self.model(as_pair(pair, self.hparams["in_channels"]))
        return logits

    def targets(self, batch: Sample) -> Tensor:
        """Classes [B, H, W]: 255 where a date is not usable, as where there is no label."""
        mask: Tensor = batch["mask"]
        mask = mask[:, 0] if mask.ndim == 4 else mask
        if "valid" not in batch:
            return mask
        return mask.masked_fill(~batch["valid"].all(dim=1), IGNORE)

    def step(self, batch: Sample) -> Tensor:
        """Loss of a batch.

        Args:
            batch: ``image`` in either layout, ``mask`` [B, H, W] or [B, 1, H, W], and ``valid``
                [B, 2, H, W] where known.
        """
        return self._loss(self(batch["image"]), self.targets(batch))

    def _loss(self, logits: Tensor, mask: Tensor) -> Tensor:
        # Not calibrated: the temperature is no part of what is learned.
        loss: Tensor = self.criterion(log_probabilities(logits, self.model.heads), mask)
        return loss

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Loss of one step.

        Raises:
            TrainingError: it is not finite.
        """
        loss = self.step(batch)
        self.log("train_loss", loss, prog_bar=True, batch_size=len(batch["image"]))
        return self.finite(loss)

    def on_validation_epoch_start(self) -> None:
        """Start over with the pixels to calibrate on: by now the number of ranks is known."""
        self.calibration.reset()

    @torch.no_grad()
    def validation_step(self, batch: Sample, batch_idx: int) -> None:
        """Log the loss of a batch that is not trained on; score it; keep pixels to calibrate on."""
        logits, mask = self(batch["image"]), self.targets(batch)
        size = len(batch["image"])
        self.log("val_loss", self._loss(logits, mask), batch_size=size, sync_dist=True)
        self.val_scores.update(log_probabilities(logits, self.model.heads).exp(), mask)
        self.calibration.add(logits, mask)

    def on_validation_epoch_end(self) -> None:
        """Log the scores, and fit the temperature."""
        self._log_scores("val", self.val_scores)
        found = self.calibration.temperature(
            lambda logits: log_probabilities(logits, self.model.heads).exp()
        )
        self.calibration.reset()
        if found is not None:
            self.model.temperature = found
            self.log("val_temperature", found)

    @torch.no_grad()
    def test_step(self, batch: Sample, batch_idx: int) -> None:
        """Score the calibrated probabilities of a batch."""
        found = self.model.probabilities(self(batch["image"]))
        self.test_scores.update(found, self.targets(batch))

    def on_test_epoch_end(self) -> None:
        """Log the scores."""
        self._log_scores("test", self.test_scores)

    def _log_scores(self, stage: str, scores: MapScores) -> None:
        # Ranks agree: the counts were summed.
        self.log_dict({f"{stage}_{k}": v.float() for k, v in scores.compute().items()})
        scores.reset()

    @torch.no_grad()
    def predict_step(self, batch: Sample, batch_idx: int) -> dict[str, Tensor]:
        """Map a batch.

        Returns:
            ``probabilities`` [B, K, H, W], calibrated; ``class`` [B, H, W], 255 where a date is
            not usable; and where the batch says where it is, ``bounds`` and ``transform``.
        """
        found = self.model.probabilities(self(batch["image"]))
        best = found.argmax(dim=1)
        if "valid" in batch:
            best = best.masked_fill(~batch["valid"].all(dim=1), IGNORE)
        predicted: dict[str, Tensor] = {"probabilities": found, "class": best}
        return predicted | {str(k): batch[k] for k in ("bounds", "transform") if k in batch}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the weights do not say: temperature, names of the classes, sensor contract."""
        checkpoint["temperature"] = self.model.temperature
        checkpoint["class_names"] = list(self.class_names)
        contract = getattr(getattr(self.trainer, "datamodule", None), "contract", None)
        if contract is not None:
            checkpoint["contract"] = contract.to_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the temperature back."""
        self.model.temperature = checkpoint.get("temperature", 1.0)
