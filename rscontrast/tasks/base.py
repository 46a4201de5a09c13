"""What every task shares: its optimiser, its schedule, and a loss that must be finite."""

import math

import torch
from lightning.pytorch.plugins import TorchSyncBatchNorm
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchgeo.tasks import BaseTask

from rscontrast.errors import InputError, TrainingError
from rscontrast.tasks.optimisers import (
    WARMUP,
    check_optimizer,
    make_optimizer,
    warmup_cosine,
    warmup_steps,
)


class ScheduledTask(BaseTask):
    """A TorchGeo task whose learning rate rises linearly and falls by a cosine, step by step.

    The hyperparameters ``lr`` and ``weight_decay`` are needed; ``optimizer``, ``momentum`` and
    ``warmup`` are as in :class:`rscontrast.tasks.ssl.SSLTask` where a task has them.
    """

    ignore = None

    def __init__(self) -> None:
        """Check the hyperparameters that every task has; build what the task builds."""
        super().__init__()
        check_optimizer(*self._optimizer)
        warmup_steps(1, self._warmup)

    def setup(self, stage: str) -> None:
        """Refuse what would change the model in silence.

        Raises:
            InputError: ``sync_batchnorm`` with norms of timm that hold an activation: torch's
                conversion, which Lightning uses, leaves it out.
        """
        syncs = isinstance(getattr(self.trainer.strategy, "_layer_sync", None), TorchSyncBatchNorm)
        if syncs and any(isinstance(module, BatchNormAct2d) for module in self.modules()):
            allowed = "False, or an encoder without timm's norms that hold their activation"
            raise InputError("sync_batchnorm", True, f"{allowed}, such as resnet18")

    @property
    def _optimizer(self) -> tuple[str, float, float, float]:
        hp = self.hparams
        return (
            hp.get("optimizer", "adamw"),
            hp["lr"],
            hp["weight_decay"],
            hp.get("momentum", 0.9),
        )

    @property
    def _warmup(self) -> float:
        found: float = self.hparams.get("warmup", WARMUP)
        return found

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run, over which all schedules go.

        Raises:
            InputError: the run has no end.
        """
        steps = self.trainer.estimated_stepping_batches
        if not math.isfinite(steps):
            raise InputError("max_epochs", self.trainer.max_epochs, "a number: schedules end")
        return max(1, int(steps))

    def make_optimizer(self) -> Optimizer:
        """Make the optimiser of all that is trained."""
        name, lr, weight_decay, momentum = self._optimizer
        return make_optimizer(name, self, lr, weight_decay, momentum)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make the optimiser and the schedule; biases and norms are not decayed."""
        optimizer = self.make_optimizer()
        total, warmup = self.total_steps, self._warmup
        scheduler = LambdaLR(optimizer, lambda step: warmup_cosine(step, total, warmup))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def finite(self, loss: Tensor) -> Tensor:
        """Return ``loss``.

        Raises:
            TrainingError: it is NaN or infinite; nothing is learned from such a step.
        """
        if not torch.isfinite(loss):
            where = f"loss is {loss.item()} in step {self.global_step}"
            remedy = "lower lr, raise temperature, or look for NaN in the imagery"
            raise TrainingError(f"{where}: {remedy}")
        return loss
