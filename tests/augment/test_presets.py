"""Presets against the numbers that were published, and operations inside of kornia."""

from dataclasses import replace

import kornia.augmentation as K
import pytest
import torch

from rscontrast.augment import PairViews
from rscontrast.augment.adapter import KorniaOperation, kornia_operations
from rscontrast.augment.blur import Blur
from rscontrast.augment.cutout import RegionCutout
from rscontrast.augment.jitter import Grayscale, Grey, Jitter, Solarize
from rscontrast.augment.noise import Noise, Speckle
from rscontrast.augment.operations import run
from rscontrast.augment.presets import PRESETS, recipe
from rscontrast.augment.spectral import Gain
from rscontrast.errors import InputError
from rscontrast.types import SensorContract

FOUR = SensorContract(("b", "g", "r", "n"), 10.0, (0.1, 0.2, 0.3, 0.4), (0.1, 0.1, 0.2, 0.2))

# name: least crop, jitter and its p, p of grey, p of blur, kernel, p of solarisation
PUBLISHED = {
    "simclr": (0.08, (0.8, 0.8, 0.8, 0.2), 0.8, 0.2, 0.5, 0.1, None),
    "moco": (0.2, (0.4, 0.4, 0.4, 0.1), 0.8, 0.2, 0.5, None, None),
    "byol": (0.08, (0.4, 0.4, 0.2, 0.1), 0.8, 0.2, (1.0, 0.1), 0.1, (0.0, 0.2)),
    "false": (0.08, (0.8, 0.8, 0.8, 0.2), 0.8, 0.2, 0.5, None, None),
    "seco": (0.2, (0.4, 0.4, 0.4, 0.1), (0.0, 0.8), (0.0, 0.2), (0.0, 0.5), None, None),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_hold_the_published_numbers(name):
    crop, jitter, p, grey, blur, kernel, solarize = PUBLISHED[name]
    found = recipe(name, FOUR, 224)
    assert found.geometry.size == (224, 224)
    assert found.geometry.scale == (crop, 1.0)
    assert found.geometry.ratio == (3 / 4, 4 / 3)
    told = Grey(mean=FOUR.mean, std=FOUR.std)
    expected = [
        Jitter(*jitter, p=p, grey=told),
        Grayscale(p=grey, grey=told),
        Blur((0.1, 2.0), p=blur, kernel=kernel),
    ]
    expected += [] if solarize is None else [Solarize(0.5, p=solarize)]
    assert list(found.operations) == expected


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_names_its_source_and_what_is_ours(name):
    source = PRESETS[name].source
    assert "reconstruction" in source
    assert source.startswith("ours") or "arXiv" in source


@pytest.mark.parametrize("bands", [1, 3, 4, 13])
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_runs_on_any_bands_and_stays_reflectance(name, bands):
    torch.manual_seed(0)
    contract = SensorContract(("b",) * bands, 10.0, (0.2,) * bands, (0.1,) * bands)
    given = torch.rand(12, bands, 40, 32) * 0.5
    found, params = run(recipe(name, contract, (40, 32)).operations, given)
    assert found.min() >= 0
    assert found.max() <= 1
    assert not torch.equal(found, given)
    assert torch.equal(run(recipe(name, contract, (40, 32)).operations, given, params)[0], found)


def test_temporal_is_the_lightest():
    torch.manual_seed(0)
    given = torch.rand(60, 4, 16, 16) * 0.5
    change = {
        name: (run(recipe(name, FOUR, 16).operations, given)[0] - given).abs().mean().item()
        for name in PRESETS
    }
    assert min(change, key=change.get) == "temporal"
    assert change["temporal"] > 0.005


def test_byol_blurs_the_first_view_and_solarises_the_second():
    torch.manual_seed(0)
    made = recipe("byol", FOUR, 32)
    assert made.period == 2
    assert recipe("simclr", FOUR, 32).period == 1
    _, params = run(made.operations, torch.rand(2000, 4, 2, 2))
    blurred, solarised = params[2]["sigma"] > 0, params[3]["threshold"].isfinite()
    assert blurred[::2].all()
    assert blurred[1::2].float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert not solarised[::2].any()
    assert solarised[1::2].float().mean().item() == pytest.approx(0.2, abs=0.03)


def test_seco_leaves_the_spectrum_of_the_query_alone():
    given = torch.rand(40, 4, 16, 16)
    found, _ = run(recipe("seco", FOUR, 16).operations, given)
    assert torch.equal(found[::2], given[::2])
    assert (found[1::2] != given[1::2]).flatten(1).any(dim=1).float().mean() > 0.5


def test_grey_by_the_statistics_keeps_each_band_where_the_network_knows_it():
    """Units of spread are what is averaged: normalised, all bands are alike."""
    torch.manual_seed(0)
    mean, std = (torch.tensor(value)[:, None, None] for value in (FOUR.mean, FOUR.std))
    given = mean + std * torch.randn(6, 4, 32, 32).clamp(-0.9, 0.9)
    grey = recipe("simclr", FOUR, 32).operations[1]
    found, _ = run([Grayscale(p=1.0, grey=grey.grey)], given)
    units = (found - mean) / std
    average = ((given - mean) / std).mean(dim=1, keepdim=True)
    torch.testing.assert_close(units, average.expand_as(units), atol=1e-5, rtol=0)


def test_changes_replace_what_the_preset_says():
    made = recipe("moco", FOUR, (20, 30), scale=(0.5, 0.9), dihedral=False, operations=[Gain()])
    assert made.geometry.scale == (0.5, 0.9)
    assert made.geometry.size == (20, 30)
    assert not made.geometry.dihedral
    assert made.operations == (Gain(),)


def test_unknown_names_are_refused_with_those_there_are():
    with pytest.raises(InputError, match=r"^preset: got 'simclear'.*moco.*simclr.*did you mean"):
        recipe("simclear", FOUR, 32)
    with pytest.raises(InputError, match=r"^change: got 'blur'; allowed: one of dihedral"):
        recipe("simclr", FOUR, 32, blur=0.5)
    with pytest.raises(InputError, match=r"^size: got 0"):
        recipe("simclr", FOUR, 0)


OPERATIONS = [Gain(), Jitter(), Blur(), Noise(), Speckle(), Solarize(), RegionCutout(cells=7)]


def sequential(*operations):
    wrapped = [KorniaOperation(operation) for operation in operations]
    return K.AugmentationSequential(
        *wrapped, K.RandomHorizontalFlip(p=0.5), data_keys=["input", "mask"]
    )


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda op: type(op).__name__)
def test_operations_work_inside_kornia_with_masks_beside_them(operation):
    torch.manual_seed(0)
    image, mask = torch.rand(8, 4, 20, 20) * 0.5, torch.rand(8, 1, 20, 20).round()
    steps = sequential(operation)
    out, labels = steps(image, mask)
    again, same = steps(image, mask, params=steps._params)
    assert torch.equal(out, again)
    assert torch.equal(labels, same)
    flipped = steps._params[-1].data["batch_prob"].bool().view(-1, 1, 1, 1)
    assert torch.equal(labels, torch.where(flipped, mask.flip(-1), mask))
    literal, _ = run([operation], image, [steps._params[0].data])
    assert torch.equal(out, torch.where(flipped, literal.flip(-1), literal))
    assert not torch.equal(literal, image)


