"""PixPro on temporal pairs: cells of two dates that show one place are alike."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchgeo.datasets.utils import Sample

from rscontrast.losses import LossOutput, pixpro
from rscontrast.models.dense_heads import PerLevel, dense_projection_head
from rscontrast.models.momentum import MomentumEncoder
from rscontrast.models.propagation import PixelPropagation
from rscontrast.tasks.dense import DenseTask
from rscontrast.tasks.terms import TermInput


class PixPro(DenseTask):
    """Pull each cell to those of the other view that lie near it (arXiv 2011.10043).

    Keys come from copies of encoder and heads that follow slowly; only the query is propagated.
    With the term "depth" it is the method of arXiv 2211.10177.
    """

    def __init__(
        self,
        model: str = "resnet18",
        in_channels: int = 4,
        weights: str | None = None,
        hidden_dim: int = 4096,
        output_dim: int = 256,
        lr: float = 1.0,
        weight_decay: float = 1e-5,
        power: float = 2.0,
        encoder_momentum: float = 0.99,
        momentum_schedule: str = "cosine",
        levels: int = 1,
        level_weights: Sequence[float] | None = None,
        terms: Mapping[str, Any] | None = None,
        optimizer: str = "lars",
        **more: Any,
    ) -> None:
        """Build encoder, heads, propagation and their copies.

        Args:
            model: name of the encoder, see :func:`rscontrast.models.create_encoder`.
            in_channels: bands of one date.
            weights: to start from, see :class:`rscontrast.tasks.ssl.SSLTask`.
            hidden_dim: width of the projection heads.
            output_dim: size of a cell's embedding.
            lr: peak learning rate; the paper's is 1.0 for 256 samples a step.
            weight_decay: of the weights of layers.
            power: of the similarity in the propagation.
            encoder_momentum: by which the copies keep what they have in the first step.
            momentum_schedule: "cosine": up to 1 at the end; or "constant".
            levels: feature maps that the loss is summed over, from the coarsest: 3 are the
                strides 32, 16 and 8 of a ResNet.
            level_weights: of each level, the finest first; None: all 1.
            terms: what is added, by name, with its settings or None: "depth" (see
                :class:`rscontrast.losses.DepthFilter`), "decoupling" and "depositioning" (see
                :mod:`rscontrast.tasks.terms`).
            optimizer: "lars", "sgd" or "adamw".
            **more: see :class:`rscontrast.tasks.ssl.SSLTask`.

        Raises:
            InputError: an unknown name or a value out of range.
            CheckpointError: ``weights`` is no encoder, or of another one.
            BandError: it has another number of bands.
        """
        super().__init__(model, in_channels, weights, lr, weight_decay, optimizer=optimizer, **more)

    def configure_models(self) -> None:
        """Build encoder and heads, then their copies."""
        super().configure_models()
        sizes = self.hparams["hidden_dim"], self.hparams["output_dim"]
        self.projection_head = PerLevel([dense_projection_head(c, *sizes) for c in self.channels])
        self.propagation = PerLevel(
            [PixelPropagation(sizes[1], self.hparams["power"]) for _ in self.channels]
        )
        self.momentum_encoder = MomentumEncoder(self.model)
        self.momentum_projection_head = MomentumEncoder(self.projection_head)

    def momentum_pairs(self) -> list[tuple[nn.Module, MomentumEncoder]]:
        """Encoder and heads, each with its copy."""
        return [
            (self.model, self.momentum_encoder),
            (self.projection_head, self.momentum_projection_head),
        ]

    def contrast(self, batch: Sample) -> LossOutput:
        """Loss of a batch: both directions, all levels, all terms."""
        views = self.dense_views(batch)
        projected = self.projection_head(self.maps(self.model, views.images))
        queries = self.propagation(projected, [views.usable(maps) for maps in projected])
        keys = self.key_cells(views.images)
        levels = [
            self.level(views, query, key, self.near(views, query, key), pixpro)
            for query, key in zip(queries, keys, strict=True)
        ]
        # The loss of one direction plus that of the other is twice their mean.
        share = self.share(views)
        mean = self.whole(levels, share)
        given = TermInput(
            views.images, keys[-1], views.usable(keys[-1]), views.weight,
            self.query_cells, lambda images: self.key_cells(images)[-1], pixpro,
        )  # fmt: skip
        return self.with_terms(LossOutput(2 * mean.loss, mean.diagnostics), given, share)

    def query_cells(self, images: Tensor, valid: Tensor | None = None) -> Tensor:
        """Propagated cells of the coarsest level: [N, C, H, W] -> [N, D, h, w].

        Args:
            images: views.
            valid: [N, h, w] usable cells; None: all.
        """
        coarsest = self.maps(self.model, images)[-1]
        projected = self.projection_head.levels[-1](coarsest)
        cells: Tensor = self.propagation.levels[-1](projected, valid)
        return cells

    @torch.no_grad()
    def key_cells(self, images: Tensor) -> list[Tensor]:
        """Cells of the momentum branch, of each level."""
        keys: list[Tensor] = self.momentum_projection_head(self.maps(self.momentum_encoder, images))
        return keys
