"""The modules of the batch-contrastive losses: each only holds the arguments of its function."""

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn

from rscontrast.losses.output import LossOutput


class Held(nn.Module):
    """Arguments of a loss, held; they are shown by ``repr``."""

    needs_index: ClassVar[bool] = False
    """Whether ``forward`` takes the samples' place in the data set, ``index`` [N], too."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.settings = settings

    def extra_repr(self) -> str:
        """Show the arguments."""
        return ", ".join(f"{name}={value!r}" for name, value in self.settings.items())


class BatchLoss(Held):
    """A loss over two views of a batch."""

    function: ClassVar[Callable[..., LossOutput]]

    def forward(
        self,
        view1: Tensor,
        view2: Tensor,
        *,
        weight: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> LossOutput:
        """See the function of the same name."""
        return type(self).function(view1, view2, weight=weight, labels=labels, **self.settings)


class QueueLoss(Held):
    """A loss of queries against keys and a queue."""

    function: ClassVar[Callable[..., LossOutput]]

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        queue: Tensor,
        *,
        weight: Tensor | None = None,
        labels: Tensor | None = None,
        queue_labels: Tensor | None = None,
    ) -> LossOutput:
        """See the function of the same name."""
        given = {"weight": weight, "labels": labels, "queue_labels": queue_labels}
        return type(self).function(query, key, queue, **given, **self.settings)
