"""What the dense methods share: levels of feature maps, their positives and usable cells, terms."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d
from torchgeo.datasets.utils import Sample

from rscontrast.augment.draws import is_number
from rscontrast.errors import InputError, TrainingError
from rscontrast.losses import (
    DepthFilter,
    LossOutput,
    combine,
    mask_positives,
    rank_share,
    view_positives,
)
from rscontrast.losses.decoupling import DenseLoss
from rscontrast.models.dense_heads import level_channels
from rscontrast.tasks.momentum import MomentumTask
from rscontrast.tasks.terms import DecouplingTerm, DepositioningTerm, TermInput, build_terms

USABLE = 0.5
"""Least share of usable pixels of a usable cell."""


@dataclass(frozen=True, eq=False)
class DenseViews:
    """Both views of all samples: [view 1 of all, view 2 of all], N = 2B."""

    images: Tensor
    """[N, C, H, W]."""
    weight: Tensor | None
    """[N]; None: all 1."""
    valid: Tensor | None
    """[N, H, W] usable pixels; None: all."""
    matrix: Tensor | None
    """[N, 3, 3] view pixels to patch pixels."""
    depth: Tensor | None
    """[N, H, W], NaN where unknown."""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.images.shape[-2], self.images.shape[-1]

    def usable(self, maps: Tensor) -> Tensor | None:
        """Usable cells of feature maps [N, D, h, w]: [N, h, w] bool; None: all."""
        if self.valid is None:
            return None
        share = adaptive_avg_pool2d(self.valid.float().unsqueeze(1), _grid(maps))
        return share.squeeze(1) >= USABLE


class DenseTask(MomentumTask):
    """Contrast cells of feature maps: the two directions, the levels and the terms.

    The hyperparameters ``levels``, ``level_weights`` and ``terms`` are as in
    :class:`rscontrast.tasks.pixpro.PixPro`. A method says what its cells are in :meth:`query_cells`
    and :meth:`key_cells`, the finest level first.
    """

    def configure_models(self) -> None:
        """Build encoder and terms; a method adds heads and copies."""
        super().configure_models()
        self.channels = level_channels(self.model, self.hparams["levels"])
        _check_weights(self.hparams["level_weights"], len(self.channels))
        self.terms = build_terms(self.hparams["terms"])

    def maps(self, encoder: torch.nn.Module, images: Tensor) -> list[Tensor]:
        """Feature maps of the levels."""
        found: list[Tensor] = encoder(images)[-len(self.channels) :]
        return found

    def dense_views(self, batch: Sample) -> DenseViews:
        """Take a batch apart.

        Args:
            batch: as in :meth:`contrast`, with ``view_matrix`` [B, 2, 3, 3] where positives are
                found by place, and ``depth`` [B, 2, (1,) H, W] for the term of that name.
        """
        views = self.views(batch)
        depth = batch.get("depth")
        if depth is not None and depth.ndim == 5:
            depth = depth.squeeze(2)
        return DenseViews(
            torch.cat([views.view1, views.view2]),
            None if views.weight is None else views.weight.repeat(2),
            _by_view(batch.get("valid")),
            _by_view(batch.get("view_matrix")),
            _by_view(depth),
        )

    def near(self, views: DenseViews, query: Tensor, key: Tensor) -> Tensor:
        """Positives by place, of each view with the other.

        Raises:
            TrainingError: the batch does not say where its views lie.
        """
        if views.matrix is None:
            raise TrainingError("batch without 'view_matrix': make its views by PairViews")
        cells, others = _grid(query), _grid(key)
        return view_positives(views.matrix, other(views.matrix), views.size, cells, others)

    def level(
        self, views: DenseViews, query: Tensor, key: Tensor, positives: Tensor, dense: DenseLoss
    ) -> LossOutput:
        """Loss of one level: each view's cells with those of the other, mean of both directions.

        Args:
            views: of the batch.
            query: [N, D, h, w] of the online branch.
            key: [N, D, h, w] of the momentum branch, of the same views.
            positives: [N, h * w, h * w] of each view with the other.
            dense: the loss.
        """
        valid = views.usable(query)
        usable = {
            "weight": views.weight,
            "query_valid": valid,
            "key_valid": None if valid is None else other(valid),
        }
        positives = mask_positives(positives, **usable)
        logged: dict[str, Tensor] = {}
        if "depth" in self.terms:
            positives, logged = self._filtered(views, positives, _grid(query))
        output = dense(query, other(key), positives, **usable)
        return LossOutput(output.loss, output.diagnostics | logged)

    def whole(self, levels: Sequence[LossOutput], share: Tensor) -> LossOutput:
        """Sum of the levels' losses; of one level it is that level's.

        Args:
            levels: losses of this rank's samples, the finest level first.
            share: of :meth:`share`.
        """
        weights = self.hparams["level_weights"]
        if len(levels) == 1 and weights is None:
            return _of_rank(levels[0], share)
        named = {f"level{i}": output for i, output in enumerate(levels)}
        chosen = None if weights is None else dict(zip(named, map(float, weights), strict=True))
        summed = combine(named, chosen)
        return _of_rank(summed, share)

    def with_terms(self, output: LossOutput, given: TermInput, share: Tensor) -> LossOutput:
        """Add the terms; ``share`` as in :meth:`whole`."""
        loss, logged = output
        for name, term in self.terms.items():
            if isinstance(term, DecouplingTerm | DepositioningTerm):
                part = _of_rank(term(given), share)
                loss = loss + term.weight * part.loss
                logged = logged | {
                    f"{name}_{key}": value for key, value in part.diagnostics.items()
                }
                logged[f"{name}_loss"] = part.loss.detach()
        return LossOutput(loss, logged)

    @staticmethod
    def share(views: DenseViews) -> Tensor:
        """What this rank's samples count in the mean over ranks."""
        weight = views.weight
        return rank_share(views.images.new_ones(len(views.images)) if weight is None else weight)

    def _filtered(
        self, views: DenseViews, positives: Tensor, cells: tuple[int, int]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if views.depth is None:
            remedy = "the term 'depth' needs a raster of that name in the data set"
            raise TrainingError(f"batch without 'depth': {remedy}")
        keep = self.terms["depth"]
        assert isinstance(keep, DepthFilter)
        found, logged = keep(positives, views.depth, other(views.depth), cells, cells)
        return found, logged


def _of_rank(output: LossOutput, share: Tensor) -> LossOutput:
    """Scaled so that the mean over ranks is the mean over samples, also of what is logged."""
    logged = {k: torch.where(share > 0, share * v, 0) for k, v in output.diagnostics.items()}
    return LossOutput(share * output.loss, logged)


def other(both: Tensor) -> Tensor:
    """Of each view the other one's: [view 1 of all, view 2 of all] the other way round."""
    return both.roll(len(both) // 2, dims=0)


def _check_weights(weights: Any, count: int) -> None:
    if weights is None:
        return
    listed = isinstance(weights, Sequence) and len(weights) == count
    if not listed or not all(is_number(w) and 0 <= w < math.inf for w in weights):
        raise InputError("level_weights", weights, f"{count} finite numbers of 0 or more")


def _by_view(tensor: Tensor | None) -> Tensor | None:
    """[B, 2, ...] as [view 1 of all, view 2 of all]."""
    return None if tensor is None else tensor.transpose(0, 1).flatten(0, 1)


def _grid(maps: Tensor) -> tuple[int, int]:
    return maps.shape[-2], maps.shape[-1]
