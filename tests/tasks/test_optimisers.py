"""Optimisers against their formulas, what they leave alone, and the rate of each step."""

import numpy as np
import pytest
import torch
from torch import nn

from rscontrast.errors import InputError
from rscontrast.models import create_encoder
from rscontrast.tasks import SimCLR
from rscontrast.tasks.optimisers import make_optimizer, parameter_groups, warmup_cosine


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)).double()


def steps(name, weight_decay, count=4, **more):
    """Weights after some steps on fixed gradients, by the optimiser and by the formula."""
    module = small()
    optimizer = make_optimizer(name, module, 0.2, weight_decay, **more)
    generator = torch.Generator().manual_seed(1)
    before = [p.detach().clone() for p in module.parameters()]
    gradients = [
        [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in before]
        for _ in range(count)
    ]
    for each in gradients:
        for p, gradient in zip(module.parameters(), each, strict=True):
            p.grad = gradient.clone()
        optimizer.step()
    return before, gradients, [p.detach() for p in module.parameters()]


def literal(name, weights, gradients, weight_decay, momentum=0.9, lr=0.2):
    """You et al. 2017, algorithm 1, on weights; plain SGD on what has one axis."""
    kept = [torch.zeros_like(w) for w in weights]
    for each in gradients:
        for i, gradient in enumerate(each):
            w, rate = weights[i], 1.0
            if w.ndim > 1:
                if name == "lars":
                    rate = 0.001 * w.norm() / (gradient.norm() + weight_decay * w.norm())
                gradient = gradient + weight_decay * w
            kept[i] = momentum * kept[i] + rate * gradient
            weights[i] = w - lr * kept[i]
    return weights


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("name", ["lars", "sgd"])
def test_lars_and_sgd_are_their_formulas(name, weight_decay):
    before, gradients, found = steps(name, weight_decay)
    expected = literal(name, before, gradients, weight_decay)
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-7, atol=1e-9)


def test_adamw_decays_weights_only():
    before, _, found = steps("adamw", 0.5, count=1)
    for old, new in zip(before, found, strict=True):
        kept = old * (1 - 0.2 * 0.5) if old.ndim > 1 else old
        torch.testing.assert_close((new - kept).abs(), torch.full_like(old, 0.2), atol=1e-6, rtol=0)


def test_norms_biases_and_what_a_model_lists_are_not_decayed():
    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            self.position = nn.Parameter(torch.zeros(1, 7, 3))
            self.layer = nn.Linear(3, 3)
            self.norm = nn.LayerNorm([4, 3])
            self.frozen = nn.Linear(2, 2).requires_grad_(False)

        def no_weight_decay(self):
            return {"position", "gone"}

    module = Listed()
    decayed, plain = parameter_groups(nn.Sequential(module))
    assert [id(p) for p in decayed] == [id(module.layer.weight)]
    expected = [module.position, module.layer.bias, module.norm.weight, module.norm.bias]
    assert [id(p) for p in plain] == [id(p) for p in expected]


def test_every_weight_of_an_encoder_is_in_one_group():
    encoder = create_encoder("tu-swin_tiny_patch4_window7_224", 4)
    decayed, plain = parameter_groups(encoder)
    assert {id(p) for p in decayed}.isdisjoint(id(p) for p in plain)
    assert len(decayed) + len(plain) == len(list(encoder.parameters()))
    tables = [p for name, p in encoder.named_parameters() if name.endswith("position_bias_table")]
    assert tables
    assert {id(p) for p in tables} <= {id(p) for p in plain}


@pytest.mark.parametrize(("warmup", "rise"), [(0.1, 10), (25, 25), (1, 1), (0, 0), (0.001, 1)])
def test_the_rate_rises_over_a_share_or_a_number_of_steps(warmup, rise):
    rates = np.array([warmup_cosine(step, 100, warmup) for step in range(101)])
    assert rates[:rise] == pytest.approx(np.arange(1, rise + 1) / max(1, rise))
    assert rates[rise] == 1
    assert (np.diff(rates[rise:]) < 0).all()
    assert rates[100] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"optimizer": "adam"}, "optimizer: got 'adam'; allowed: one of adamw, lars, sgd"),
        ({"momentum": 1.0}, "momentum: got 1.0; allowed: 0 to below 1"),
        ({"weight_decay": -1.0}, "weight_decay: got -1.0"),
        ({"lr": float("nan")}, "lr: got nan"),
        ({"lr": float("inf")}, "lr: got inf"),
        ({"weight_decay": float("inf")}, "weight_decay: got inf"),
        ({"warmup": -0.1}, "warmup: got -0.1"),
        ({"warmup": 1.5}, "warmup: got 1.5"),
    ],
)
def test_what_is_out_of_range_is_refused_at_construction(arguments, words):
    with pytest.raises(InputError, match=words):
        SimCLR(model="tu-resnet10t", **arguments)
