"""SimCLR on temporal pairs: two dates of a place are each other's positive."""

from typing import Any

import torch
from torch import Tensor, nn
from torchgeo.datasets.utils import Sample

from rscontrast.augment.layout import as_pair
from rscontrast.losses import InfoNCE, LossOutput, gather_embeddings
from rscontrast.models.checkpoint import load_encoder
from rscontrast.models.encoder import create_encoder, embed, embedding_size
from rscontrast.models.heads import projection_head
from rscontrast.tasks.base import ScheduledTask


class SimCLR(ScheduledTask):
    """Contrast each place with all others in the batch (arXiv 2002.05709), NT-Xent loss.

    The encoder is ``self.model``, under which name TorchGeo's decoders find it in a checkpoint of
    Lightning's too. Batches hold views already: the datamodule augments on the device.
    """

    monitor = "train_loss"

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
    ) -> None:
        """Build the encoder, the projection head and the loss.

        Args:
            model: name of the encoder, see :func:`rscontrast.models.create_encoder`.
            in_channels: bands of one date.
            weights: checkpoint of an encoder to start from.
            hidden_dim: width of the projection head.
            output_dim: size of an embedding.
            temperature: of the loss, above 0.
            lr: peak learning rate.
            weight_decay: of the weights of layers.

        Raises:
            InputError: an unknown name or a value out of range.
            CheckpointError: ``weights`` is no encoder of ours.
            BandError: it has another number of bands.
        """
        super().__init__()

    def configure_models(self) -> None:
        """Build the encoder and the projection head."""
        self.model: nn.Module = create_encoder(self.hparams["model"], self.hparams["in_channels"])
        if self.hparams["weights"] is not None:
            start = load_encoder(self.hparams["weights"])
            start.require(self.hparams["model"], self.hparams["in_channels"])
            self.model.load_state_dict(start.module.state_dict())
        sizes = self.hparams["hidden_dim"], self.hparams["output_dim"]
        self.projection_head = projection_head(embedding_size(self.model), *sizes)

    def configure_losses(self) -> None:
        """Build the loss."""
        self.criterion: nn.Module = InfoNCE(self.hparams["temperature"])

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings before the projection head: [B, C, H, W] -> [B, D]."""
        return embed(self.model, images)

    def contrast(self, batch: Sample) -> LossOutput:
        """Loss of a batch, over the embeddings of all processes.

        Args:
            batch: ``image`` [B, 2, C, H, W] or [B, 2C, H, W], normalised.
        """
        pair = as_pair(batch["image"], self.hparams["in_channels"])
        # [view 1 of all, view 2 of all], so that one pass sees both views' batch statistics.
        embeddings = self.projection_head(self(pair.transpose(0, 1).flatten(0, 1)))
        view1, view2 = (gather_embeddings(view) for view in embeddings.chunk(2))
        output: LossOutput = self.criterion(view1, view2)
        return output

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Loss of one step.

        Raises:
            TrainingError: it is not finite.
        """
        loss, diagnostics = self.contrast(batch)
        size = len(batch["image"])
        self.log("train_loss", loss, prog_bar=True, batch_size=size)
        self.log_dict({f"train_{k}": v for k, v in diagnostics.items()}, batch_size=size)
        return self.finite(loss)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the sensor contract, with which Lightning's checkpoint is an encoder's too."""
        contract = getattr(getattr(self.trainer, "datamodule", None), "contract", None)
        if contract is not None:
            checkpoint["contract"] = contract.to_dict()

    @torch.no_grad()
    def validation_step(self, batch: Sample, batch_idx: int) -> None:
        """Log the loss of a batch that is not trained on."""
        loss, _ = self.contrast(batch)
        self.log("val_loss", loss, batch_size=len(batch["image"]))
