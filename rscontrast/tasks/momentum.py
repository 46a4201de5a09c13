"""What methods with a momentum encoder share: when it moves, and by how much."""

from abc import abstractmethod

from torch import nn
from torchgeo.datasets.utils import Sample

from rscontrast.errors import choose
from rscontrast.models.momentum import MomentumEncoder, check_momentum, cosine_momentum
from rscontrast.tasks.ssl import SSLTask

SCHEDULES = ("constant", "cosine")


class MomentumTask(SSLTask):
    """Moves its momentum encoders once an optimiser step, before the keys of the step are made.

    The hyperparameter ``encoder_momentum`` is the coefficient, ``momentum_schedule`` says whether
    it stays ("constant") or rises to 1 by a cosine over the run ("cosine").
    """

    _moved = -1

    momentum_encoder: MomentumEncoder

    def configure_models(self) -> None:
        """Build the encoder; a method copies it, and its heads, when they stand."""
        check_momentum("encoder_momentum", self.hparams["encoder_momentum"])
        choose("momentum_schedule", self.hparams["momentum_schedule"], SCHEDULES)
        super().configure_models()

    def encoders(self) -> list[nn.Module]:
        """The encoder and its copy."""
        return [self.model, self.momentum_encoder.module]

    @abstractmethod
    def momentum_pairs(self) -> list[tuple[nn.Module, MomentumEncoder]]:
        """What is trained, each with its copy."""

    def encoder_momentum(self) -> float:
        """Coefficient of this step."""
        start: float = self.hparams["encoder_momentum"]
        if self.hparams["momentum_schedule"] == "constant":
            return start
        return cosine_momentum(self.global_step, self.total_steps, start)

    def on_train_batch_start(self, batch: Sample, batch_idx: int) -> None:
        """Move the copies where an optimiser step was made since; gradients may accumulate."""
        if self._moved != self.global_step:
            momentum = self.encoder_momentum()
            for online, copied in self.momentum_pairs():
                copied.update(online, momentum)
            self._moved = self.global_step
