"""Losses of a segmenter: against slow versions, peers, and what they must not depend on."""

import pytest
import segmentation_models_pytorch as smp
import torch
from torch.nn import functional as F

from rscontrast.errors import InputError
from rscontrast.losses import SEGMENTATION, SegmentationLoss
from rscontrast.models.probabilities import log_probabilities
from tests.oracles import segmentation as oracles

WEIGHTS = [0.3, 1.0, 2.5, 0.7, 1.5]


def case(seed=0, size=6, classes=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, classes, size, size, generator=generator, dtype=dtype)
    mask = torch.randint(classes, (2, size, size), generator=generator)
    mask[:, 0, :3] = 255
    return logits, mask


@pytest.mark.parametrize("heads", ["one", "two"])
@pytest.mark.parametrize("missing", [None, 3])
@pytest.mark.parametrize("name", SEGMENTATION)
def test_each_loss_is_its_slow_version(name, missing, heads):
    logits, mask = case()
    mask[mask == missing] = 0
    found = log_probabilities(logits, heads)
    loss = SegmentationLoss(name, 5, WEIGHTS)(found, mask)
    keep = mask != 255
    p = found.exp().movedim(1, -1)[keep].tolist()
    weights = torch.tensor(WEIGHTS).tolist()  # float32, as the loss holds them
    slow = getattr(oracles, name)(p, mask[keep].tolist(), weights)
    assert loss.item() == pytest.approx(slow, rel=1e-6)


@pytest.mark.parametrize("name", SEGMENTATION)
def test_gradients_are_right_and_those_of_pixels_that_do_not_count_are_exactly_0(name):
    logits, mask = case(size=3)
    logits.requires_grad_()
    loss = SegmentationLoss(name, 5, WEIGHTS)

    def of(x):
        return loss(log_probabilities(x, "two"), mask)

    assert torch.autograd.gradcheck(of, (logits,))
    (grad,) = torch.autograd.grad(of(logits), logits)
    ignored = (mask == 255)[:, None].expand_as(grad)
    assert (grad[ignored] == 0).all()
    other = torch.where(ignored, 7.0, logits.detach())
    assert of(other) == of(logits.detach())


@pytest.mark.parametrize("name", SEGMENTATION)
def test_one_class_no_pixel_and_sure_logits_stay_finite(name):
    loss = SegmentationLoss(name, 5)
    for label in (0, 4, 255):
        for scale in (1.0, 1e4):
            logits = (scale * case(dtype=torch.float32)[0]).requires_grad_()
            mask = torch.full((2, 6, 6), label)
            value = loss(log_probabilities(logits), mask)
            value.backward()
            assert torch.isfinite(value)
            assert torch.isfinite(logits.grad).all()
            assert label != 255 or (value == 0 and not logits.grad.any())


def test_a_perfect_map_costs_nothing_and_a_sum_is_a_sum():
    mask = case()[1]
    sure = 60.0 * F.one_hot(mask.clamp(max=4), 5).movedim(-1, 1).double()
    for name in SEGMENTATION:
        assert SegmentationLoss(name, 5)(log_probabilities(sure), mask) == pytest.approx(
            0, abs=1e-9
        )
    logits, mask = case()
    found = log_probabilities(logits)
    parts = [SegmentationLoss(n, 5, WEIGHTS)(found, mask) for n in ("focal", "lovasz")]
    assert SegmentationLoss("focal+lovasz", 5, WEIGHTS)(found, mask) == pytest.approx(sum(parts))


def test_cross_entropy_and_lovasz_are_those_of_torch_and_smp():
    logits, mask = case()
    found = log_probabilities(logits)
    weight = torch.tensor(WEIGHTS, dtype=torch.float32).double()
    theirs = F.cross_entropy(logits, mask, weight, ignore_index=255)
    assert SegmentationLoss("cross_entropy", 5, WEIGHTS)(found, mask) == pytest.approx(theirs)
    theirs = smp.losses.LovaszLoss("multiclass", ignore_index=255)(logits.float(), mask)
    assert SegmentationLoss("lovasz", 5)(found, mask).item() == pytest.approx(theirs.item())


def test_a_grade_that_is_further_off_costs_more_only_where_grades_are_in_order():
    mask = torch.ones(1, 1, 1, dtype=torch.int64)

    def cost(name, grade):
        logits = torch.zeros(1, 5, 1, 1)
        logits[:, grade] = 3.0
        return SegmentationLoss(name, 5)(log_probabilities(logits), mask).item()

    assert cost("ordinal", 1) < cost("ordinal", 2) < cost("ordinal", 3) < cost("ordinal", 4)
    assert cost("building_grade", 2) == pytest.approx(cost("building_grade", 4))


def test_half_precision_is_computed_in_single():
    logits, mask = case(dtype=torch.float32)
    half = logits.bfloat16()
    for name in SEGMENTATION:
        loss = SegmentationLoss(name, 5)
        found = loss(log_probabilities(half), mask)
        assert found.dtype == torch.float32
        assert found == loss(log_probabilities(half.float()), mask)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("tversky", 5), "loss: got 'tversky'"),
        (("dice+ordinal", 2), "fewer than 3"),
        (("dice", 5, [1.0, 2.0]), "class_weights"),
        (("dice", 2, [1.0, 0.0]), "class_weights"),
    ],
)
def test_what_makes_no_loss_is_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        SegmentationLoss(*arguments)
