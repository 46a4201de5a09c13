"""SimCLR on temporal pairs: two dates of a place are each other's positive."""

from collections.abc import Mapping
from typing import Any

import torch
from torchgeo.datasets.utils import Sample

from rscontrast.losses import LossOutput, gather_embeddings
from rscontrast.losses.family import BATCH
from rscontrast.models.encoder import embedding_size
from rscontrast.models.heads import projection_head
from rscontrast.tasks.chosen import chosen_loss
from rscontrast.tasks.ssl import SSLTask


class SimCLR(SSLTask):
    """Contrast each place with all others in the batch (arXiv 2002.05709).

    Each place has two positives of one kind, its two dates; all other embeddings of the batch, of
    all ranks, are negatives, which ``loss`` weighs.
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
        loss: str = "info_nce",
        loss_args: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        """Build the encoder, the projection head and the loss.

        Args:
            model: name of the encoder, see :func:`rscontrast.models.create_encoder`.
            in_channels: bands of one date.
            weights: to start from, see :class:`SSLTask`.
            hidden_dim: width of the projection head.
            output_dim: size of an embedding.
            temperature: of the loss, above 0.
            lr: peak learning rate.
            weight_decay: of the weights of layers.
            loss: a name in :data:`rscontrast.losses.family.BATCH`.
            loss_args: further arguments of the loss.
            **more: see :class:`SSLTask`.

        Raises:
            InputError: an unknown name or a value out of range.
            CheckpointError: ``weights`` is no encoder, or of another one.
            BandError: it has another number of bands.
        """
        super().__init__(model, in_channels, weights, lr, weight_decay, **more)

    def configure_models(self) -> None:
        """Build the encoder and the projection head."""
        super().configure_models()
        sizes = self.hparams["hidden_dim"], self.hparams["output_dim"]
        self.projection_head = projection_head(embedding_size(self.model), *sizes)

    def configure_losses(self) -> None:
        """Build the loss."""
        hp = self.hparams
        self.criterion = chosen_loss(BATCH, hp["loss"], hp["temperature"], hp["loss_args"])

    def contrast(self, batch: Sample) -> LossOutput:
        """Loss of a batch, see :meth:`SSLTask.contrast`."""
        views = self.views(batch)
        # [view 1 of all, view 2 of all], so that one pass sees both views' batch statistics.
        embeddings = self.projection_head(self(torch.cat([views.view1, views.view2])))
        view1, view2 = (gather_embeddings(view) for view in embeddings.chunk(2))
        output: LossOutput = self.criterion(view1, view2, **self.known(views, self.criterion))
        return output
