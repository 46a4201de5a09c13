"""The batch-contrastive losses, letter by letter: double loops over pairs, float64, plain exp."""

import math

import torch
from torch import Tensor

type Pairs = dict[tuple[int, int], float]
"""Weight W of every determined false negative, by (anchor, negative)."""


def cosines(view1: Tensor, view2: Tensor) -> list[list[Tensor]]:
    """Cosine of every pair, each by itself."""
    z = [*view1.double(), *view2.double()]
    return [[a @ b / (a.norm() * b.norm()) for b in z] for a in z]


def nt_xent(view1: Tensor, view2: Tensor, temperature: float) -> Tensor:
    """SimCLR, eq. 1, averaged over the anchors."""
    cos = cosines(view1, view2)
    count = len(cos)
    total = view1.new_zeros((), dtype=torch.float64)
    for i in range(count):
        denominator = sum(torch.exp(cos[i][j] / temperature) for j in range(count) if j != i)
        positive = torch.exp(cos[i][(i + count // 2) % count] / temperature)
        total = total - torch.log(positive / denominator)
    return total / count


def calibrated(view1: Tensor, view2: Tensor, temperature: float, pairs: Pairs) -> Tensor:
    """FALSE, given its determined pairs: -mean log(pos / (pos + neg))."""
    cos = cosines(view1, view2)
    total = view1.new_zeros((), dtype=torch.float64)
    for i in range(len(cos)):
        positive, negative = signals(cos, i, temperature, pairs)
        total = total - torch.log(positive / (positive + negative))
    return total / len(cos)


def signals(
    cos: list[list[Tensor]], i: int, temperature: float, pairs: Pairs
) -> tuple[Tensor, Tensor]:
    """Positive and negative signal of anchor ``i``."""
    partner = (i + len(cos) // 2) % len(cos)
    positive, negative = torch.exp(cos[i][partner] / temperature), torch.zeros(()).double()
    for j in range(len(cos)):
        if j not in (i, partner):
            s, weight = torch.exp(cos[i][j] / temperature), pairs.get((i, j), 0.0)
            positive, negative = positive + weight * s, negative + (1 - weight) * s
    return positive, negative


def global_pairs(
    cos: list[list[Tensor]], threshold: float, temperature: float
) -> set[tuple[int, int]]:
    """The one pair i < j whose s is nearest to that of the anchor's positive."""
    count, best, pair = len(cos), math.inf, (0, 0)
    for i in range(count):
        positive = math.exp(cos[i][(i + count // 2) % count].item() / temperature)
        for j in range(i + 1, count):
            distance = abs(math.exp(cos[i][j].item() / temperature) - positive)
            if j != (i + count // 2) % count and distance < best:
                best, pair = distance, (i, j)
    accepted = cos[pair[0]][(pair[0] + count // 2) % count].item() >= threshold
    return {pair} if accepted else set()


def nearest_pairs(cos: list[list[Tensor]], threshold: float) -> set[tuple[int, int]]:
    """Per anchor, the negative whose cosine is nearest to that of its positive."""
    count, pairs = len(cos), set[tuple[int, int]]()
    for i in range(count):
        partner = (i + count // 2) % count
        positive = cos[i][partner].item()
        negatives = [j for j in range(count) if j not in (i, partner)]
        if positive >= threshold:
            pairs.add((i, min(negatives, key=lambda j: abs(cos[i][j].item() - positive))))
    return pairs


def above_pairs(
    cos: list[list[Tensor]], threshold: float, margin: float, limit: int
) -> set[tuple[int, int]]:
    """Per anchor, the ``limit`` most similar negatives that reach its positive less a margin."""
    count, pairs = len(cos), set[tuple[int, int]]()
    for i in range(count):
        partner = (i + count // 2) % count
        positive = cos[i][partner].item()
        negatives = [j for j in range(count) if j not in (i, partner)]
        negatives.sort(key=lambda j: -cos[i][j].item())
        for j in negatives[:limit]:
            if positive >= threshold and cos[i][j].item() >= positive - margin:
                pairs.add((i, j))
    return pairs
