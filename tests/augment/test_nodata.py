"""Unusable pixels: nothing of them, and nothing in their stead, is in what usable ones become."""

import pytest
import torch

from rscontrast.augment import Dihedral, Normalise, PairViews
from tests.augment.test_views import STILL, contract

NONE = {**STILL, "dihedral": False, "min_scale": 1.0}
AROUND = [
    {"Solarize": {"p": 1.0}},
    {"Noise": {"p": 1.0, "snr": [10, 10]}},
    {"BandDropout": {"p": 1.0, "share": 0.9}},
    {"RegionCutout": {"p": 1.0, "cells": 8}},
    {"Jitter": {"p": 1.0}},
]


@pytest.mark.parametrize("operations", AROUND, ids=lambda one: next(iter(one)))
def test_nodata_around_valid_pixels_does_not_change_what_they_become(operations):
    """A dim patch with nodata around it, beside the same pixels twice over and no nodata."""
    torch.manual_seed(0)
    half = 0.05 + 0.02 * torch.rand(3, 2, 3, 16, 32)
    image = torch.cat([half, half], dim=-2)
    valid = torch.ones(3, 2, 32, 32, dtype=torch.bool)
    valid[..., 16:, :] = False
    views = PairViews(contract(3, 0.3, 1.0), 32, operations=operations, **NONE)
    whole = views({"image": image})
    hidden = image.masked_fill(~valid.unsqueeze(2), torch.nan)
    part = views({"image": hidden, "valid": valid}, whole["params"])
    known = part["valid"].unsqueeze(2).expand_as(part["image"])
    assert known.float().mean() == 0.5
    torch.testing.assert_close(part["image"][known], whole["image"][known], rtol=0, atol=1e-5)
    # What lies beyond the patch counts no more than nodata does.
    away = {**NONE, "registration": 6.0}
    beyond = PairViews(contract(3, 0.3, 1.0), 32, operations=operations, **away)
    made = beyond({"image": image})
    assert not made["valid"].all()
    assert torch.isfinite(made["image"]).all()


@pytest.mark.parametrize(("shape", "size"), [(32, 32), (40, 24), (96, 32), (20, 32)])
@pytest.mark.parametrize("blur", [0.0, 1.0])
def test_a_valid_pixel_is_a_mean_of_usable_ones_alone(shape, size, blur):
    """A flat patch stays flat, however it is thinned, turned and blurred."""
    torch.manual_seed(0)
    image = torch.full((4, 2, 2, shape, shape), 0.9)
    valid = torch.rand(4, 2, shape, shape) > 0.3
    views = PairViews(contract(2, 0.1, 1.0), size, **{**STILL, "blur": blur})
    made = views({"image": image.masked_fill(~valid.unsqueeze(2), torch.nan), "valid": valid})
    seen = made["image"].masked_select(made["valid"].unsqueeze(2))
    assert len(seen) > 0.5 * made["image"].numel()
    torch.testing.assert_close(seen, torch.full_like(seen, 0.8), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("known", "usable"), [(1, False), (4, False), (6, True), (9, True)])
def test_a_view_that_thins_is_valid_where_half_of_it_is_known(known, usable):
    """Of each 3 x 3 pixels ``known`` are, the middle one first."""
    order = torch.tensor([4, 1, 3, 5, 7, 0, 2, 6, 8])[:known]
    tile = torch.zeros(9, dtype=torch.bool).index_fill(0, order, True).view(3, 3)
    valid = tile.repeat(32, 32).expand(1, 96, 96)
    views = PairViews(contract(1), 32, **NONE)
    for _ in range(20):
        made = views({"image": torch.full((1, 1, 1, 96, 96), 0.5), "valid": valid})
        if torch.allclose(made["view_matrix"][..., 0, 0], torch.tensor(3.0), atol=1e-3):
            break
    assert made["valid"].float().mean() == float(usable) or known in (4, 6)
    assert (made["valid"].float().mean() > 0.5) == usable


def test_bits_are_those_without_valid_where_all_is_valid():
    torch.manual_seed(0)
    image = torch.rand(4, 2, 3, 40, 40)
    views = PairViews(contract(3), 32, preset="simclr")
    without = views({"image": image})
    valid = torch.ones(4, 2, 40, 40, dtype=torch.bool)
    valid[0] = False  # one sample asks for the long way, the others come out of it alike
    for given in (torch.ones_like(valid), valid):
        made = views({"image": image, "valid": given}, without["params"])
        assert torch.equal(made["image"][1:], without["image"][1:])
    assert (made["image"][0] == 0).all()


@pytest.mark.parametrize("nodata", [torch.nan, torch.inf])
def test_what_is_not_a_number_is_0_where_it_is_not_valid(nodata):
    torch.manual_seed(0)
    image, valid = torch.rand(2, 2, 3, 12, 12), torch.rand(2, 2, 12, 12) > 0.4
    spoilt = image.masked_fill(~valid.unsqueeze(2), nodata)
    norm = Normalise(contract(3, 0.1, 2.0))
    assert torch.equal(norm(spoilt, valid), norm(image, valid))
    batch = {"valid": valid, "mask": torch.zeros(2, 12, 12).long()}
    turned = [Dihedral(contract(3), seed=0)({**batch, "image": one}) for one in (spoilt, image)]
    assert torch.equal(turned[0]["image"], turned[1]["image"])
    assert torch.isfinite(turned[0]["image"]).all()
