"""The batch-contrastive losses, letter by letter: loops over pairs, float64, plain exp.

Each loss is given rows, one an anchor: the cosine of its positive, and those of its negatives by
their place. It returns the losses of the anchors.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Row(NamedTuple):
    """An anchor: cosines, each made by itself."""

    positive: Tensor
    negatives: dict[int, Tensor]


type Pairs = dict[tuple[int, int], float]
"""Weight W of every determined false negative, by (anchor, negative)."""


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return a @ b / (a.norm() * b.norm())


def batch_rows(view1: Tensor, view2: Tensor) -> list[Row]:
    """Each embedding against all others of the batch."""
    z = [*view1.double(), *view2.double()]
    rows = []
    for i in range(len(z)):
        partner = (i + len(z) // 2) % len(z)
        others = [j for j in range(len(z)) if j not in (i, partner)]
        rows.append(Row(cosine(z[i], z[partner]), {j: cosine(z[i], z[j]) for j in others}))
    return rows


def queue_rows(query: Tensor, key: Tensor, queue: Tensor) -> list[Row]:
    """Each query against its key and all entries of the queue."""
    rows = []
    for q, k in zip(query.double(), key.double(), strict=True):
        negatives = {j: cosine(q, u) for j, u in enumerate(queue.double())}
        rows.append(Row(cosine(q, k), negatives))
    return rows


def average(losses: list[Tensor], weight: list[float] | None = None) -> Tensor:
    """Weighted mean over the anchors."""
    weight = [1.0] * len(losses) if weight is None else weight
    total = sum(w * loss for w, loss in zip(weight, losses, strict=True))
    return total / sum(weight)


def info_nce(rows: list[Row], t: float) -> list[Tensor]:
    """SimCLR, eq. 1; MoCo, eq. 1."""
    losses = []
    for row in rows:
        positive = torch.exp(row.positive / t)
        denominator = positive + sum(torch.exp(c / t) for c in row.negatives.values())
        losses.append(-torch.log(positive / denominator))
    return losses


def calibrated(rows: list[Row], t: float, pairs: Pairs) -> list[Tensor]:
    """FALSE, given its determined pairs: -log(pos / (pos + neg))."""
    losses = []
    for i in range(len(rows)):
        positive, negative = signals(rows, i, t, pairs)
        losses.append(-torch.log(positive / (positive + negative)))
    return losses


def signals(rows: list[Row], i: int, t: float, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Positive and negative signal of anchor ``i``."""
    positive, negative = torch.exp(rows[i].positive / t), torch.zeros(()).double()
    for j, value in rows[i].negatives.items():
        s, weight = torch.exp(value / t), pairs.get((i, j), 0.0)
        positive, negative = positive + weight * s, negative + (1 - weight) * s
    return positive, negative


def global_pairs(rows: list[Row], threshold: float, t: float, upper: bool) -> set[tuple[int, int]]:
    """The one pair (in a batch: i < j) whose s is nearest to that of the anchor's positive."""
    best, pair = math.inf, (0, 0)
    for i, row in enumerate(rows):
        for j, value in row.negatives.items():
            distance = abs(math.exp(value.item() / t) - math.exp(row.positive.item() / t))
            if (j > i or not upper) and distance < best:
                best, pair = distance, (i, j)
    return {pair} if rows[pair[0]].positive.item() >= threshold else set()


def nearest_pairs(rows: list[Row], threshold: float) -> set[tuple[int, int]]:
    """Per anchor, the negative whose cosine is nearest to that of its positive."""
    pairs = set[tuple[int, int]]()
    for i, row in enumerate(rows):
        gaps = {j: abs((value - row.positive).item()) for j, value in row.negatives.items()}
        if row.positive.item() >= threshold:
            pairs.add((i, min(gaps, key=lambda j: gaps[j])))
    return pairs


def above_pairs(
    rows: list[Row], threshold: float, margin: float, limit: int
) -> set[tuple[int, int]]:
    """Per anchor, the ``limit`` most similar negatives that reach its positive less a margin."""
    pairs = set[tuple[int, int]]()
    for i, row in enumerate(rows):
        positive = row.positive.item()
        order = sorted(row.negatives, key=lambda j: -row.negatives[j].item())
        for j in order[:limit]:
            if positive >= threshold and row.negatives[j].item() >= positive - margin:
                pairs.add((i, j))
    return pairs


def similar_pairs(
    rows: list[Row], others: list[Row], threshold: float, limit: int
) -> set[tuple[int, int]]:
    """FNC: the most similar to either view of the sample; ``others`` are the other views' rows."""
    pairs = set[tuple[int, int]]()
    for i, (row, other) in enumerate(zip(rows, others, strict=True)):
        score = {j: max(row.negatives[j].item(), other.negatives[j].item()) for j in row.negatives}
        for j in sorted(score, key=lambda j: -score[j])[:limit]:
            if score[j] > threshold:
                pairs.add((i, j))
    return pairs


def debiased(rows: list[Row], t: float, class_share: float) -> list[Tensor]:
    """DCL with one positive: g is the estimated sum over true negatives, clamped from below."""
    losses = []
    for row in rows:
        count, positive = len(row.negatives), torch.exp(row.positive / t)
        negative = sum(torch.exp(c / t) for c in row.negatives.values())
        estimate = (negative - class_share * count * positive) / (1 - class_share)
        least = torch.tensor(count * math.exp(-1 / t), dtype=torch.float64)
        g = estimate if estimate.item() >= least.item() else least
        losses.append(-torch.log(positive / (positive + g)))
    return losses


def attraction(rows: list[Row], t: float, pairs: set[tuple[int, int]]) -> list[Tensor]:
    """FNC: -1 / (1 + |F|) of the sum over F and the positive of log(s / sum of all)."""
    losses = []
    for i, row in enumerate(rows):
        positives = [row.positive] + [row.negatives[j] for k, j in sorted(pairs) if k == i]
        total = torch.exp(row.positive / t) + sum(torch.exp(c / t) for c in row.negatives.values())
        terms = [torch.log(torch.exp(c / t) / total) for c in positives]
        losses.append(-sum(terms) / len(terms))
    return losses


def elimination(rows: list[Row], t: float, pairs: set[tuple[int, int]]) -> list[Tensor]:
    """FNC: the denominator is without F."""
    kept = [
        Row(row.positive, {j: c for j, c in row.negatives.items() if (i, j) not in pairs})
        for i, row in enumerate(rows)
    ]
    return info_nce(kept, t)


def glofnd(rows: list[Row], t: float, thresholds: list[float]) -> list[Tensor]:
    """GloFND: negatives up to the anchor's threshold, rescaled to the number of all."""
    losses = []
    for row, threshold in zip(rows, thresholds, strict=True):
        kept = [c for c in row.negatives.values() if c.item() <= threshold]
        positive, g = torch.exp(row.positive / t), torch.zeros(()).double()
        if kept:
            g = len(row.negatives) / len(kept) * sum(torch.exp(c / t) for c in kept)
        losses.append(-torch.log(positive / (positive + g)))
    return losses


def stepped(
    rows: list[Row], thresholds: list[float], false_share: float, rate: float
) -> list[float]:
    """GloFND: one step of each sample's threshold, over the negatives of all its views."""
    count, new = len(thresholds), []
    for i, threshold in enumerate(thresholds):
        values = [c.item() for row in rows[i::count] for c in row.negatives.values()]
        found = sum(value > threshold for value in values) / len(values)
        new.append(min(1.0, max(-1.0, threshold - rate * (false_share - found))))
    return new
