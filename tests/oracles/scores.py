"""Slow, literal versions of the metrics: one pixel at a time, in plain Python."""

import math
from itertools import pairwise


def xview2(truths, predictions):
    """The challenge's score of lists of images (nested lists), as its scorer goes about it."""
    loc = {"tp": 0, "fp": 0, "fn": 0}
    dam = {g: {"tp": 0, "fp": 0, "fn": 0} for g in (1, 2, 3, 4)}
    for truth, prediction in zip(truths, predictions, strict=True):
        for t, p in _pixels(truth, prediction):
            _tally(loc, t > 0, p > 0)
            if t > 0:
                for grade, counts in dam.items():
                    _tally(counts, t == grade, p == grade)
    grades = [_scorer_f1(**counts) for counts in dam.values()]
    damage = 4 / sum((x + 1e-6) ** -1 for x in grades)
    return 0.3 * _scorer_f1(**loc) + 0.7 * damage, _scorer_f1(**loc), damage, grades


def _tally(counts, true, found):
    if true and found:
        counts["tp"] += 1
    elif found:
        counts["fp"] += 1
    elif true:
        counts["fn"] += 1


def _scorer_f1(tp, fp, fn):
    precision = 0 if tp == 0 else tp / (tp + fp)
    recall = 0 if tp == 0 else tp / (tp + fn)
    if precision == 0 or recall == 0:
        return 0
    return 2 * precision * recall / (precision + recall)


def _pixels(truth, prediction):
    for rows in zip(truth, prediction, strict=True):
        yield from zip(*rows, strict=True)


def class_f1_iou(truth, prediction, label):
    """F1 and IoU of a class of one image, 255 left out; NaN where it does not occur."""
    counts = {"tp": 0, "fp": 0, "fn": 0}
    for t, p in _pixels(truth, prediction):
        if 255 not in (t, p):
            _tally(counts, t == label, p == label)
    tp, fp, fn = counts.values()
    if tp + fp + fn == 0:
        return math.nan, math.nan
    return 2 * tp / (2 * tp + fp + fn), tp / (tp + fp + fn)


def boundary(region, distance):
    """Pixels (row, col) of a region, a set, with a pixel not of it in the square around them."""
    around = range(-distance, distance + 1)
    return {
        (r, c)
        for r, c in region
        if any((r + i, c + j) not in region for i in around for j in around)
    }


def boundary_iou(truth, prediction, label, distance):
    """Of one image; pixels of 255 in either are in no region."""
    regions = [set(), set()]
    for r, rows in enumerate(zip(truth, prediction, strict=True)):
        for c, values in enumerate(zip(*rows, strict=True)):
            for region, value in zip(regions, values, strict=True):
                if 255 not in values and value == label:
                    region.add((r, c))
    a, b = (boundary(region, distance) for region in regions)
    return len(a & b) / len(a | b) if a | b else math.nan


def flood(image):
    """Connected components (4 neighbours) of pixels above 0 and not 255: a list of sets."""
    left = {(r, c) for r, row in enumerate(image) for c, v in enumerate(row) if 0 < v < 255}
    found = []
    while left:
        start = min(left)
        group, edge = {start}, [start]
        while edge:
            r, c = edge.pop()
            for near in ((r + 1, c), (r - 1, c), (r, c + 1), (r, c - 1)):
                if near in left and near not in group:
                    group.add(near)
                    edge.append(near)
        found.append(group)
        left -= group
    return found


def objects(truth, prediction, keep, classes, footprints=None):
    """Confusion of buildings, a list of lists; ``footprints``: a list of sets of pixels."""
    counts = [[0] * classes for _ in range(classes)]
    footprints = flood(truth) if footprints is None else footprints
    kept = {(r, c) for r, row in enumerate(keep) for c, k in enumerate(row) if k}
    for group in footprints:
        true = _most([truth[r][c] for r, c in group & kept if truth[r][c] > 0])
        if true is not None:
            counts[true][_most([prediction[r][c] for r, c in group & kept])] += 1
    shown = [
        [p if (r, c) in kept else 0 for c, p in enumerate(row)] for r, row in enumerate(prediction)
    ]
    for group in flood(shown):
        if not any(group & footprint for footprint in footprints):
            counts[0][_most([prediction[r][c] for r, c in group])] += 1
    return counts


def _most(values):
    return min(set(values), key=lambda v: (-values.count(v), v)) if values else None


def ece(confidence, right, bins):
    """Guo et al., equation 3: equal widths, each bin without its lower end."""
    total, error = len(confidence), 0.0
    for m in range(bins):
        low, high = m / bins, (m + 1) / bins
        inside = [i for i, c in enumerate(confidence) if low < c <= high or (m == 0 and c == 0)]
        if inside:
            sure = sum(confidence[i] for i in inside) / len(inside)
            share = sum(right[i] for i in inside) / len(inside)
            error += len(inside) / total * abs(share - sure)
    return error


def adaptive_ece(confidence, right, bins):
    """Equal numbers in each bin."""
    order = sorted(range(len(confidence)), key=lambda i: confidence[i])
    error, ends = 0.0, [round(m * len(order) / bins) for m in range(bins + 1)]
    for low, high in pairwise(ends):
        inside = order[low:high]
        sure = sum(confidence[i] for i in inside)
        share = sum(right[i] for i in inside)
        error += abs(share - sure) / len(order)
    return error
