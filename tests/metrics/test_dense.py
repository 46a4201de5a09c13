"""Coupling and positional leakage, of features of which both are known."""

import math

import pytest
import torch

from rscontrast.errors import InputError
from rscontrast.metrics.dense import coupling, positional_leakage


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_features_that_hang_on_nothing_have_no_coupling() -> None:
    alone = noise(3, 8, 2, 2)
    assert coupling(alone, 5 * alone).item() == pytest.approx(0, abs=1e-6)
    assert coupling(alone, -alone).item() == pytest.approx(2)
    assert coupling(noise(50, 64, 4, 4), noise(50, 64, 4, 4, seed=1)).item() == pytest.approx(
        1, abs=0.02
    )


def test_coupling_of_a_convolution_grows_with_its_field_of_view() -> None:
    torch.manual_seed(0)
    near, far = torch.nn.Conv2d(3, 16, 1), torch.nn.Conv2d(3, 16, 3, padding=1)
    patch, around = noise(8, 3, 6, 6), noise(8, 3, 6, 6, seed=1)
    moved = around.clone()
    moved[:, :, 2:4, 2:4] = patch[:, :, 2:4, 2:4]
    found = [coupling(net(patch)[..., 2:4, 2:4], net(moved)[..., 2:4, 2:4]) for net in (near, far)]
    assert found[0] < 1e-6
    assert found[1] > 0.1


def test_only_valid_cells_are_measured() -> None:
    alone = noise(2, 4, 1, 2)
    other = alone.clone()
    other[..., 1] = math.nan
    valid = torch.tensor([[[True, False]]]).expand(2, -1, -1)
    assert coupling(alone, other, valid).item() == pytest.approx(0, abs=1e-6)
    assert coupling(alone, other, ~valid).isnan()
    assert coupling(alone, alone, torch.zeros(2, 1, 2) > 0).isnan()


def test_a_probe_finds_a_place_that_is_there_and_guesses_one_that_is_not() -> None:
    place = 3 * noise(1, 16, 3, 3, seed=5)
    train, test = noise(80, 16, 3, 3), noise(80, 16, 3, 3, seed=1)
    assert positional_leakage(train + place, test + place) > 0.9
    assert positional_leakage(train, test).item() == pytest.approx(1 / 9, abs=0.04)
    assert positional_leakage((train + place).half(), (test + place).half()) > 0.9


def test_zero_padding_leaks_the_place() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(*[torch.nn.Conv2d(4, 4, 3, padding=1) for _ in range(3)])
    bare = torch.nn.Sequential(*[torch.nn.Conv2d(4, 4, 3) for _ in range(3)])
    with torch.no_grad():
        padded = [net(1 + 0.1 * noise(60, 4, 5, 5, seed=s)) for s in (0, 1)]
        free = [bare(1 + 0.1 * noise(60, 4, 11, 11, seed=s)) for s in (0, 1)]
    assert positional_leakage(*padded) > 3 * positional_leakage(*free)


def test_features_that_are_all_equal_give_chance() -> None:
    same = torch.ones(10, 4, 2, 2)
    assert positional_leakage(same, same) == 0.25


def test_no_features_give_no_number() -> None:
    some, none = noise(3, 4, 2, 2), noise(0, 4, 2, 2)
    for train, test in ((none, some), (some, none), (none, none)):
        assert positional_leakage(train, test).isnan()


def test_bad_input() -> None:
    for valid in (torch.ones(2, 2, 2), torch.ones(2, 2, 3) > 0):
        with pytest.raises(InputError, match=r"valid: got .*; allowed: bool \(2, 2, 2\)"):
            coupling(noise(2, 4, 2, 2), noise(2, 4, 2, 2), valid)
    with pytest.raises(InputError, match="surrounded: got"):
        coupling(noise(2, 4, 2, 2), noise(2, 4, 2, 3))
    with pytest.raises(InputError, match="test: got"):
        positional_leakage(noise(2, 4, 2, 2), noise(2, 4, 2, 3))
    with pytest.raises(InputError, match="ridge: got"):
        positional_leakage(noise(2, 4, 2, 2), noise(2, 4, 2, 2), ridge=0.0)
