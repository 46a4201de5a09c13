"""Metrics of embeddings against literal ones in float64, and what must hold of any."""

import math

import numpy as np
import pytest
import torch

from rscontrast.errors import InputError
from rscontrast.metrics import embedding as metrics
from rscontrast.metrics.embedding import (
    accuracy,
    alignment,
    effective_rank,
    embedding_std,
    knn_predict,
    probe_predict,
    uniformity,
)
from tests.oracles import embedding as oracle


def drawn(count, size, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, size, generator=generator, dtype=dtype)


def classes(count=90, size=12, seed=0, spread=0.7):
    """Embeddings around three centres, and which."""
    labels = torch.arange(count) % 3
    centres = drawn(3, size, seed=9)
    return centres[labels] + spread * drawn(count, size, seed), labels


SINGLE, DOUBLE = torch.float32, torch.float64


@pytest.mark.parametrize("shape", [(7, 5), (40, 3), (3, 16)])
@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
@pytest.mark.parametrize("block", [metrics.BLOCK, 16])
def test_as_the_literal_ones(shape, dtype, block, monkeypatch):
    monkeypatch.setattr(metrics, "BLOCK", block)
    z, other = drawn(*shape, dtype=dtype) + 0.3, drawn(*shape, seed=1, dtype=dtype)
    rel = 1e-5 if dtype == SINGLE else 1e-10
    rows, others = z.tolist(), other.tolist()
    assert embedding_std(z).item() == pytest.approx(oracle.embedding_std(rows), rel=rel)
    assert effective_rank(z).item() == pytest.approx(oracle.effective_rank(rows), rel=rel)
    assert alignment(z, other).item() == pytest.approx(oracle.alignment(rows, others), rel=rel)
    half = alignment(z, other, alpha=1.0).item()
    assert half == pytest.approx(oracle.alignment(rows, others, 1.0), rel=rel)
    assert uniformity(z).item() == pytest.approx(oracle.uniformity(rows), rel=rel)
    assert uniformity(z, t=0.5).item() == pytest.approx(oracle.uniformity(rows, 0.5), rel=rel)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.07), (20, 1.0), (500, 0.01)])
def test_neighbours_vote_as_the_literal_ones(k, temperature):
    train, labels = classes()
    test, _ = classes(60, seed=1, spread=2.0)
    found = knn_predict(train, labels, test, k=k, temperature=temperature)
    least = [min(k, len(train)), temperature]
    wanted = oracle.knn_predict(train.tolist(), labels.tolist(), test.tolist(), *least)
    assert found.tolist() == wanted


@pytest.mark.parametrize("ridge", [1e-6, 1e-2, 10.0])
@pytest.mark.parametrize("size", [12, 200])
def test_the_probe_is_ridge_regression(ridge, size):
    train, labels = classes(size=size)
    train[:, 3] = 5.0  # a dimension that is dead
    test, _ = classes(60, size=size, seed=1, spread=2.0)
    scores = oracle.probe_scores(train, labels.tolist(), test, ridge)
    top = np.sort(scores, axis=1)
    clear = top[:, -1] - top[:, -2] > 1e-4
    assert clear.mean() > 0.9
    found = probe_predict(train, labels, test, ridge=ridge).numpy()
    assert (found == scores.argmax(1))[clear].all()


def test_all_equal_embeddings_are_a_collapse():
    z = drawn(1, 8).expand(50, 8)
    assert embedding_std(z).item() == pytest.approx(0, abs=1e-6)
    assert effective_rank(z).item() == pytest.approx(1, abs=1e-4)
    assert alignment(z, z).item() == 0
    assert uniformity(z).item() == pytest.approx(0, abs=1e-5)
    assert effective_rank(torch.zeros(5, 3)).item() == 1


def test_orthonormal_embeddings_use_all_directions():
    size = 16
    z = torch.linalg.qr(drawn(size, size)).Q
    assert effective_rank(z).item() == pytest.approx(size, rel=1e-5)
    axes = torch.cat([torch.eye(size), -torch.eye(size)])
    assert embedding_std(axes).item() == pytest.approx(1, rel=1e-6)
    assert effective_rank(axes).item() == pytest.approx(size, rel=1e-5)
    assert alignment(axes, -axes).item() == pytest.approx(4, rel=1e-6)


