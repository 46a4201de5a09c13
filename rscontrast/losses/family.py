"""Losses by name, which the tasks choose from: over a batch, and with a queue."""

from typing import Any

import torch
from torch import Tensor, nn

from rscontrast.errors import InputError
from rscontrast.losses.false import FALSELoss
from rscontrast.losses.info_nce import InfoNCE, check_temperature
from rscontrast.losses.output import LossOutput


class _Batch(nn.Module):
    """A loss over the samples whose weight is not 0."""

    needs_index = False

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(
        self,
        view1: Tensor,
        view2: Tensor,
        *,
        weight: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> LossOutput:
        kept = slice(None) if weight is None else weight > 0
        if len(view1[kept]) < 2:
            return LossOutput(0.0 * (view1[kept].sum() + view2[kept].sum()), {})
        more = {} if labels is None or isinstance(self.inner, InfoNCE) else {"labels": labels[kept]}
        output: LossOutput = self.inner(view1[kept], view2[kept], **more)
        return output


class _InfoNCE(_Batch):
    def __init__(self, temperature: float = 0.5) -> None:
        super().__init__(InfoNCE(temperature))


class _FALSE(_Batch):
    def __init__(self, temperature: float = 0.5, **settings: Any) -> None:
        super().__init__(FALSELoss(temperature=temperature, **settings))


class _QueueInfoNCE(nn.Module):
    needs_index = False

    def __init__(self, temperature: float = 0.2) -> None:
        super().__init__()
        self.temperature = check_temperature(temperature)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        queue: Tensor,
        *,
        weight: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> LossOutput:
        if query.shape != key.shape:
            raise InputError("key", tuple(key.shape), f"the shape of query, {tuple(query.shape)}")
        with torch.autocast(query.device.type, enabled=False):
            query, key, queue = (
                nn.functional.normalize(z.to(torch.promote_types(z.dtype, torch.float32)), dim=1)
                for z in (query, key.detach(), queue.detach())
            )
            positive = (query * key).sum(dim=1)
            logits = torch.cat([positive[:, None], query @ queue.T], dim=1) / self.temperature
            each = logits.logsumexp(1) - logits[:, 0]
            share = torch.ones_like(each) if weight is None else weight.to(each.dtype)
            loss = torch.where(share > 0, each, 0.0).mul(share).sum() / share.sum().clamp(min=1e-12)
        return LossOutput(loss, {"positive_similarity": positive.detach().mean()})


BATCH: dict[str, type[nn.Module]] = {"info_nce": _InfoNCE, "false": _FALSE}
"""Name -> loss of two views: ``forward(view1, view2, *, weight=None, labels=None)``."""

QUEUE: dict[str, type[nn.Module]] = {"info_nce": _QueueInfoNCE}
"""Name -> loss with a queue: ``forward(query, key, queue, *, weight=None, labels=None)``."""