def test_kornia_s_seed_decides():
    image = torch.rand(4, 2, 8, 8)
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        runs.append(KorniaOperation(Jitter())(image))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda op: type(op).__name__)
def test_kornia_s_same_on_batch_and_same_on_frame_hold(operation):
    operation = replace(operation, p=1.0)
    image = torch.rand(1, 4, 20, 20).expand(5, -1, -1, -1) * 0.5
    for steps in (
        K.AugmentationSequential(KorniaOperation(operation), same_on_batch=True),
        KorniaOperation(operation, same_on_batch=True),
    ):
        assert (steps(image).diff(dim=0) == 0).all()
    clips = torch.rand(3, 1, 4, 20, 20).expand(-1, 6, -1, -1, -1) * 0.5
    found = K.VideoSequential(KorniaOperation(operation), same_on_frame=True)(clips)
    assert (found.diff(dim=1) == 0).all()
    other = K.VideoSequential(KorniaOperation(Jitter(p=1.0)), same_on_frame=False)(clips)
    assert (other.diff(dim=1) != 0).any()


@pytest.mark.parametrize("name", PRESETS)
def test_whole_presets_work_inside_kornia_with_masks_beside_them(name):
    torch.manual_seed(0)
    image, mask = torch.rand(40, 4, 20, 20) * 0.5, torch.rand(40, 1, 20, 20).round()
    for view in (0, 1):
        steps = K.AugmentationSequential(
            *kornia_operations(name, FOUR, view=view), K.RandomHorizontalFlip(p=1.0),
            data_keys=["input", "mask"],
        )  # fmt: skip
        out, labels = steps(image, mask)
        assert torch.equal(labels, mask.flip(-1))
        assert out.shape == image.shape
        assert torch.equal(out, image.flip(-1)) == (name == "seco" and view == 0)
    kinds = [type(one.operation) for one in kornia_operations(name, FOUR)]
    assert kinds == [type(one) for one in recipe(name, FOUR, 8).operations]
    blurs = [one.operation.p for one in kornia_operations("byol", FOUR, view=1)]
    assert blurs == [0.8, 0.2, 0.1, 0.2]


def test_seco_of_three_dates_is_its_query_and_three_keys():
    """Queries of date 0, keys of dates 1, 2 and 0; the first and the last key are augmented."""
    torch.manual_seed(0)
    dated = torch.tensor([0.2, 0.4, 0.6])[:, None, None, None].expand(200, 3, 4, 12, 12)
    made = PairViews(FOUR, 8, preset="seco", views=4)({"image": dated})
    mean, std = (torch.tensor(value)[:, None, None] for value in (FOUR.mean, FOUR.std))
    seen = made["image"] * std + mean
    plain = (seen - dated[:, [0, 1, 2, 0], :, :8, :8]).abs().amax(dim=(2, 3, 4)) < 1e-5
    assert plain[:, [0, 2]].all()
    assert (plain[:, [1, 3]].float().mean(dim=0) < 0.35).all()