def test_a_sphere_is_filled_more_evenly_than_a_part_of_it():
    whole, part = drawn(2000, 64), drawn(2000, 64) + 2.0
    assert embedding_std(whole).item() == pytest.approx(1, abs=0.01)
    assert embedding_std(part) < 0.6
    assert effective_rank(part) < effective_rank(whole) < 64
    # Of points all over a sphere of many dimensions a squared distance is about 2.
    assert uniformity(whole).item() == pytest.approx(-4, abs=0.15)
    assert uniformity(whole) < uniformity(part) < 0


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_neither_length_nor_turn_nor_order_matters(scale):
    z, other = drawn(50, 6), drawn(50, 6, seed=1)
    turn, order = torch.linalg.qr(drawn(6, 6, seed=2)).Q, torch.randperm(50)
    for metric in (effective_rank, uniformity):
        assert metric((scale * z @ turn)[order]).item() == pytest.approx(metric(z).item(), rel=1e-4)
    assert embedding_std((scale * z)[order]).item() == pytest.approx(
        embedding_std(z).item(), rel=1e-4
    )
    moved = alignment((scale * z @ turn)[order], (other @ turn)[order])
    assert moved.item() == pytest.approx(alignment(z, other).item(), rel=1e-4)


def test_labels_that_are_in_the_embedding_are_found():
    train, labels = classes(spread=0.05)
    test, wanted = classes(60, seed=1, spread=0.05)
    for predict in (knn_predict, probe_predict):
        assert accuracy(predict(train, labels, test), wanted) == 1
        found = predict(train, labels, test)
        assert torch.equal(found, predict(train, labels, test))
    shuffled = labels[torch.randperm(90, generator=torch.Generator().manual_seed(0))]
    for predict in (knn_predict, probe_predict):
        assert accuracy(predict(train, shuffled, test), wanted) < 0.7


def test_neither_autocast_nor_half_precision_takes_digits():
    z, other = drawn(200, 16), drawn(200, 16, seed=1)
    labels = torch.arange(200) % 3
    plain = [embedding_std(z), effective_rank(z), alignment(z, other), uniformity(z)]
    votes = knn_predict(z, labels, other)
    with torch.autocast("cpu", torch.bfloat16):
        cast = [embedding_std(z), effective_rank(z), alignment(z, other), uniformity(z)]
        assert torch.equal(knn_predict(z, labels, other), votes)
    assert cast == plain
    half = z.bfloat16()
    assert uniformity(half).dtype == torch.float32
    assert torch.equal(uniformity(half), uniformity(half.float()))


def test_no_gradient_is_recorded():
    z = drawn(10, 4).requires_grad_()
    for value in (embedding_std(z), effective_rank(z), alignment(z, z), uniformity(z)):
        assert not value.requires_grad


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda z: embedding_std(z[0]), r"embeddings: got \(4,\)"),
        (lambda z: uniformity(z[:1]), r"embeddings: got \(1, 4\)"),
        (lambda z: effective_rank(z[:0]), r"embeddings: got \(0, 4\)"),
        (lambda z: alignment(z, z[:5]), r"view2: got \(5, 4\)"),
        (lambda z: alignment(z, z, alpha=0), "alpha: got 0"),
        (lambda z: uniformity(z, t=-1), "t: got -1"),
        (lambda z: knn_predict(z, torch.zeros(10), z), "labels: got .torch.float32"),
        (lambda z: knn_predict(z, torch.zeros(9, dtype=torch.int64), z), r"int64 \[10\]"),
        (lambda z: knn_predict(z, torch.zeros(10, dtype=torch.int64), z, k=0), "k: got 0"),
        (lambda z: probe_predict(z, torch.arange(10), z[:, :3]), r"test: got \(10, 3\)"),
        (lambda z: probe_predict(z, torch.arange(10), z, ridge=0), "ridge: got 0"),
        (lambda z: accuracy(torch.arange(3), torch.arange(2)), r"labels: got \(2,\)"),
    ],
)
def test_what_cannot_be_is_refused(call, words):
    with pytest.raises(InputError, match=words):
        call(drawn(10, 4))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_refused_by_name(bad):
    z, labels = drawn(10, 4), torch.arange(10)
    spoilt = z.clone()
    spoilt[3, 1] = bad
    for call, name in (
        (lambda: effective_rank(spoilt), "embeddings"),
        (lambda: knn_predict(spoilt, labels, z), "train"),
        (lambda: knn_predict(z, labels, spoilt), "test"),
        (lambda: probe_predict(spoilt, labels, z), "train"),
        (lambda: probe_predict(z, labels, spoilt), "test"),
    ):
        with pytest.raises(InputError, match=f"{name}: got '1 of 10 with NaN or infinity'"):
            call()


def test_accuracy_is_a_share():
    assert accuracy(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 1, 2])).item() == 0.75
    assert math.isnan(accuracy(torch.zeros(0), torch.zeros(0)))
