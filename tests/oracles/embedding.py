"""The metrics of embeddings, word by word in float64: loops over samples, no matrix product."""

import math

import numpy as np


def unit(rows):
    rows = np.asarray(rows, dtype=np.float64)
    return np.array([row / math.sqrt(sum(x * x for x in row)) for row in rows])


def embedding_std(rows):
    z = unit(rows)
    deviations = []
    for column in z.T:
        mean = sum(column) / len(column)
        deviations.append(math.sqrt(sum((x - mean) ** 2 for x in column) / len(column)))
    return sum(deviations) / len(deviations) / (1 / math.sqrt(z.shape[1]))


def effective_rank(rows):
    values = np.linalg.svd(np.asarray(rows, dtype=np.float64), compute_uv=False)
    shares = [value / sum(values) for value in values if value > 0]
    return math.exp(-sum(p * math.log(p) for p in shares))


def squared(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def alignment(view1, view2, alpha=2.0):
    pairs = list(zip(unit(view1), unit(view2), strict=True))
    return sum(math.sqrt(squared(a, b)) ** alpha for a, b in pairs) / len(pairs)


def uniformity(rows, t=2.0):
    z = unit(rows)
    kernel = [
        math.exp(-t * squared(z[i], z[j])) for i in range(len(z)) for j in range(len(z)) if i != j
    ]
    return math.log(sum(kernel) / len(kernel))


def knn_predict(train, labels, test, k, temperature):
    known, found = unit(train), []
    for row in unit(test):
        cosines = [sum(a * b for a, b in zip(row, other, strict=True)) for other in known]
        nearest = sorted(range(len(known)), key=lambda i: -cosines[i])[:k]
        votes = [0.0] * (max(labels) + 1)
        for i in nearest:
            votes[labels[i]] += math.exp(cosines[i] / temperature)
        found.append(votes.index(max(votes)))
    return found


def probe_scores(train, labels, test, ridge):
    """Scores of ridge regression by normal equations with an unpenalised bias column."""
    train, test = np.asarray(train, np.float64), np.asarray(test, np.float64)
    mean, std = train.mean(0), train.std(0)
    std[std == 0] = 1
    features = np.column_stack([(train - mean) / std, np.ones(len(train))])
    targets = np.array([[float(label == c) for c in range(max(labels) + 1)] for label in labels])
    penalty = ridge * len(train) * np.diag([1.0] * train.shape[1] + [0.0])
    weight = np.linalg.solve(features.T @ features + penalty, features.T @ targets)
    return np.column_stack([(test - mean) / std, np.ones(len(test))]) @ weight
