"""BYOL on temporal pairs: predict what a slow copy makes of the other date; no negatives."""

from typing import Any

from torch import Tensor, nn
from torchgeo.datasets.utils import Sample

from rscontrast.losses import BYOLLoss, LossOutput, gather_embeddings
from rscontrast.models.encoder import embed, embedding_size
from rscontrast.models.heads import projection_head
from rscontrast.models.momentum import MomentumEncoder
from rscontrast.tasks.momentum import MomentumTask


class BYOL(MomentumTask):
    """Regress the key of each date from a prediction of the other's (arXiv 2006.07733).

    Each view passes the encoder by itself, as in the paper: its batch norm sees one view's
    statistics at a time.
    """

    def __init__(
        self,
        model: str = "resnet18",
        in_channels: int = 4,
        weights: str | None = None,
        hidden_dim: int = 4096,
        output_dim: int = 256,
        lr: float = 0.2,
        weight_decay: float = 1.5e-6,
        encoder_momentum: float = 0.996,
        momentum_schedule: str = "cosine",
        optimizer: str = "lars",
        **more: Any,
    ) -> None:
        """Build encoder, both heads, the copies and the loss.

        Args:
            model: name of the encoder, see :func:`rscontrast.models.create_encoder`.
            in_channels: bands of one date.
            weights: to start from, see :class:`rscontrast.tasks.ssl.SSLTask`.
            hidden_dim: width of both heads, which have a batch norm each.
            output_dim: size of an embedding.
            lr: peak learning rate; the paper's is 0.2 for 256 samples a step.
            weight_decay: of the weights of layers.
            encoder_momentum: by which the copies keep what they have, in the first step.
            momentum_schedule: "cosine": up to 1 at the end, or "constant".
            optimizer: "lars", "adamw" or "sgd".
            **more: see :class:`rscontrast.tasks.ssl.SSLTask`.

        Raises:
            InputError: an unknown name or a value out of range.
            CheckpointError: ``weights`` is no encoder, or of another one.
            BandError: it has another number of bands.
        """
        super().__init__(model, in_channels, weights, lr, weight_decay, optimizer=optimizer, **more)

    def configure_models(self) -> None:
        """Build encoder and heads, and copies of encoder and projection head."""
        super().configure_models()
        hidden, out = self.hparams["hidden_dim"], self.hparams["output_dim"]
        self.projection_head = projection_head(
            embedding_size(self.model), hidden, out, batch_norm=True
        )
        self.prediction_head = projection_head(out, hidden, out, batch_norm=True)
        self.momentum_encoder = MomentumEncoder(self.model)
        self.momentum_projection_head = MomentumEncoder(self.projection_head)

    def configure_losses(self) -> None:
        """Build the loss."""
        self.criterion = BYOLLoss()

    def momentum_pairs(self) -> list[tuple[nn.Module, MomentumEncoder]]:
        """Encoder and projection head, each with its copy."""
        return [
            (self.model, self.momentum_encoder),
            (self.projection_head, self.momentum_projection_head),
        ]

    def contrast(self, batch: Sample) -> LossOutput:
        """Loss of a batch, see :meth:`SSLTask.contrast`: the sum of both directions."""
        views = self.views(batch)
        weight = self.known(views, self.criterion).get("weight")
        one = self.criterion(self.predict_key(views.view1), self.keys(views.view2), weight=weight)
        two = self.criterion(self.predict_key(views.view2), self.keys(views.view1), weight=weight)
        both = {k: (v + two.diagnostics[k]) / 2 for k, v in one.diagnostics.items()}
        return LossOutput(one.loss + two.loss, both)

    def predict_key(self, images: Tensor) -> Tensor:
        """Predictions for the images of all ranks: [B, C, H, W] -> [ranks * B, D]."""
        return gather_embeddings(self.prediction_head(self.projection_head(self(images))))

    def keys(self, images: Tensor) -> Tensor:
        """Keys of the images of all ranks, without gradient."""
        return gather_embeddings(
            self.momentum_projection_head(embed(self.momentum_encoder, images))
        )
