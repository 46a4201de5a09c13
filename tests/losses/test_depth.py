"""Depth as a filter: pooled, normalised and applied as the loop does, and what must not change."""

import math

import pytest
import torch
from torch import Tensor

from rscontrast.augment import PairViews
from rscontrast.errors import InputError
from rscontrast.losses import (
    DepthFilter,
    combine,
    dense_info_nce,
    depth_positives,
    normalise_depth,
    pixpro,
    pool_depth,
)
from rscontrast.types import SensorContract
from tests.losses.test_dense import CELLS, gradient, make_maps
from tests.oracles import dense as oracle

MODES = ["hard", "soft"]


def make_depths(count: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first = 30 * torch.rand(count, *CELLS, generator=generator, dtype=torch.float64)
    second = 30 * torch.rand(count, *CELLS, generator=generator, dtype=torch.float64)
    return first, second


def make_pixels(count: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    shape = (count, 16, 24)
    return tuple(torch.rand(shape, generator=generator, dtype=torch.float64) for _ in range(2))


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize("scale", [0.1, 0.4])
@pytest.mark.parametrize("mode", MODES)
def test_filter_equals_the_loop(mode: str, scale: float, unknown: bool) -> None:
    _, _, positives = make_maps()
    first, second = make_depths()
    if unknown:
        first[0, 0, 1] = second[2, 1, :2] = math.nan
    expected, fallbacks = oracle.depth_filter(positives, first, second, mode, scale)
    found = depth_positives(
        positives, *normalise_depth(first, second), mode, depth_threshold=scale, sigma=scale
    )
    torch.testing.assert_close(found.positives, expected)
    assert found.diagnostics["depth_fallback_share"] == fallbacks / 4
    assert found.positives.sum() < positives.sum()


@pytest.mark.parametrize("height", [0.0, 812.5, math.nan])
@pytest.mark.parametrize("mode", MODES)
def test_constant_or_unknown_depth_gives_the_loss_exactly(mode: str, height: float) -> None:
    query, key, positives = make_maps()
    flat = torch.full((4, *CELLS), height, dtype=torch.float64)
    found = depth_positives(positives, *normalise_depth(flat, flat), mode)
    assert torch.equal(found.positives, positives.double())
    assert found.diagnostics["depth_kept_share"] == 1
    assert found.diagnostics["depth_fallback_share"] == 0
    for loss in (pixpro, dense_info_nce):
        assert torch.equal(loss(query, key, found.positives).loss, loss(query, key, positives).loss)
        assert torch.equal(
            gradient(loss, query, key, found.positives), gradient(loss, query, key, positives)
        )


def flat_ground(height: float, side: int = 224) -> Tensor:
    """[4, side, side] of one height, 2 % of it unknown."""
    ground = torch.full((4, side, side), height)
    generator = torch.Generator().manual_seed(1)
    return ground.masked_fill_(torch.rand(ground.shape, generator=generator) < 0.02, math.nan)


@pytest.mark.parametrize("height", [812.3, 3.7, -427.1, 8848.9])
@pytest.mark.parametrize("mode", MODES)
def test_flat_ground_with_holes_gives_the_loss_exactly(mode: str, height: float) -> None:
    """By the filter alone, and by views that resample the ground in float32."""
    ground = flat_ground(height)
    bands = SensorContract(("red",), 2.5, (0.0,), (1.0,))
    torch.manual_seed(0)
    batch = {"image": torch.rand(4, 2, 1, 224, 224), "depth": ground.unsqueeze(1)}
    views = PairViews(bands, 160)(batch)["depth"].flatten(2, -3).squeeze(2)
    every = torch.ones(4, 49, 49)
    for query, key in ((ground, ground.flip(2)), views.unbind(1)):
        found = DepthFilter(mode)(every, query, key, (7, 7), (7, 7))
        assert torch.equal(found.positives, every)
        assert set(found.diagnostics) == {
            "depth_kept_share", "depth_fallback_share", "depth_full_range_share"
        }  # fmt: skip
        assert found.diagnostics["depth_kept_share"] == 1
        assert found.diagnostics["depth_full_range_share"] == 0


@pytest.mark.parametrize("ground", [0.0, 812.3])
@pytest.mark.parametrize("mode", MODES)
def test_a_lone_building_on_flat_ground_is_told_from_the_street(mode: str, ground: float) -> None:
    """2 of 49 cells: both quantiles are the street's."""
    street = torch.full((2, 224, 224), ground)
    built = street.clone()
    built[0, :32, :64] += 6
    every = torch.ones(2, 49, 49)
    found = DepthFilter(mode)(every, built, built, (7, 7), (7, 7))
    assert (found.positives[0, :2, 2:] < 1e-20).all()
    assert (found.positives[0, 2:, :2] < 1e-20).all()
    assert (found.positives[0, :2, :2] == 1).all()
    assert (found.positives[0, 2:, 2:] == 1).all()
    assert torch.equal(found.positives[1], every[1])
    assert found.diagnostics["depth_full_range_share"] == 0.5


def test_hard_filter_separates_a_roof_from_the_street() -> None:
    depth = torch.tensor([[[0.0, 0.0, 10.0, 10.0]]])
    every = torch.ones(1, 4, 4)
    found = depth_positives(every, *normalise_depth(depth, depth)).positives[0]
    assert torch.equal(found, torch.block_diag(torch.ones(2, 2), torch.ones(2, 2)))
    soft = depth_positives(every, *normalise_depth(depth, depth), "soft", sigma=1.0).positives[0]
    assert torch.equal(soft[:2, :2], torch.ones(2, 2))
    assert soft[0, 3].item() == pytest.approx(math.exp(-0.5))


@pytest.mark.parametrize("mode", MODES)
def test_a_sample_that_keeps_nothing_keeps_all_and_is_counted(mode: str) -> None:
    positives = torch.eye(4).repeat(3, 1, 1)
    positives[2] = 0  # no overlap: nothing to fall back on
    query = torch.zeros(3, 1, 4)
    key = torch.tensor([[9.0, 9, 9, 9], [0, 9, 9, 9], [9, 9, 9, 9]]).unsqueeze(1)
    found = depth_positives(positives, query, key, mode)
    assert torch.equal(found.positives[0], positives[0])
    kept = found.positives[1]
    assert kept[0, 0] == 1
    assert kept.sum() == 1
    assert found.diagnostics["depth_fallback_share"] == 0.5
    assert found.diagnostics["depth_kept_share"] == 1 / 8


def test_nothing_overlaps_is_not_defined_but_finite_positives() -> None:
    found = depth_positives(torch.zeros(2, 4, 4), torch.zeros(2, 1, 4), torch.zeros(2, 1, 4))
    assert (found.positives == 0).all()
    assert all(value.isnan() for value in found.diagnostics.values())


def test_normalisation_is_robust_shared_and_free_of_units() -> None:
    first, second = make_depths()
    query, key = normalise_depth(first, second)
    again = normalise_depth(3 * first + 500, 3 * second + 500)
    torch.testing.assert_close(again, (query, key))
    both = torch.cat([query, key], 2).flatten(1)
    torch.testing.assert_close(both.quantile(0.5, dim=1), torch.zeros(4).double())
    spread = both.quantile(0.95, dim=1) - both.quantile(0.05, dim=1)
    torch.testing.assert_close(spread, torch.ones(4).double())
    # One place has one depth in both views.
    shared = normalise_depth(first, torch.cat([first, second], 2))
    assert torch.equal(shared[0], shared[1][:, :, :3])


def test_least_range_leaves_noise_on_flat_ground_small() -> None:
    noise = 0.01 * torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0))
    loud, _ = normalise_depth(noise, noise)
    quiet, _ = normalise_depth(noise, noise, least_range=1.0)
    assert loud.abs().max() > 0.4
    assert quiet.abs().max() < 0.01


