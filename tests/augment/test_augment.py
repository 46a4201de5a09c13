"""Views: geometry shown by pixels that hold their own coordinates, spectrum by its ranges."""

import pytest
import torch

from rscontrast.augment import Dihedral, Normalise, PairViews, SpectralJitter
from rscontrast.augment.layout import as_pair
from rscontrast.errors import InputError
from rscontrast.types import SensorContract

STILL = {"gain": 0.0, "band_gain": 0.0, "offset": 0.0, "blur": 0.0}


def contract(bands):
    names = tuple(f"b{i}" for i in range(bands))
    return SensorContract(names, 2.5, (0.0,) * bands, (1.0,) * bands)


def coordinates(batch, height, width, bands=2):
    """Row in band 0 and column in band 1, 1 or more everywhere; both dates alike."""
    rows, cols = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    planes = torch.stack([rows + 1.0, cols + 1.0])
    planes = planes.repeat(bands // 2 + 1, 1, 1)[:bands]
    return planes.expand(batch, 2, bands, height, width).clone()


def region(rows, cols):
    return ((rows - 30) ** 2 + (cols - 22) ** 2) < 15**2


@pytest.mark.parametrize("same", [False, True])
def test_image_and_valid_are_warped_alike(same):
    image = coordinates(6, 60, 48)
    valid = region(image[:, :, 0], image[:, :, 1])
    views = PairViews(contract(2), 40, same_geometry=same, **STILL)
    torch.manual_seed(3)
    part = views({"image": image, "valid": valid})
    torch.manual_seed(3)
    whole = views({"image": image, "valid": torch.ones_like(valid)})
    assert whole["valid"].all()
    rows, cols = whole["image"][:, :, 0], whole["image"][:, :, 1]
    distance = ((rows - 30) ** 2 + (cols - 22) ** 2).sqrt()
    sure = (distance - 15).abs() > 1.0  # nearest against bilinear: up to a pixel at the edge
    assert torch.equal(part["valid"][sure], (distance < 15)[sure])
    assert part["valid"].any()
    assert (~part["valid"]).any()


def test_same_geometry_gives_both_dates_one_and_else_not():
    image = coordinates(6, 60, 48)
    batch = {"image": image, "valid": torch.ones(6, 2, 60, 48, dtype=torch.bool)}
    torch.manual_seed(0)
    same = PairViews(contract(2), 40, same_geometry=True, **STILL)(batch)["image"]
    assert torch.equal(same[:, 0], same[:, 1])
    assert not torch.allclose(same[0, 0], same[1, 0])
    other = PairViews(contract(2), 40, **STILL)(batch)["image"]
    assert not any(torch.allclose(pair[0], pair[1]) for pair in other)


def test_min_scale_bounds_the_share_of_the_patch():
    image = coordinates(64, 60, 60)
    batch = {"image": image, "valid": torch.ones(64, 2, 60, 60, dtype=torch.bool)}
    view = PairViews(contract(2), 30, min_scale=0.5, **STILL)(batch)["image"]
    spans = view.amax(dim=(-2, -1)) - view.amin(dim=(-2, -1))  # [B, 2, rows and cols]
    share = (spans[..., 0] + 1) * (spans[..., 1] + 1) / 60**2
    assert share.min() > 0.4  # the crop is whole pixels, and bilinear reading loses its border
    assert share.max() <= 1.0
    assert share.min() < 0.6


def test_invalid_pixels_are_zero_after_normalisation():
    torch.manual_seed(0)
    image = torch.rand(3, 2, 4, 32, 32) + 5
    valid = torch.rand(3, 2, 32, 32) > 0.4
    strong = SensorContract(("a", "b", "c", "d"), 1.0, (3.0,) * 4, (0.5,) * 4)
    for step in (
        PairViews(strong, 32),
        lambda batch: Dihedral(strong)({**batch, "mask": torch.zeros(3, 32, 32).long()}),
    ):
        found = step({"image": image, "valid": valid})
        hidden = ~found["valid"].unsqueeze(2).expand_as(found["image"])
        assert hidden.any()
        assert (found["image"][hidden] == 0).all()
        assert (found["image"][~hidden] != 0).all()


def test_normalise_gives_mean_0_and_std_1():
    torch.manual_seed(0)
    image = torch.randn(4, 3, 50, 50) * torch.tensor([1.0, 2, 3])[:, None, None] + 7
    mean, std = image.mean(dim=(0, 2, 3)), image.std(dim=(0, 2, 3))
    names = SensorContract(("a", "b", "c"), 1.0, tuple(mean.tolist()), tuple(std.tolist()))
    found = Normalise(names)(image, torch.ones(4, 50, 50, dtype=torch.bool))
    torch.testing.assert_close(found.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.std(dim=(0, 2, 3)), torch.ones(3), atol=1e-4, rtol=0)
    assert not Normalise(names).state_dict()  # the contract holds them


def test_spectral_jitter_keeps_its_ranges_and_fills_them():
    torch.manual_seed(0)
    jitter = SpectralJitter(gain=0.3, band_gain=0.1, offset=0.02)
    zeros, ones = jitter(torch.zeros(2000, 4, 1, 1)), jitter(torch.ones(2000, 4, 1, 1))
    assert zeros.abs().max() <= 0.02
    assert zeros.max() > 0.019
    assert zeros.min() < -0.019
    assert torch.equal(zeros, zeros[:, :1].expand_as(zeros))  # one offset an image
    assert ones.min() >= 0.7 * 0.9 - 0.02 - 1e-6
    assert ones.max() <= 1.3 * 1.1 + 0.02 + 1e-6
    assert ones.max() > 1.3
    assert ones.min() < 0.7
    ratio = (ones - ones.mean(dim=1, keepdim=True)).abs()
    assert ratio.max() > 0.05  # bands differ


def test_spectral_jitter_is_affine_in_each_image():
    torch.manual_seed(0)
    images = torch.rand(5, 3, 8, 8)
    found = SpectralJitter()(images)
    for image, jittered in zip(images.flatten(0, 1), found.flatten(0, 1), strict=True):
        x, y = image.flatten().double(), jittered.flatten().double()
        slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
        torch.testing.assert_close(y, y.mean() + slope * (x - x.mean()), atol=1e-5, rtol=0)
    assert torch.equal(SpectralJitter(0, 0, 0)(images), images)


def test_seed_decides_all():
    torch.manual_seed(0)
    batch = {"image": torch.rand(4, 2, 4, 40, 40), "valid": torch.rand(4, 2, 40, 40) > 0.2}
    batch["mask"] = torch.randint(0, 5, (4, 40, 40))
    for step in (PairViews(contract(4), 32), Dihedral(contract(4))):
        runs = []
        for seed in (7, 7, 8):
            torch.manual_seed(seed)
            runs.append(step(batch)["image"])
        assert torch.equal(runs[0], runs[1])
        assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("bands", [1, 3, 4, 10])
@pytest.mark.parametrize("batch", [1, 3])
def test_any_number_of_bands_any_shape(bands, batch):
    torch.manual_seed(0)
    sample = {"image": torch.rand(batch, 2, bands, 40, 56)}
    sample["valid"] = torch.ones(batch, 2, 40, 56, dtype=torch.bool)
    found = PairViews(contract(bands), 32, blur=1.0)(sample)
    assert found["image"].shape == (batch, 2, bands, 32, 32)
    assert found["valid"].shape == (batch, 2, 32, 32)
    torch.manual_seed(1)
    time = PairViews(contract(bands), 32)(sample)["image"]
    torch.manual_seed(1)
    flat = PairViews(contract(bands), 32, flatten=True)(sample)["image"]
    assert flat.shape == (batch, 2 * bands, 32, 32)
    assert torch.equal(as_pair(flat, bands), time)
    assert torch.equal(as_pair(time, bands), time)


def test_the_batch_is_left_as_it_was():
    image, valid = torch.rand(2, 2, 3, 32, 32), torch.rand(2, 2, 32, 32) > 0.5
    batch = {"image": image.clone(), "valid": valid.clone(), "dates": torch.zeros(2, 2)}
    found = PairViews(contract(3), 32)(batch)
    assert torch.equal(batch["image"], image)
    assert torch.equal(batch["valid"], valid)
    assert found["dates"] is batch["dates"]


@pytest.mark.parametrize("shape", [(24, 24), (24, 32)])
def test_dihedral_moves_pixels_valid_and_labels_together(shape):
    """Each label is the row of its pixel; each usable pixel is one of the patch, unmixed."""
    image = coordinates(40, *shape)
    rows, cols = image[:, 0, 0], image[:, 0, 1]
    valid = (rows + cols > 12).unsqueeze(1).expand(-1, 2, -1, -1)
    torch.manual_seed(0)
    still = Dihedral(contract(2), gain=0.0, offset=0.0)
    found = still({"image": image, "valid": valid, "mask": rows.long()})
    usable = found["valid"]
    assert torch.equal(usable[:, 0], usable[:, 1])
    for date in (0, 1):
        row, col = found["image"][:, date, 0], found["image"][:, date, 1]
        torch.testing.assert_close(row[usable[:, 0]], found["mask"][usable[:, 0]].float())
        assert ((row + col > 12) == usable[:, 0]).all()
    if shape[0] == shape[1]:
        assert usable[:, 0].sum() == valid[:, 0].sum()  # nothing is lost
        first = {
            tuple(view[:, [0, 0, -1], [0, -1, 0]].flatten().tolist())
            for view in _turned(image, still)
        }
        assert len(first) == 8  # all eight symmetries


def _turned(image, step):
    batch = {"image": image, "valid": torch.ones_like(image[:, :, 0]).bool()}
    return step({**batch, "mask": torch.zeros_like(image[:, 0, 0]).long()})["image"][:, 0].round()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_scale", 0.0),
        ("min_scale", 1.5),
        ("blur", -0.1),
        ("blur", 1.1),
        ("gain", 1.0),
        ("gain", -0.1),
        ("band_gain", 1.0),
        ("offset", -0.01),
        ("offset", float("nan")),
        ("min_scale", float("nan")),
    ],
)
def test_bad_arguments_are_refused_by_name(name, value):
    with pytest.raises(InputError, match=f"^{name}: got .*; allowed: "):
        PairViews(contract(3), 32, **{name: value})


@pytest.mark.parametrize("shape", [(2, 4, 8, 8), (2, 3, 3, 8, 8), (2, 2, 4, 8, 8), (6, 8, 8)])
def test_another_layout_is_refused(shape):
    with pytest.raises(InputError, match="image: got "):
        as_pair(torch.zeros(shape), 3)


def test_statistics_follow_the_batch_to_its_device():
    """Nobody moves a datamodule's modules; the device "meta" stands in for a GPU."""
    contract = SensorContract(("a", "b"), 1.0, (0.1, 0.2), (1.0, 2.0))
    image = torch.zeros(3, 2, 2, 8, 8, device="meta")
    valid = torch.ones(3, 2, 8, 8, dtype=torch.bool, device="meta")
    out = Normalise(contract)(image, valid)
    assert out.device.type == "meta"
    assert out.shape == image.shape
    for preset in ("reflectance", "simclr", "byol"):
        views = PairViews(contract, 8, preset=preset, min_overlap=0.5, cutout=0.3)
        made = views({"image": image, "valid": valid})
        again = views({"image": image, "valid": valid}, made["params"])
        for key in ("image", "valid", "view_matrix", "rectangle"):
            assert made[key].device.type == again[key].device.type == "meta"
