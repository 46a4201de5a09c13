"""Scenes that are known at every point, seen again from a shifted grid."""

import numpy as np
import pytest
import torch

from rscontrast.datasets import STACDataset, TemporalPairDataset
from rscontrast.datasets.registration import move, register_post
from rscontrast.errors import InputError
from rscontrast.stac import search
from tests.world import grid

SIDE = 96
SHIFTS = [(1, -2), (0.5, 0.25), (-1.3, 0.7), (2.4, -0.05), (-0.5, -1.5)]


def scene(x=0.0, y=0.0, side=SIDE, bands=2):
    """Reflectance at every pixel moved by (x, y): 300 waves of 5 pixels or more, [C, H, W]."""
    rng = np.random.default_rng(1)
    rows, cols = np.mgrid[:side, :side].astype(float)
    speed, angle = 0.2 * np.sqrt(rng.random(300)), 2 * np.pi * rng.random(300)
    across, down = speed * np.cos(angle), speed * np.sin(angle)
    where = across[:, None, None] * (cols + x) + down[:, None, None] * (rows + y)
    waves = [np.cos(2 * np.pi * (where + rng.random(300)[:, None, None])) for _ in range(bands)]
    return 0.2 + np.stack([wave.mean(axis=0) for wave in waves]).astype(np.float32)


def whole():
    return np.ones((SIDE, SIDE), dtype=bool)


@pytest.mark.parametrize(("x", "y"), SHIFTS)
def test_a_known_shift_is_found_and_taken_back(x, y):
    pre = scene()
    image, valid, shift = register_post((pre, whole()), (scene(-x, -y), whole()), 4)
    assert shift[:2] == pytest.approx((x, y), abs=0.05)
    assert shift[2] > 0.99
    assert 0.9 < valid.mean() < 1
    # The waves have an amplitude of 0.04 (standard deviation).
    assert np.abs(image - pre)[:, valid].max() < 0.004
    assert (image[:, ~valid] == 0).all()


def test_no_shift_leaves_every_bit():
    pre = scene()
    pre[:, 3, 4] = -0.0
    valid = np.random.default_rng(0).random((SIDE, SIDE)) > 0.1
    image, usable, shift = register_post((pre, valid), (pre.copy(), valid), 4)
    assert shift[:2].tolist() == [0, 0]
    assert image.tobytes() == pre.tobytes()
    assert np.array_equal(usable, valid)


def test_whole_pixels_are_moved_as_they_are():
    image, valid = move(scene(), whole(), 3, -2)
    assert np.array_equal(image[:, 2:, :-3], scene()[:, :-2, 3:])
    assert valid[2:, :-3].all()
    assert valid.sum() == (SIDE - 2) * (SIDE - 3)


def test_what_needs_an_unusable_pixel_is_unusable():
    usable = whole()
    usable[40, 50] = False
    image = scene()
    image[:, 40, 50] = 1e6
    moved, valid = move(image, usable, 0.5, 0.5)
    assert moved.max() < 1
    lost = np.argwhere(~valid[2:-3, 2:-3]) + 2
    assert lost.min(axis=0).tolist() == [38, 48]
    assert lost.max(axis=0).tolist() == [41, 51]
    assert len(lost) == 16
    assert not valid[:1].any()
    assert not valid[-2:].any()


def test_beyond_the_bound_nothing_is_moved():
    post = scene(-3, 0)
    image, valid, shift = register_post((scene(), whole()), (post, whole()), 2.5)
    assert np.array_equal(image, post)
    assert valid.all()
    assert np.isnan(shift[:2]).all()
    assert shift[2] > 0.9


def test_nothing_to_go_by():
    flat, none = np.full((2, SIDE, SIDE), 0.2, "float32"), np.zeros((SIDE, SIDE), bool)
    for pre, post in (((flat, whole()), (flat, whole())), ((scene(), none), (scene(), whole()))):
        image, valid, shift = register_post(pre, post, 4)
        assert np.isnan(shift).all()
        assert np.array_equal(image, post[0])
        assert np.array_equal(valid, post[1])


@pytest.fixture
def shifted(world):
    """A second date whose file claims the grid of the first, half a pixel or so off."""
    for n, (x, y) in enumerate([(0, 0), (-0.6, 0.4)], start=1):
        bands = dict(zip("ab", scene(x, y), strict=True))
        world.item(f"d{n}", grid(shape=(SIDE, SIDE)), bands=bands, when=f"2022-0{n}-01T10:00:00")
    return STACDataset(search(world.catalog()), bands=["a", "b"])


@pytest.mark.parametrize("layout", ["time", "channels"])
def test_pairs(shifted, layout):
    place = shifted.bounds
    plain = TemporalPairDataset(shifted, layout=layout)[place]
    sample = TemporalPairDataset(shifted, layout=layout, register=2)[place]
    assert "shift" not in plain
    assert sample["shift"].dtype == torch.float32
    assert sample["shift"].shape == (3,)
    assert sample["shift"][:2].tolist() == pytest.approx([0.6, -0.4], abs=0.05)
    assert sample["image"].shape == plain["image"].shape
    (pre, post), (_, as_read) = (s["image"].reshape(2, 2, SIDE, SIDE) for s in (sample, plain))
    valid = sample["valid"].all(dim=0)
    assert (post - pre)[:, valid].abs().max() < 0.004 < (as_read - pre)[:, valid].abs().max()
    assert sample["valid"][0].all()
    assert not sample["valid"][1].all()
    assert (post[:, ~sample["valid"][1]] == 0).all()


def test_a_dataset_that_knows_no_valid_pixels_gets_them(shifted):
    shifted.transforms = lambda sample: {k: v for k, v in sample.items() if k != "valid"}
    assert "valid" not in TemporalPairDataset(shifted)[shifted.bounds]
    sample = TemporalPairDataset(shifted, register=2)[shifted.bounds]
    assert 0.9 < sample["valid"][1].float().mean() < 1


@pytest.mark.parametrize("bound", [0, -1, float("nan")])
def test_a_bound_that_is_none(shifted, bound):
    with pytest.raises(InputError, match="register"):
        TemporalPairDataset(shifted, register=bound)
