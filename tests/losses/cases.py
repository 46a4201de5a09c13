"""Every image-level loss, with its module and its oracle, in one list."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rscontrast.losses import (
    DebiasedLoss,
    FALSELoss,
    FalseNegativeAttraction,
    FalseNegativeElimination,
    GloFNDLoss,
    InfoNCE,
    LossOutput,
    QueueDebiasedLoss,
    QueueFALSELoss,
    QueueFalseNegativeAttraction,
    QueueFalseNegativeElimination,
    QueueGloFNDLoss,
    QueueInfoNCE,
    debiased_contrastive,
    false_contrastive,
    false_negative_attraction,
    false_negative_elimination,
    glofnd,
    info_nce,
    queue_debiased_contrastive,
    queue_false_contrastive,
    queue_false_negative_attraction,
    queue_false_negative_elimination,
    queue_glofnd,
    queue_info_nce,
)
from tests.oracles import contrastive as oracle

THRESHOLD = 0.3
"""Of every sample, for GloFND."""

type Inputs = tuple[Tensor, ...]


@dataclass(frozen=True)
class Case:
    """A loss with settings that change it, its module with the same, and its oracle."""

    name: str
    function: Callable[..., LossOutput]
    module: Callable[..., nn.Module]
    oracle: Callable[[list[oracle.Row], list[oracle.Row], float], list[Tensor]]
    """Of the rows, those of the other view of each anchor's sample, and the temperature."""
    order_free: bool = True
    queue: bool = False

    def __str__(self) -> str:
        return self.name

    def loss(self, *inputs: Tensor, temperature: float = 0.5, **kwargs: Any) -> Tensor:
        return self.function(*inputs, temperature=temperature, **kwargs).loss

    def inputs(self, count: int = 6, dim: int = 5, noise: float = 0.3, seed: int = 0) -> Inputs:
        """Two noisy views; for a queue, queries, keys and 7 entries."""
        views = make_views(count, dim, noise, seed)
        return (*views, make_views(7, dim, seed=seed + 100)[0]) if self.queue else views

    def trained(self, inputs: Inputs) -> Inputs:
        """What has a gradient."""
        return inputs[:1] if self.queue else inputs

    def per_sample(self, inputs: Inputs) -> Inputs:
        """What has an entry a sample."""
        return inputs[:2]

    def rows(self, inputs: Inputs) -> tuple[list[oracle.Row], list[oracle.Row]]:
        if not self.queue:
            rows = oracle.batch_rows(*inputs)
            return rows, rows[len(rows) // 2 :] + rows[: len(rows) // 2]
        query, key, queue = inputs
        return oracle.queue_rows(query, key, queue), oracle.queue_rows(key, query, queue)

    def expected(
        self, *inputs: Tensor, temperature: float = 0.5, weight: Tensor | None = None
    ) -> Tensor:
        """The loss as the oracle has it."""
        losses = self.oracle(*self.rows(inputs), temperature)
        weights = None
        if weight is not None:
            weights = (weight if self.queue else weight.repeat(2)).tolist()
        return oracle.average(losses, weights)


def make_views(
    count: int = 6, dim: int = 5, noise: float = 0.3, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Two noisy views of ``count`` random embeddings, float64, not normalised."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(count, dim, generator=generator, dtype=torch.float64)
    second = first + noise * torch.randn(count, dim, generator=generator, dtype=torch.float64)
    return 3 * first, second


def _plain(rows: list[oracle.Row], _: list[oracle.Row], t: float) -> list[Tensor]:
    return oracle.info_nce(rows, t)


def _case(
    name: str, function: Callable[..., LossOutput], module: type[nn.Module], **kwargs: Any
) -> Case:
    own = {key: kwargs.pop(key) for key in ("oracle", "order_free") if key in kwargs}
    own["queue"] = name.startswith("queue")
    return Case(name, partial(function, **kwargs), partial(module, **kwargs), **own)


def _false_cases(select: str, *, queue: bool = False, **kwargs: Any) -> Case:
    def literal(rows: list[oracle.Row], _: list[oracle.Row], t: float) -> list[Tensor]:
        pairs = {
            "global": lambda: oracle.global_pairs(rows, -1, t, upper=not queue),
            "nearest": lambda: oracle.nearest_pairs(rows, -1),
            "above": lambda: oracle.above_pairs(rows, -1, 0.5, 3),
        }[select]()
        if "symmetric" in kwargs:
            pairs |= {(j, i) for i, j in pairs}
        return oracle.calibrated(rows, t, dict.fromkeys(pairs, 0.7))

    function, module = false_contrastive, FALSELoss
    if queue:
        function, module = queue_false_contrastive, QueueFALSELoss
    words = ["queue"] * queue + ["false", select] + ["symmetric"] * ("symmetric" in kwargs)
    settings = {"select": select, "positive_threshold": -1.0, "confidence": 0.7} | kwargs
    settings |= {"margin": 0.5, "max_selected": 3} if select == "above" else {}
    free = queue or select != "global"
    return _case("-".join(words), function, module, oracle=literal, order_free=free, **settings)


def _cancelling(
    name: str, function: Callable[..., LossOutput], module: type[nn.Module], of: Callable[..., Any]
) -> Case:
    def literal(rows: list[oracle.Row], others: list[oracle.Row], t: float) -> list[Tensor]:
        return of(rows, t, oracle.similar_pairs(rows, others, 0.2, 2))

    return _case(name, function, module, oracle=literal, threshold=0.2, max_selected=2)


def _debiased(name: str, function: Callable[..., LossOutput], module: type[nn.Module]) -> Case:
    def literal(rows: list[oracle.Row], _: list[oracle.Row], t: float) -> list[Tensor]:
        return oracle.debiased(rows, t, 0.15)

    return _case(name, function, module, oracle=literal, class_share=0.15)


def _glofnd(queue: bool) -> Case:
    def literal(rows: list[oracle.Row], _: list[oracle.Row], t: float) -> list[Tensor]:
        return oracle.glofnd(rows, t, [THRESHOLD] * len(rows))

    def function(*inputs: Tensor, **kwargs: Any) -> LossOutput:
        thresholds = torch.full(inputs[0].shape[:1], THRESHOLD, dtype=torch.float64)
        return (queue_glofnd if queue else glofnd)(*inputs, thresholds, **kwargs)

    class Module(QueueGloFNDLoss if queue else GloFNDLoss):
        """Of a rate that leaves its thresholds, and with its index."""

        def __init__(self, **kwargs: Any) -> None:
            super().__init__(size=64, rate=1e-30, **kwargs)
            self.thresholds.fill_(THRESHOLD)

        def forward(self, *inputs: Tensor, **kwargs: Any) -> LossOutput:
            index = torch.arange(len(inputs[0]))
            return super().forward(*inputs, index=index, **kwargs)

    return Case("queue-glofnd" if queue else "glofnd", function, Module, literal, queue=queue)


BATCH_CASES = [
    _case("info_nce", info_nce, InfoNCE, oracle=_plain),
    _false_cases("global"),
    _false_cases("nearest"),
    _false_cases("nearest", symmetric=True),
    _false_cases("above"),
    _false_cases("above", symmetric=True),
    _debiased("debiased", debiased_contrastive, DebiasedLoss),
    _cancelling(
        "attraction", false_negative_attraction, FalseNegativeAttraction, oracle.attraction
    ),
    _cancelling(
        "elimination", false_negative_elimination, FalseNegativeElimination, oracle.elimination
    ),
    _glofnd(queue=False),
]
QUEUE_CASES = [
    _case("queue-info_nce", queue_info_nce, QueueInfoNCE, oracle=_plain),
    _false_cases("global", queue=True),
    _false_cases("nearest", queue=True),
    _false_cases("above", queue=True),
    _debiased("queue-debiased", queue_debiased_contrastive, QueueDebiasedLoss),
    _cancelling(
        "queue-attraction",
        queue_false_negative_attraction,
        QueueFalseNegativeAttraction,
        oracle.attraction,
    ),
    _cancelling(
        "queue-elimination",
        queue_false_negative_elimination,
        QueueFalseNegativeElimination,
        oracle.elimination,
    ),
    _glofnd(queue=True),
]
CASES = BATCH_CASES + QUEUE_CASES
