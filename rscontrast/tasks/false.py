"""FALSE: SimCLR that calibrates the negatives which look like the positive (arXiv 2211.07928)."""

from typing import Any

from torchgeo.datasets.utils import Sample

from rscontrast.errors import InputError, flag, whole
from rscontrast.losses import LossOutput
from rscontrast.losses.family import BATCH
from rscontrast.tasks.chosen import chosen_loss
from rscontrast.tasks.simclr import SimCLR


class FALSE(SimCLR):
    """SimCLR under the calibrated loss of :func:`rscontrast.losses.false_contrastive`.

    As :class:`SimCLR` with ``loss="false"``, but for its defaults and for ``start_epoch``.
    """

    def __init__(
        self,
        model: str = "resnet18",
        in_channels: int = 4,
        weights: str | None = None,
        hidden_dim: int = 512,
        output_dim: int = 128,
        temperature: float = 0.5,
        lr: float = 1e-3,
        weight_decay: float = 1e-4,
        select: str = "nearest",
        confidence: float = 0.9,
        positive_threshold: float = 0.9,
        margin: float = 0.0,
        max_selected: int = 8,
        symmetric: bool = False,
        start_epoch: int = 0,
        **more: Any,
    ) -> None:
        """Build as :class:`SimCLR`, with the loss of FALSE.

        Args:
            model: see :class:`SimCLR`, as for all up to ``weight_decay``.
            in_channels: bands of one date.
            weights: to start from.
            hidden_dim: width of the projection head.
            output_dim: size of an embedding.
            temperature: of the loss.
            lr: peak learning rate.
            weight_decay: of the weights of layers.
            select: "global" (the released rule), "nearest" or "above" (reconstructions).
            confidence: weight of a determined false negative as a positive, 0 to 1.
            positive_threshold: least similarity of an anchor to its positive.
            margin: of "above".
            max_selected: of "above": at most so many an anchor.
            symmetric: what i determines of j holds of j for i.
            start_epoch: epochs of plain SimCLR first; ours, the released code has 0.
            **more: see :class:`rscontrast.tasks.ssl.SSLTask`.

        Raises:
            InputError: an unknown name or a value out of range.
        """
        whole("start_epoch", start_epoch, least=0)
        flag("symmetric", symmetric)
        super().__init__(
            model, in_channels, weights, hidden_dim, output_dim, temperature, lr, weight_decay,
            loss="false", **more,
        )  # fmt: skip

    def configure_losses(self) -> None:
        """Build both losses: plain until ``start_epoch``, calibrated from there."""
        # Lightning's command line keeps what it was given alone, so there may be none.
        if self.hparams.get("loss_args") is not None:
            allowed = "not given: they are arguments of FALSE itself"
            raise InputError("loss_args", self.hparams["loss_args"], allowed)
        names = ("select", "confidence", "positive_threshold", "margin", "max_selected")
        chosen = {name: self.hparams[name] for name in (*names, "symmetric")}
        temperature = self.hparams["temperature"]
        self.calibrated = chosen_loss(BATCH, "false", temperature, chosen)
        self.plain = chosen_loss(BATCH, "info_nce", temperature, None)

    def contrast(self, batch: Sample) -> LossOutput:
        """Loss of a batch: the calibrated one when its epoch has come, or without a training."""
        # Chosen at every step: a run that goes on within an epoch does not start that epoch.
        begun = self.current_epoch >= self.hparams["start_epoch"]
        self.criterion = self.calibrated if begun else self.plain
        return super().contrast(batch)