def test_unknown_pixels_are_left_out_of_a_cell() -> None:
    depth = torch.arange(16.0).view(1, 4, 4)
    depth[0, 0, 0] = math.nan
    depth[0, 0, 1] = math.inf
    depth[0, 2:, 2:] = math.nan
    found = pool_depth(depth, (2, 2))[0]
    assert found[0].tolist() == [4.5, 4.5]
    assert found[1, 0] == 10.5
    assert found[1, 1].isnan()
    assert pool_depth(depth.half(), (2, 2)).dtype == torch.float32
    assert pool_depth(torch.rand(1, 5, 7), (2, 3)).shape == (1, 2, 3)


def test_the_module_pools_normalises_and_filters() -> None:
    _, _, positives = make_maps()
    first, second = make_pixels()
    for mode in MODES:
        found = DepthFilter(mode, depth_threshold=0.2, sigma=0.3)(
            positives, first, second, CELLS, CELLS
        )
        cells = normalise_depth(pool_depth(first, CELLS), pool_depth(second, CELLS))
        expected = depth_positives(positives, *cells, mode, depth_threshold=0.2, sigma=0.3)
        assert torch.equal(found.positives, expected.positives)
        assert found.positives.sum() < positives.sum()


def test_multi_scale_is_the_sum_over_grids() -> None:
    """Each with the depth of its own cells: the literal loops, on each grid."""
    parts, expected = {}, []
    first, second = make_pixels(2)
    for stride, cells in (("32", (2, 2)), ("16", (4, 4)), ("8", (8, 8))):
        query, key, positives = make_maps(2, 5, cells)
        kept, _ = DepthFilter("soft", sigma=0.3)(positives, first, second, cells, cells)
        assert 0 < kept.sum() < positives.sum()
        parts[stride] = pixpro(query, key, kept)
        depths = pool_depth(first, cells), pool_depth(second, cells)
        literal, _ = oracle.depth_filter(positives, *depths, "soft", 0.3)
        expected.append(oracle.pixpro(query, key, literal, torch.ones(2)))
    torch.testing.assert_close(combine(parts).loss, sum(expected))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "sofft"}, "mode: got 'sofft'; .*did you mean 'soft'"),
        ({"depth_threshold": 0.0}, "depth_threshold: got"),
        ({"sigma": math.nan}, "sigma: got"),
        ({"least_range": -1.0}, "least_range: got"),
    ],
)
def test_bad_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DepthFilter(**settings)


def test_bad_shapes() -> None:
    with pytest.raises(InputError, match="positives: got"):
        depth_positives(torch.ones(1, 4, 4), torch.ones(1, 2, 2), torch.ones(1, 2, 3))
    with pytest.raises(InputError, match="depth: got"):
        pool_depth(torch.ones(1, 1, 4, 4), (2, 2))
    with pytest.raises(InputError, match="least_range: got"):
        normalise_depth(torch.ones(1, 2, 2), torch.ones(1, 2, 2), least_range=math.nan)
    with pytest.raises(InputError, match=r"depth: got \[\(1, 2, 2\), \(3, 2, 2\)\]"):
        normalise_depth(torch.ones(1, 2, 2), torch.ones(3, 2, 2))
    with pytest.raises(InputError, match="positives: got"):
        depth_positives(torch.ones(1, 4, 4), torch.ones(0, 2, 2), torch.ones(0, 2, 2))


def test_no_sample_keeps_no_positive() -> None:
    found = depth_positives(torch.ones(0, 4, 4), torch.ones(0, 2, 2), torch.ones(0, 2, 2))
    assert found.positives.shape == (0, 4, 4)
    assert found.diagnostics["depth_kept_share"].isnan()
