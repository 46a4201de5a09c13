"""The dense losses, letter by letter: loops over samples and pairs of cells, float64."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

type Box = Sequence[float]


def positives(query: Box, key: Box, cells: tuple[int, int], threshold: float) -> Tensor:
    """PixPro's matrix of one pair of rectangles (x1, y1, x2, y2), one grid for both."""
    h, w = cells
    found = torch.zeros(h * w, h * w, dtype=torch.bool)

    def size(box: Box) -> tuple[float, float]:
        return (box[2] - box[0]) / w, (box[3] - box[1]) / h

    def centre(box: Box, cell: int) -> tuple[float, float]:
        width, height = size(box)
        return box[0] + (cell % w + 0.5) * width, box[1] + (cell // w + 0.5) * height

    diagonal = max(math.hypot(*size(query)), math.hypot(*size(key)))
    for i in range(h * w):
        for j in range(h * w):
            distance = math.dist(centre(query, i), centre(key, j)) / diagonal
            found[i, j] = distance < threshold
    return found


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return a @ b / (a.norm() * b.norm())


def cells(features: Tensor) -> list[Tensor]:
    """[D, h, w] as vectors [D], row by row."""
    return list(features.double().flatten(1).T)


def pixpro(query: Tensor, key: Tensor, chosen: Tensor, weight: Tensor) -> Tensor:
    """-2 times the weighted mean over samples of the mean cosine of positive pairs."""
    total, count = query.new_zeros((), dtype=torch.float64), 0.0
    for b in range(len(query)):
        above, below = query.new_zeros((), dtype=torch.float64), 1e-6
        for i, y in enumerate(cells(query[b])):
            for j, k in enumerate(cells(key[b].detach())):
                if chosen[b, i, j] > 0:
                    above = above + chosen[b, i, j] * cosine(y, k)
                    below = below + chosen[b, i, j]
        if weight[b] > 0:
            total, count = total + weight[b] * above / below, count + weight[b]
    return -2 * total / count


def dense_info_nce(
    query: Tensor,
    key: Tensor,
    chosen: Tensor,
    queue: Tensor | None,
    weight: Tensor,
    temperature: float,
    near: Tensor | None = None,
) -> Tensor:
    """The weighted mean over samples of the mean -log(s_ij / (s_ij + negatives)) of pairs."""
    near = chosen if near is None else near
    total, count = query.new_zeros((), dtype=torch.float64), 0.0
    for b in range(len(query)):
        others = cells(key[b].detach())
        above, below = query.new_zeros((), dtype=torch.float64), 1e-6
        for i, q in enumerate(cells(query[b])):
            apart = [k for j, k in enumerate(others) if near[b, i, j] == 0]
            negatives = apart if queue is None else list(queue.double())
            noise = sum(torch.exp(cosine(q, n) / temperature) for n in negatives)
            for j, k in enumerate(others):
                if chosen[b, i, j] > 0:
                    signal = torch.exp(cosine(q, k) / temperature)
                    above = above - chosen[b, i, j] * torch.log(signal / (signal + noise))
                    below = below + chosen[b, i, j]
        total, count = total + weight[b] * above / below, count + weight[b]
    return total / count


def propagate(features: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """Pixel propagation of one map [D, h, w], gamma = 2."""
    x = cells(features)
    made = []
    for a in x:
        total = torch.zeros_like(a)
        for b in x:
            value = kernel.double()[:, :, 0, 0] @ b + bias.double()
            total = total + max(cosine(a, b), torch.zeros(())) ** 2 * value / value.norm()
        made.append(total / total.norm())
    return torch.stack(made, 1).view(features.shape)


def depth_filter(
    chosen: Tensor, first: Tensor, second: Tensor, mode: str, scale: float
) -> tuple[Tensor, int]:
    """What depth leaves of the positives [N, I, J] by depths [N, h, w], and the fallbacks."""
    kept, fallbacks = chosen.double().clone(), 0
    for b in range(len(chosen)):
        pooled = sorted(d for d in [*first[b].flatten().tolist(), *second[b].flatten().tolist()]
                        if not math.isnan(d))  # fmt: skip
        low, middle, high = (_quantile(pooled, q) for q in (0.05, 0.5, 0.95))
        for i, mine in enumerate(first[b].flatten().tolist()):
            for j, other in enumerate(second[b].flatten().tolist()):
                if math.isnan(mine) or math.isnan(other):
                    continue
                step = (mine - middle) / (high - low) - (other - middle) / (high - low)
                hard = 1.0 if abs(step) < scale else 0.0
                kept[b, i, j] *= hard if mode == "hard" else math.exp(-(step**2) / (2 * scale**2))
        if kept[b].sum() <= 1e-6:
            kept[b] = chosen[b]
            fallbacks += int(chosen[b].any())
    return kept, fallbacks


def _quantile(values: list[float], share: float) -> float:
    place = share * (len(values) - 1)
    below = math.floor(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (place - below) * (values[above] - values[below])
