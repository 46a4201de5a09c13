"""Patches of an endless lattice whose weights sum to one."""

import numpy as np
import pytest
import torch

from rscontrast.errors import InputError
from rscontrast.mapping.blend import RowBlend, Window

KINDS = ["cosine", "flat"]
SIZES = [(64, 0), (64, 1), (64, 15), (64, 16), (64, 32), (96, 5), (8, 2)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("size", "overlap"), SIZES)
def test_weights_of_all_patches_sum_to_one_everywhere(size, overlap, kind):
    window = Window(size, overlap, kind)
    assert window.weights.shape == (size,)
    total = np.zeros(900)
    for start in window.starts(-450, 450):
        index = np.arange(start, start + size) + 450
        kept = (index >= 0) & (index < 900)
        total[index[kept]] += window.weights[kept]
    np.testing.assert_allclose(total, 1.0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("size", "overlap"), SIZES)
def test_whichever_tile_asks_gets_the_patches_that_have_a_say(size, overlap, kind):
    window = Window(size, overlap, kind)
    heavy = np.flatnonzero(window.weights)
    for first in (-333, -1, 0, 70, 129):
        for last in (first + 1, first + 50, first + 300):
            asked = set(window.starts(first, last))
            lattice = range(-99 * window.stride, 99 * window.stride, window.stride)
            say = {s for s in lattice if s + heavy[0] < last and s + heavy[-1] >= first}
            assert asked == say


def test_a_cosine_leaves_the_border_out_and_flat_is_the_centre():
    weights = Window(64, 32).weights
    assert (weights[:8] == 0).all()
    assert (np.diff(weights[7:25]) > 0).all()
    assert (weights[24:40] == 1).all()
    np.testing.assert_allclose(weights, weights[::-1], atol=1e-7)
    t = 3.5 / 16
    assert weights[8 + 3] == pytest.approx((1 - np.cos(np.pi * t)) / 2)
    flat = Window(64, 32, "flat").weights
    assert np.array_equal(np.flatnonzero(flat), np.arange(16, 48))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_come_out_as_the_sum_of_all_patches(kind):
    window, width = Window(16, 6, kind), 46
    cols = range(0, width - 15, window.stride)
    random = np.random.default_rng(0)
    patches = random.random((5, len(cols), 3, 16, 16), dtype="f4")
    blend = RowBlend(window, 3, width, torch.device("cpu"))
    whole = np.zeros((3, 16 + 4 * window.stride, width))
    found = []
    for row, of_row in enumerate(patches):
        weight = np.outer(window.weights, window.weights)
        for col, patch in zip(cols, of_row, strict=True):
            top = row * window.stride
            whole[:, top : top + 16, col : col + 16] += patch * weight
        weighed = blend.weigh(torch.from_numpy(of_row.copy()))
        for col, patch in zip(cols, weighed, strict=True):
            blend.add(col, patch)
        found.append(blend.advance().numpy())
    out = np.concatenate(found, axis=1)
    np.testing.assert_allclose(out, whole[:, window.lead :][:, : out.shape[1]], rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [((64, -1), "overlap: got -1"), ((64, 33), "overlap: got 33"), ((64, 8, "hann"), "window")],
)
def test_bad_windows_are_refused(arguments, text):
    with pytest.raises(InputError, match=text):
        Window(*arguments)
