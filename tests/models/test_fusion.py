"""Fusions against their formulas, cell by cell."""

import math

import pytest
import torch

from rscontrast.models.fusion import FUSIONS


@pytest.fixture
def dates():
    torch.manual_seed(0)
    return torch.randn(2, 2, 12, 3, 5, dtype=torch.float64)


def affine(conv, x):
    """One 1 x 1 convolution on one cell."""
    out = conv.weight[:, :, 0, 0] @ x
    return out if conv.bias is None else out + conv.bias


def attention(fuse, pre, post):
    width, heads = fuse.width, fuse.heads
    query = affine(fuse.query, post)
    mixed = torch.empty_like(post)
    for head in range(heads):
        part = slice(head * width // heads, (head + 1) * width // heads)
        scores = [
            torch.dot(query[part], affine(fuse.key, date)[part]) / math.sqrt(width / heads)
            for date in (pre, post)
        ]
        total = sum(torch.exp(score) for score in scores)
        mixed[part] = sum(
            torch.exp(score) / total * affine(fuse.value, date)[part]
            for score, date in zip(scores, (pre, post), strict=True)
        )
    return post + affine(fuse.out, mixed)


ORACLES = {
    "concat": lambda fuse, pre, post: affine(fuse.conv, torch.cat([pre, post])),
    "difference": lambda fuse, pre, post: affine(fuse.conv, (post - pre).abs()),
    "concat_difference": lambda fuse, pre, post: affine(
        fuse.conv, torch.cat([pre, post, (post - pre).abs()])
    ),
    "attention": attention,
    "post": lambda fuse, pre, post: post,
}


@pytest.mark.parametrize("name", FUSIONS)
def test_a_fusion_is_its_formula_at_each_cell(name, dates):
    fuse = FUSIONS[name](12).double()
    with torch.no_grad():
        fused = fuse(dates)
        assert fused.shape == (2, 12, 3, 5)
        for sample in range(2):
            for row in range(3):
                for col in range(5):
                    pre, post = dates[sample, :, :, row, col]
                    want = ORACLES[name](fuse, pre, post)
                    torch.testing.assert_close(fused[sample, :, row, col], want)


def test_the_difference_of_equal_dates_is_zero_before_the_convolution(dates):
    fuse = FUSIONS["difference"](12).double()
    same = dates[:, :1].expand(-1, 2, -1, -1, -1)
    with torch.no_grad():
        fused = fuse(same)
    assert torch.equal(fused, fuse.conv.bias.view(1, -1, 1, 1).expand_as(fused))


@pytest.mark.parametrize("name", FUSIONS)
def test_what_the_order_of_the_dates_changes(name, dates):
    fuse = FUSIONS[name](12).double()
    with torch.no_grad():
        same = torch.equal(fuse(dates), fuse(dates.flip(1)))
    assert same == (name == "difference")


@pytest.mark.parametrize("name", FUSIONS)
def test_gradients_are_right(name, dates):
    fuse = FUSIONS[name](2).double()
    assert torch.autograd.gradcheck(fuse, dates[:1, :, :2, :2, :2].clone().requires_grad_())


@pytest.mark.parametrize("width", [1, 3, 4, 24, 100])
def test_attention_takes_any_width(width):
    assert FUSIONS["attention"](width)(torch.randn(1, 2, width, 2, 2)).shape == (1, width, 2, 2)
