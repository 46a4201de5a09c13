"""What a pretraining tells of itself while it runs, without labels: collapse, rank, evenness."""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from rscontrast.errors import whole
from rscontrast.metrics.embedding import alignment, effective_rank, embedding_std, uniformity

MOST = 2048
"""Samples of an epoch that are looked at, over all ranks."""

type Found = dict[str, float]
type Sums = dict[str, tuple[float, int]]


class Signals:
    """Collects the embeddings of an epoch's two views, and says what they are worth.

    A bounded number is kept, the first ones of each rank. Of the loss's diagnostics it keeps the
    mean over the batches that have one. What cannot be said is left out: it is never NaN.
    """

    def __init__(self, most: int = MOST) -> None:
        """Start empty.

        Args:
            most: samples that are kept, over all ranks, 2 or more.

        Raises:
            InputError: fewer.
        """
        self.most = whole("most", most, least=2)
        self.reset()

    def reset(self) -> None:
        """Forget all."""
        self._views: list[tuple[Tensor, Tensor]] = []
        self._count = 0
        self._sums: Sums = {}

    @torch.no_grad()
    def update(
        self,
        view1: Tensor,
        view2: Tensor,
        weight: Tensor | None = None,
        diagnostics: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Take a batch of this rank.

        Args:
            view1: [N, D] embeddings of the first views, of this rank alone.
            view2: [N, D] of the second ones.
            weight: [N]; samples of weight 0 are left out, as are those that are not finite.
            diagnostics: scalars of the loss.
        """
        for name, value in (diagnostics or {}).items():
            number = float(value)
            if math.isfinite(number):
                total, count = self._sums.get(name, (0.0, 0))
                self._sums[name] = (total + number, count + 1)
        room = max(1, self.most // _world()) - self._count
        if room <= 0:
            return
        usable = view1.isfinite().all(1) & view2.isfinite().all(1)
        if weight is not None:
            usable &= weight > 0
        pair = (view1[usable][:room].float(), view2[usable][:room].float())
        self._views.append(pair)
        self._count += len(pair[0])

    def compute(self) -> Found:
        """What the epoch says, over all ranks, the same on each; all ranks must ask.

        Returns:
            ``embedding_std``, ``effective_rank`` and ``uniformity`` (of both views together) and
            ``alignment``, see :mod:`rscontrast.metrics.embedding`, where there are two samples or
            more; and the mean of each diagnostic.
        """
        views, sums = self._gathered()
        found = {name: total / count for name, (total, count) in sums.items()}
        if sum(len(view1) for view1, _ in views) < 2:
            return found
        view1, view2 = (torch.cat(side) for side in zip(*views, strict=True))
        both = torch.cat([view1, view2])
        return found | {
            "embedding_std": embedding_std(both).item(),
            "effective_rank": effective_rank(both).item(),
            "alignment": alignment(view1, view2).item(),
            "uniformity": uniformity(both).item(),
        }

    def _gathered(self) -> tuple[list[tuple[Tensor, Tensor]], Sums]:
        """Views and sums of all ranks, in their order."""
        if _world() == 1:
            return self._views, self._sums
        # Ranks may have different numbers of samples, or none, of which objects make nothing.
        own: Any = ([(a.cpu(), b.cpu()) for a, b in self._views], self._sums)
        parts: list[Any] = [None] * _world()
        dist.all_gather_object(parts, own)
        names = {name: None for _, sums in parts for name in sums}
        added = {}
        for name in names:
            each = [sums[name] for _, sums in parts if name in sums]
            added[name] = (sum(total for total, _ in each), sum(count for _, count in each))
        return [pair for views, _ in parts for pair in views], added


def _world() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
