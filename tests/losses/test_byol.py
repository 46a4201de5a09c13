"""BYOL's regression against a literal loop, and what a weight of 0 removes."""

import math

import pytest
import torch

from rscontrast.errors import InputError
from rscontrast.losses import BYOLLoss, byol


def literal(prediction, key, weight):
    total = 0.0
    for q, k, w in zip(prediction, key, weight, strict=True):
        total = total + w * ((q / q.norm() - k / k.norm()) ** 2).sum()
    return total / weight.sum()


@pytest.fixture
def drawn():
    torch.manual_seed(0)
    shape = (6, 5)
    return (
        torch.randn(shape, dtype=torch.float64, requires_grad=True),
        torch.randn(shape, dtype=torch.float64, requires_grad=True),
        torch.rand(6, dtype=torch.float64) + 0.1,
    )


def test_it_equals_the_squared_distance_in_value_and_gradient(drawn):
    prediction, key, weight = drawn
    found = byol(prediction, key, weight=weight).loss
    expected = literal(prediction, key.detach(), weight)
    torch.testing.assert_close(found, expected)
    one, two = (torch.autograd.grad(loss, prediction)[0] for loss in (found, expected))
    torch.testing.assert_close(one, two)
    torch.testing.assert_close(byol(prediction, key).loss, literal(prediction, key, torch.ones(6)))


def test_the_key_has_no_gradient_and_the_prediction_a_right_one(drawn):
    prediction, key, weight = drawn
    byol(prediction, key).loss.backward()
    assert key.grad is None
    assert torch.autograd.gradcheck(lambda p: byol(p, key, weight=weight).loss, prediction)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weight_0_removes_a_sample_whatever_it_holds(drawn, bad):
    prediction, key, weight = drawn
    rest = torch.tensor([0, 2, 3, 5])
    weight[[1, 4]] = 0
    spoilt = prediction.detach().clone()
    spoilt[[1, 4]] = bad
    spoilt.requires_grad_()
    found = byol(spoilt, torch.where(weight[:, None] > 0, key, bad), weight=weight)
    alone = byol(prediction[rest], key[rest], weight=weight[rest])
    assert torch.equal(found.loss, alone.loss)
    torch.testing.assert_close(
        found.diagnostics["positive_similarity"], alone.diagnostics["positive_similarity"]
    )
    found.loss.backward()
    alone.loss.backward()
    torch.testing.assert_close(spoilt.grad[rest], prediction.grad[rest])
    assert (spoilt.grad[[1, 4]] == 0).all()


def test_nothing_usable_is_0_with_a_gradient_of_0(drawn):
    prediction, key, weight = drawn
    loss = byol(prediction, key, weight=0 * weight).loss
    loss.backward()
    assert loss == 0
    assert (prediction.grad == 0).all()


@pytest.mark.parametrize("side", [0, 1])
def test_a_vector_of_length_0_has_a_finite_gradient(drawn, side):
    given = [z.detach().clone() for z in drawn[:2]]
    given[side][2] = 0
    byol(given[0].requires_grad_(), given[1]).loss.backward()
    assert given[0].grad.abs().max() < 10


def test_equal_is_0_opposite_is_4_and_half_precision_is_raised(drawn):
    z = drawn[0].detach().to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        same, opposite = BYOLLoss()(z, 3 * z), BYOLLoss()(z, -z)
    assert same.loss.dtype == torch.float32
    assert same.loss.item() == pytest.approx(0, abs=1e-4)
    assert opposite.loss.item() == pytest.approx(4, abs=1e-4)


def test_shapes_are_checked(drawn):
    prediction, key, weight = drawn
    with pytest.raises(InputError, match=r"key: got \(5, 5\)"):
        byol(prediction, key[:5])
    with pytest.raises(InputError, match=r"prediction: got \(6,\)"):
        byol(prediction[:, 0], key)
    with pytest.raises(InputError, match=r"weight: got \(2,\)"):
        byol(prediction, key, weight=weight[:2])
    for bad in (-0.1, math.nan, math.inf):
        weight[1] = bad
        with pytest.raises(InputError, match=r"weight: got .*; allowed: 0 or more, finite"):
            byol(prediction, key, weight=weight)
