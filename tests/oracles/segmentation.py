"""Slow, literal versions of the segmentation losses: one pixel at a time, in plain Python."""

import math


def _weighted(values, weights):
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


def cross_entropy(p, y, w):
    return _weighted([-math.log(q[c]) for q, c in zip(p, y, strict=True)], [w[c] for c in y])


def focal(p, y, w, gamma=2.0):
    terms = [-((1 - q[c]) ** gamma) * math.log(q[c]) for q, c in zip(p, y, strict=True)]
    return _weighted(terms, [w[c] for c in y])


def dice(p, y, w):
    losses = []
    for label in sorted(set(y)):
        both = sum(q[label] for q, c in zip(p, y, strict=True) if c == label)
        sums = sum(q[label] for q in p) + sum(c == label for c in y)
        losses.append(1 - 2 * both / sums)
    return sum(losses) / len(losses)


def lovasz(p, y, w):
    """By the definition: m_i times what it adds to 1 - IoU that pixel i is wrong too."""
    losses = []
    for label in sorted(set(y)):
        errors = [1 - q[label] if c == label else q[label] for q, c in zip(p, y, strict=True)]
        order = sorted(range(len(y)), key=lambda i: -errors[i])
        truth = {i for i, c in enumerate(y) if c == label}
        loss, before = 0.0, 0.0
        for count in range(1, len(y) + 1):
            wrong = set(order[:count])
            found = (truth - wrong) | (wrong - truth)
            now = 1 - len(found & truth) / len(found | truth)
            loss, before = loss + errors[order[count - 1]] * (now - before), now
        losses.append(loss)
    return sum(losses) / len(losses)


def building(p, y, w):
    terms = [-math.log(sum(q[1:]) if c else q[0]) for q, c in zip(p, y, strict=True)]
    return _weighted(terms, [w[c] for c in y])


def building_grade(p, y, w):
    inside = [(q, c) for q, c in zip(p, y, strict=True) if c]
    terms = [-math.log(q[c] / sum(q[1:])) for q, c in inside]
    graded = _weighted(terms, [w[c] for _, c in inside]) if inside else 0.0
    return building(p, y, w) + graded


def ordinal(p, y, w):
    inside = [(q, c) for q, c in zip(p, y, strict=True) if c]
    terms = []
    for q, c in inside:
        grades = [g / sum(q[1:]) for g in q[1:]]
        term = 0.0
        for k in range(1, len(grades)):
            worse = sum(grades[k:])
            term -= math.log(worse if c > k else 1 - worse)
        terms.append(term)
    return building(p, y, w) + (_weighted(terms, [w[c] for _, c in inside]) if inside else 0.0)
