"""Dense contrastive learning on temporal pairs: MoCo of patches and of their cells."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchgeo.datasets.utils import Sample

from rscontrast.errors import InputError, choose
from rscontrast.losses import (
    LossOutput,
    combine,
    dense_info_nce,
    gather_embeddings,
    matched_positives,
)
from rscontrast.losses.contrast import check_temperature
from rscontrast.losses.decoupling import DenseLoss
from rscontrast.losses.family import QUEUE
from rscontrast.models.dense_heads import PerLevel, dense_projection_head
from rscontrast.models.encoder import embedding_size
from rscontrast.models.heads import projection_head
from rscontrast.models.momentum import MomentumEncoder
from rscontrast.models.queue import Queue
from rscontrast.tasks.chosen import chosen_loss
from rscontrast.tasks.dense import DenseTask, DenseViews, other
from rscontrast.tasks.terms import TermInput

MATCH = ("features", "geometry")
"""Positives of a cell: the most similar one (DenseCL), or those near it on the map (PixPro)."""


class DenseCL(DenseTask):
    """Contrast patches, and their cells, against queues of former batches (arXiv 2011.09157).

    Both dates are query and key in turn, which is ours; and processes do not shuffle their
    samples before the keys are made: synchronise batch norm over them.
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
        dense_weight: float = 0.5,
        match: str = "features",
        loss: str = "info_nce",
        loss_args: Mapping[str, Any] | None = None,
        queue_size: int = 65536,
        encoder_momentum: float = 0.999,
        momentum_schedule: str = "constant",
        levels: int = 1,
        level_weights: Sequence[float] | None = None,
        terms: Mapping[str, Any] | None = None,
        optimizer: str = "sgd",
        **more: Any,
    ) -> None:
        """Build encoder, heads, their copies and the queues.

        Args:
            model: name of the encoder, see :func:`rscontrast.models.create_encoder`.
            in_channels: bands of one date.
            weights: to start from, see :class:`rscontrast.tasks.ssl.SSLTask`.
            hidden_dim: width of the projection heads.
            output_dim: size of an embedding, of patches and of cells.
            temperature: of both losses, above 0.
            lr: peak learning rate; the paper's is 0.03 for 256 samples a step.
            weight_decay: of the weights of layers.
            dense_weight: share, 0 to 1, of the loss of cells in the whole.
            match: "features": a cell's positive is the one of the other view with the most similar
                feature of the encoder (DenseCL); "geometry": those that show the same
                place (PixPro).
            loss: of patches: a name in :data:`rscontrast.losses.family.QUEUE` but "glofnd", whose
                memory of a sample two queries would share.
            loss_args: further arguments of that loss.
            queue_size: number of keys kept, of patches and of each level; at least twice the
                samples of one step of all ranks.
            encoder_momentum: by which the copies keep what they have in each step.
            momentum_schedule: "constant", or "cosine": up to 1 at the end.
            levels: see :class:`rscontrast.tasks.pixpro.PixPro`.
            level_weights: of each level, the finest first; None: all 1.
            terms: see :class:`rscontrast.tasks.pixpro.PixPro`.
            optimizer: "sgd", "adamw" or "lars".
            **more: see :class:`rscontrast.tasks.ssl.SSLTask`.

        Raises:
            InputError: an unknown name or a value out of range.
            CheckpointError: ``weights`` is no encoder, or of another one.
            BandError: it has another number of bands.
        """
        choose("match", match, MATCH)
        check_temperature(temperature)
        if not 0 <= dense_weight <= 1:
            raise InputError("dense_weight", dense_weight, "a share, 0 to 1")
        super().__init__(model, in_channels, weights, lr, weight_decay, optimizer=optimizer, **more)

    def configure_models(self) -> None:
        """Build encoder and heads, then their copies, then the queues."""
        super().configure_models()
        hp = self.hparams
        sizes = hp["hidden_dim"], hp["output_dim"]
        self.projection_head = projection_head(embedding_size(self.model), *sizes)
        self.dense_head = PerLevel(
            [dense_projection_head(c, *sizes, batch_norm=False) for c in self.channels]
        )
        self.momentum_encoder = MomentumEncoder(self.model)
        self.momentum_projection_head = MomentumEncoder(self.projection_head)
        self.momentum_dense_head = MomentumEncoder(self.dense_head)
        self.queue = Queue(hp["queue_size"], hp["output_dim"])
        self.dense_queues = nn.ModuleList(
            [Queue(hp["queue_size"], hp["output_dim"]) for _ in self.channels]
        )

    def configure_losses(self) -> None:
        """Build the loss of patches."""
        hp = self.hparams
        self.criterion = chosen_loss(QUEUE, hp["loss"], hp["temperature"], hp["loss_args"])
        if getattr(self.criterion, "needs_index", False):
            allowed = "a loss that remembers no samples: each is a query twice in a step"
            raise InputError("loss", hp["loss"], allowed)

    def momentum_pairs(self) -> list[tuple[nn.Module, MomentumEncoder]]:
        """Encoder and heads, each with its copy."""
        return [
            (self.model, self.momentum_encoder),
            (self.projection_head, self.momentum_projection_head),
            (self.dense_head, self.momentum_dense_head),
        ]

    def contrast(self, batch: Sample) -> LossOutput:
        """Loss of a batch; in training its keys enter the queues."""
        views = self.dense_views(batch)
        maps = self.maps(self.model, views.images)
        with torch.no_grad():
            key_maps = self.maps(self.momentum_encoder, views.images)
            keys: list[Tensor] = self.momentum_dense_head(key_maps)
        # The losses keep the queues for their backward pass, and by then new keys stand in them.
        losses = [self._dense(queue) for queue in self.dense_queues]
        levels = [
            self.level(views, query, key, self._positives(views, at, key_at), dense)
            for query, key, at, key_at, dense in zip(
                self.dense_head(maps), keys, maps, key_maps, losses, strict=True
            )
        ]
        given = TermInput(
            views.images, keys[-1], views.usable(keys[-1]), views.weight,
            self.query_cells, self.key_cells, losses[-1],
        )  # fmt: skip
        rank, share = self.share(views), self.hparams["dense_weight"]
        parts = {
            "image": self.image_level(batch, maps[-1], key_maps[-1]),
            "dense": self.whole(levels, rank),
        }
        for queue, key in zip(self.dense_queues, keys, strict=True):
            self._enqueue(queue, key, views)
        output = combine(parts, {"image": 1 - share, "dense": share})
        return self.with_terms(output, given, rank)

    def image_level(self, batch: Sample, maps: Tensor, key_maps: Tensor) -> LossOutput:
        """Loss of patches, over the samples of all ranks; in training its keys enter the queue."""
        query = self.projection_head(maps.mean((2, 3)))
        key: Tensor = self.momentum_projection_head(key_maps.mean((2, 3)))
        told = {
            name: torch.cat([value, value])
            for name, value in self.known(self.views(batch), self.criterion).items()
        }
        # Of all ranks, the first views come first: the order that ``told`` has.
        query = torch.cat([gather_embeddings(half) for half in query.chunk(2)])
        key = torch.cat([gather_embeddings(half) for half in other(key).chunk(2)])
        output: LossOutput = self.criterion(query, key, self.queue.keys.clone(), **told)
        if self.training:
            self.queue.enqueue(key, told.get("weight"))
        return output

    def query_cells(self, images: Tensor, valid: Tensor | None = None) -> Tensor:
        """Cells of the coarsest level, online branch: [N, C, H, W] -> [N, D, h, w]."""
        cells: Tensor = self.dense_head.levels[-1](self.maps(self.model, images)[-1])
        return cells

    @torch.no_grad()
    def key_cells(self, images: Tensor) -> Tensor:
        """The same of the momentum branch."""
        keys: list[Tensor] = self.momentum_dense_head(self.maps(self.momentum_encoder, images))
        return keys[-1]

    def _dense(self, queue: nn.Module) -> DenseLoss:
        stored: Tensor = queue.keys.clone()  # type: ignore[operator]  # a buffer
        return partial(dense_info_nce, queue=stored, temperature=self.hparams["temperature"])

    def _positives(self, views: DenseViews, maps: Tensor, key_maps: Tensor) -> Tensor:
        if self.hparams["match"] == "geometry":
            return self.near(views, maps, key_maps)
        valid = views.usable(maps)
        usable = None if valid is None else other(valid)
        return matched_positives(maps.detach(), other(key_maps), key_valid=usable)

    def _enqueue(self, queue: nn.Module, key: Tensor, views: DenseViews) -> None:
        """Store each view's mean over its usable cells, as DenseCL does, of all ranks."""
        if not self.training:
            return
        assert isinstance(queue, Queue)
        valid, weight = views.usable(key), views.weight
        usable = torch.ones_like(key[:, 0], dtype=torch.bool) if valid is None else valid
        count = usable.sum((1, 2))
        total = torch.where(usable.unsqueeze(1), key, 0).sum((2, 3))
        counts = (count > 0).to(key.dtype) if weight is None else weight * (count > 0)
        mean = total / count.clamp(min=1).unsqueeze(1)
        queue.enqueue(gather_embeddings(mean), gather_embeddings(counts))
