"""What every task shares: its optimiser, its schedule, and a loss that must be finite."""

import math

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torchgeo.tasks import BaseTask

from rscontrast.errors import InputError, TrainingError, positive

WARMUP = 0.1
"""Share of all steps over which the learning rate rises."""


class ScheduledTask(BaseTask):
    """A TorchGeo task under AdamW with linear warm-up and a cosine to 0, step by step."""

    ignore = None

    def __init__(self) -> None:
        """Check the hyperparameters that every task has; build what the task builds."""
        super().__init__()
        positive("lr", self.hparams["lr"])
        if not self.hparams["weight_decay"] >= 0:
            raise InputError("weight_decay", self.hparams["weight_decay"], "0 or more")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make the optimiser; biases and norms are not decayed."""
        decayed, plain = _parameter_groups(self)
        groups = [
            {"params": decayed, "weight_decay": self.hparams["weight_decay"]},
            {"params": plain, "weight_decay": 0.0},
        ]
        optimizer = AdamW(groups, lr=self.hparams["lr"])
        total = max(1, int(self.trainer.estimated_stepping_batches))
        scheduler = LambdaLR(optimizer, lambda step: warmup_cosine(step, total))
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


def warmup_cosine(step: int, total: int) -> float:
    """Factor on the learning rate at ``step`` of ``total``: linear to 1, then a cosine to 0."""
    warmup = max(1, round(WARMUP * total))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def _parameter_groups(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    trained = [p for p in module.parameters() if p.requires_grad]
    # Weights of layers have two or more axes; biases and norms have one.
    return [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]
