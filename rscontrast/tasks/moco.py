"""MoCo v2 on temporal pairs: keys of a slow copy, and a queue of them as negatives."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchgeo.datasets.utils import Sample

from rscontrast.errors import flag
from rscontrast.losses import LossOutput, gather_embeddings
from rscontrast.losses.family import QUEUE
from rscontrast.models.encoder import embed, embedding_size
from rscontrast.models.heads import projection_head
from rscontrast.models.momentum import MomentumEncoder
from rscontrast.models.queue import Queue
from rscontrast.tasks.chosen import chosen_loss
from rscontrast.tasks.momentum import MomentumTask


class MoCo(MomentumTask):
    """Contrast each place's first date with its second against former batches (arXiv 2003.04297).

    Keys come from copies of encoder and head that start equal to them and follow slowly. Where
    several processes train, each makes the keys of samples drawn from all of them, so that batch
    norm cannot tell a positive by the statistics that it shares with its query.
    """

    def __init__(
        self,
        model: str = "resnet18",
        in_channels: int = 4,
        weights: str | None = None,
        hidden_dim: int = 2048,
        output_dim: int = 128,
        temperature: float = 0.2,
        lr: float = 0.03,
        weight_decay: float = 1e-4,
        loss: str = "info_nce",
        loss_args: Mapping[str, Any] | None = None,
        queue_size: int = 65536,
        encoder_momentum: float = 0.999,
        momentum_schedule: str = "constant",
        symmetric: bool = False,
        shuffle: bool = True,
        optimizer: str = "sgd",
        **more: Any,
    ) -> None:
        """Build encoder, head, their copies, the queue and the loss.

        Args:
            model: name of the encoder, see :func:`rscontrast.models.create_encoder`.
            in_channels: bands of one date.
            weights: to start from, see :class:`rscontrast.tasks.ssl.SSLTask`.
            hidden_dim: width of the projection head.
            output_dim: size of an embedding.
            temperature: of the loss, above 0.
            lr: peak learning rate; the paper's is 0.03 for 256 samples a step.
            weight_decay: of the weights of layers.
            loss: a name in :data:`rscontrast.losses.family.QUEUE`.
            loss_args: further arguments of the loss.
            queue_size: number of keys kept, at least those of one step of all ranks.
            encoder_momentum: by which the copies keep what they have in each step.
            momentum_schedule: "constant", or "cosine": up to 1 at the end.
            symmetric: each date is query and key in turn (ours; twice the computation). Without
                it the first view is the query, which is of the earlier date.
            shuffle: over ranks before the keys are made; one process has nothing to shuffle.
            optimizer: "sgd", "adamw" or "lars".
            **more: see :class:`rscontrast.tasks.ssl.SSLTask`.

        Raises:
            InputError: an unknown name or a value out of range.
            CheckpointError: ``weights`` is no encoder, or of another one.
            BandError: it has another number of bands.
        """
        flag("symmetric", symmetric)
        flag("shuffle", shuffle)
        super().__init__(model, in_channels, weights, lr, weight_decay, optimizer=optimizer, **more)

    def configure_models(self) -> None:
        """Build encoder and head, then their copies, then the queue."""
        super().configure_models()
        hp = self.hparams
        sizes = hp["hidden_dim"], hp["output_dim"]
        self.projection_head = projection_head(embedding_size(self.model), *sizes)
        self.momentum_encoder = MomentumEncoder(self.model)
        self.momentum_projection_head = MomentumEncoder(self.projection_head)
        self.queue = Queue(hp["queue_size"], hp["output_dim"])

    def configure_losses(self) -> None:
        """Build the loss."""
        hp = self.hparams
        self.criterion = chosen_loss(QUEUE, hp["loss"], hp["temperature"], hp["loss_args"])

    def momentum_pairs(self) -> list[tuple[nn.Module, MomentumEncoder]]:
        """Encoder and head, each with its copy."""
        return [
            (self.model, self.momentum_encoder),
            (self.projection_head, self.momentum_projection_head),
        ]

    def contrast(self, batch: Sample) -> LossOutput:
        """Loss of a batch, see :meth:`SSLTask.contrast`; in training its keys enter the queue."""
        views = self.views(batch)
        told = self.known(views, self.criterion)
        # The loss keeps the queue for its backward pass, and by then new keys stand in it.
        queue = self.queue.keys.clone()
        directions = [(views.view1, views.view2), (views.view2, views.view1)]
        outputs = []
        for query_view, key_view in directions[: 1 + self.hparams["symmetric"]]:
            query = gather_embeddings(self.projection_head(self(query_view)))
            key = self.keys(key_view)
            outputs.append(self.criterion(query, key, queue, **told))
            if self.training:
                self.queue.enqueue(key, told.get("weight"))
        return mean_output(outputs)

    @torch.no_grad()
    def keys(self, images: Tensor) -> Tensor:
        """Keys of the images of all ranks, in rank order: [B, C, H, W] -> [ranks * B, D]."""
        shared = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        if not (shared and self.training and self.hparams["shuffle"]):
            return gather_embeddings(self._own_keys(images))
        everyone = gather_embeddings(images)
        order = torch.randperm(len(everyone), device=images.device)
        dist.broadcast(order, 0)
        own = order.chunk(dist.get_world_size())[dist.get_rank()]
        keys = gather_embeddings(self._own_keys(everyone[own]))
        return torch.empty_like(keys).index_copy_(0, order, keys)

    def _own_keys(self, images: Tensor) -> Tensor:
        keys: Tensor = self.momentum_projection_head(embed(self.momentum_encoder, images))
        return keys


def mean_output(outputs: list[LossOutput]) -> LossOutput:
    """Mean of losses and of their diagnostics, by name."""
    losses = torch.stack([output.loss for output in outputs])
    names = outputs[0].diagnostics
    each = {k: torch.stack([output.diagnostics[k] for output in outputs]) for k in names}
    return LossOutput(losses.mean(), {name: values.mean() for name, values in each.items()})
