"""Test-time augmentation and ensembles on models whose answers are known."""

import math

import pytest
import torch

from rscontrast.errors import InputError
from rscontrast.models.uncertainty import augmented, combine, ensemble, entropy, softmax, turn


def pixelwise(pair):
    """Commutes with every symmetry."""
    return torch.cat([pair[:, 0], pair[:, 1] - pair[:, 0]], dim=1)


def leftward(pair):
    """Does not: it answers by the column."""
    ramp = torch.linspace(-1, 1, pair.shape[-1]).expand_as(pair[:, 0])
    return torch.cat([ramp, -ramp], dim=1)


PAIR = torch.rand(2, 2, 1, 6, 4, generator=torch.Generator().manual_seed(0))


def test_turns_are_the_eight_symmetries_and_go_back():
    image = torch.arange(12.0).view(1, 1, 3, 4)
    made = [turn(image, k, flip) for k in range(4) for flip in (False, True)]
    assert len({(m.shape, *m.flatten().tolist()) for m in made}) == 8
    for k in range(4):
        for flip in (False, True):
            assert torch.equal(turn(turn(image, k, flip), -k, flip, back=True), image)


def test_a_model_that_commutes_is_left_as_it_is():
    found = augmented(pixelwise, PAIR)
    torch.testing.assert_close(found.probabilities, softmax(pixelwise(PAIR)))
    assert found.mutual_information.max() < 1e-6
    torch.testing.assert_close(found.entropy, entropy(softmax(pixelwise(PAIR))) / math.log(2))


def test_what_depends_on_the_side_evens_out():
    found = augmented(leftward, PAIR)
    assert torch.allclose(found.probabilities, torch.tensor(0.5), atol=1e-6)
    assert found.mutual_information.max() > 0.05


def test_the_mean_turns_with_the_image():
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(2, 3, 3, padding=1)

    def model(pair):
        return 5 * conv(pair.flatten(1, 2))

    plain = augmented(model, PAIR).probabilities
    for k, flip in ((1, False), (2, True)):
        turned = augmented(model, turn(PAIR, k, flip)).probabilities
        torch.testing.assert_close(turned, turn(plain, k, flip))
    assert not plain.requires_grad


def test_models_that_disagree_share_information():
    sure = torch.tensor([20.0, -20.0]).view(1, 2, 1, 1).expand(1, 2, 3, 3)
    models = [lambda _: sure, lambda _: -sure]
    found = ensemble(models, PAIR)
    assert torch.allclose(found.entropy, torch.ones(3, 3))
    assert torch.allclose(found.mutual_information, torch.ones(3, 3))
    alike = ensemble([lambda _: 0 * sure] * 3, PAIR)
    assert torch.allclose(alike.entropy, torch.ones(3, 3))
    assert alike.mutual_information.max() < 1e-6


def test_combining_equals_the_formula():
    torch.manual_seed(1)
    members = torch.randn(5, 2, 4, 3, 3).softmax(2)
    found, mean = combine(iter(members)), members.mean(0)
    inner = sum(-(m * m.log()).sum(1) for m in members) / 5
    outer = -(mean * mean.log()).sum(1)
    torch.testing.assert_close(found.entropy, outer / math.log(4))
    torch.testing.assert_close(found.mutual_information, (outer - inner) / math.log(4))


def test_certainty_is_zero_not_nan():
    one = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    assert combine([one, one]).entropy.item() == 0
    assert softmax(torch.zeros(1, 2, 1, 1, dtype=torch.bfloat16)).dtype == torch.float32


def test_bad_input_says_what_came():
    with pytest.raises(InputError, match="members: got 'none'"):
        ensemble([], PAIR)
    with pytest.raises(InputError, match="members"):
        combine([torch.ones(1, 1, 2, 2)])
