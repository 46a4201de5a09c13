"""Geometry: what is drawn is what was asked for, and its matrices mean what they say."""

from itertools import combinations

import pytest
import rasterio.transform
import torch
import torch.nn.functional as F
from affine import Affine

from rscontrast.augment.geometry import Geometry, cell_centres, draw, place, rectangles, to_map
from rscontrast.augment.warp import Warp
from rscontrast.errors import InputError
from rscontrast.types import IGNORE

SHAPE = (60, 48)


def drawn(batch=500, views=2, shape=SHAPE, seed=0, size=(24, 24), **settings):
    generator = torch.Generator().manual_seed(seed)
    settings = Geometry(size, **settings)
    return draw(settings, batch, views, shape, device="cpu", generator=generator)


def boxes(matrix, size=(24, 24)):
    """(low, high) [..., 2] in patch pixels from its corner, whatever way the view is turned."""
    ends = rectangles(matrix.double(), size, (1, 1)).unflatten(-1, (2, 2))
    return ends.amin(dim=-2), ends.amax(dim=-2)


def sides(matrix, size=(24, 24)):
    low, high = boxes(matrix, size)
    return high - low


def shared(matrix, one, other, size=(24, 24)):
    """Share of the smaller of two views that lies in the other, by plain intervals."""
    low, high = boxes(matrix, size)
    common = torch.minimum(high[:, one], high[:, other]) - torch.maximum(low[:, one], low[:, other])
    areas = (high - low).prod(dim=-1)
    return common.clamp(min=0).prod(dim=-1) / torch.minimum(areas[:, one], areas[:, other])


def test_area_is_uniform_and_ratio_and_place_keep_their_bounds():
    matrix = drawn(4000, scale=(0.2, 0.8), dihedral=False)
    low, high = boxes(matrix)
    share = (high - low).prod(dim=-1) / (60 * 48)
    quantiles = share.flatten().quantile(torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]).double())
    expected = torch.tensor([0.2, 0.35, 0.5, 0.65, 0.8]).double()
    torch.testing.assert_close(quantiles, expected, atol=0.02, rtol=0)
    ratio = (high - low)[..., 0] / (high - low)[..., 1]
    assert 0.749 < ratio.min() < 0.76
    assert 1.31 < ratio.max() < 1.334
    assert low.min() > -1e-4
    assert (high - torch.tensor([48, 60])).max() < 1e-4
    middle = (low + high) / 2 / torch.tensor([48, 60])
    torch.testing.assert_close(middle.mean(dim=(0, 1)), torch.full((2,), 0.5).double(), atol=0.01,
                               rtol=0)  # fmt: skip


@pytest.mark.parametrize("shape", [(30, 90), (90, 30), (64, 64)])
def test_a_crop_that_cannot_have_its_area_is_as_large_as_its_ratio_allows(shape):
    wide, high = sides(drawn(shape=shape, scale=(1.0, 1.0))).unbind(-1)
    least, most = min(shape), max(shape)
    if least == most:
        torch.testing.assert_close(wide, torch.full_like(wide, 64), atol=1e-3, rtol=0)
        torch.testing.assert_close(high, torch.full_like(high, 64), atol=1e-3, rtol=0)
    else:
        short, long = (wide, high) if shape[0] > shape[1] else (high, wide)
        torch.testing.assert_close(short, torch.full_like(short, 30), atol=1e-3, rtol=0)
        torch.testing.assert_close(long, torch.full_like(long, 40), atol=1e-3, rtol=0)


def test_a_scale_above_1_reaches_beyond_the_patch_and_holds_all_of_it():
    low, high = boxes(drawn(shape=(50, 50), scale=(2.0, 2.0), ratio=(1, 1)))
    assert low.max() <= 1e-3
    assert high.min() >= 50 - 1e-3
    torch.testing.assert_close((high - low).prod(-1), torch.full((500, 2), 5000.0).double())


@pytest.mark.parametrize(("size", "count"), [((24, 24), 8), ((20, 30), 4)])
def test_symmetries_are_equally_likely(size, count):
    linear = drawn(4000, views=1, size=size)[:, 0, :2, :2].sign()
    kinds, found = linear.flatten(1).unique(dim=0, return_counts=True)
    assert len(kinds) == count
    # Four standard deviations of a share of 4000.
    assert ((found / 4000 - 1 / count).abs() < 4 * (1 / count / 4000) ** 0.5).all()
    assert (linear.abs().sum(dim=-1) == 1).all()
    upright = drawn(50, size=size, dihedral=False)
    assert (upright[..., 0, 0] > 0).all()
    assert (upright[..., 1, 1] > 0).all()
    assert (upright[..., [0, 1], [1, 0]] == 0).all()


@pytest.mark.parametrize("views", [2, 4])
@pytest.mark.parametrize("overlap", [0.3, 0.7, 1.0])
@pytest.mark.parametrize("registration", [0.0, 3.0])
def test_min_overlap_holds_in_every_draw(views, overlap, registration):
    """Also where no draw has it by chance: small views, many of them, all alike at 1."""
    settings = {"scale": (0.05, 1.0), "min_overlap": overlap, "registration": registration}
    matrix = drawn(2000, views, **settings)
    found = [shared(matrix, one, other) for one, other in combinations(range(views), 2)]
    assert min(pair.min() for pair in found) > overlap - 1e-4
    low, high = boxes(matrix)
    assert low.min() > -registration - 1e-3
    assert (high - torch.tensor([48, 60])).max() < registration + 1e-3
    share = (high - low).prod(dim=-1) / (60 * 48)
    assert share.min() > 0.05 - 1e-4  # pulling keeps the range of areas
    assert share.max() <= 1 + 1e-4


def test_min_overlap_takes_views_that_differ():
    matrix = drawn(2000, min_overlap=0.5)
    free = torch.cat([shared(drawn(2000, seed=seed), 0, 1) for seed in range(3)])
    found = shared(matrix, 0, 1)
    assert (free < 0.5).any()
    wanted = free[free >= 0.5]  # a draw that is refused is drawn again: the rest is as it was
    torch.testing.assert_close(found.mean(), wanted.mean(), atol=0.01, rtol=0)
    torch.testing.assert_close(found.std(), wanted.std(), atol=0.01, rtol=0)


def test_one_geometry_for_all_views_but_for_the_registration():
    alike = drawn(same=True, views=3)
    assert torch.equal(alike, alike[:, :1].expand_as(alike))
    moved = drawn(same=True, views=3, registration=2.0)
    assert torch.equal(moved[..., :2, :2], alike[..., :2, :2])
    shift = moved[..., :2, 2] - alike[..., :2, 2]
    assert 1.9 < shift.abs().max() <= 2.0 + 1e-4
    assert (shift[:, 0] != shift[:, 1]).all()


def test_a_whole_view_is_the_patch():
    matrix = drawn(1, 1, size=(48, 60), shape=(48, 60), scale=(1, 1), ratio=(1, 1), dihedral=False)
    torch.testing.assert_close(matrix[0, 0], torch.eye(3), atol=1e-4, rtol=0)
    whole = torch.tensor([0.0, 0.0, 1.0, 1.0])
    torch.testing.assert_close(rectangles(matrix, (48, 60), (48, 60))[0, 0], whole)


def test_rectangles_and_cells_are_those_of_pixpro():
    """METHODS, section 3: a flip swaps x1 and x2, and cells are spread from corner to corner."""
    matrix = drawn(200, views=2)
    upright = matrix[..., 0, 1] == 0
    x1, y1, x2, y2 = rectangles(matrix, (24, 24), SHAPE).unbind(-1)
    mirrored = (matrix[..., 0, 0] < 0)[upright]
    assert torch.equal((x1 > x2)[upright], mirrored)
    assert torch.equal((y1 > y2)[upright], (matrix[..., 1, 1] < 0)[upright])
    assert mirrored.any()
    assert (~mirrored).any()
    cells = 7
    steps = torch.arange(cells) + 0.5
    x = x1[..., None] + steps * (x2 - x1)[..., None] / cells
    y = y1[..., None] + steps * (y2 - y1)[..., None] / cells
    centres = (cell_centres(matrix, (24, 24), cells) + 0.5) / torch.tensor([48, 60])
    expected = torch.stack([x[..., None, :].expand(200, 2, 7, 7),
                            y[..., :, None].expand(200, 2, 7, 7)], dim=-1)  # fmt: skip
    torch.testing.assert_close(centres[upright], expected[upright], atol=1e-5, rtol=0)
    # Turned by a quarter, x runs down the view: the same grid, transposed.
    torch.testing.assert_close(
        centres[~upright], expected[~upright].transpose(-3, -2), atol=1e-5, rtol=0
    )


def test_a_mirrored_view_has_the_mirrored_rectangle():
    straight = drawn(1, 1, dihedral=False)
    mirror = torch.tensor([[-1.0, 0, 23], [0, 1, 0], [0, 0, 1]])
    x1, y1, x2, y2 = rectangles(straight, (24, 24), SHAPE)[0, 0]
    found = rectangles(straight @ mirror, (24, 24), SHAPE)[0, 0]
    torch.testing.assert_close(found, torch.stack([x2, y1, x1, y2]))


def test_as_many_cells_as_pixels_are_the_pixels():
    matrix = drawn(5, size=(6, 9))
    rows, cols = torch.meshgrid(torch.arange(6.0), torch.arange(9.0), indexing="ij")
    points = torch.stack([cols, rows, torch.ones(6, 9)], dim=-1)
    expected = torch.einsum("bvij,hwj->bvhwi", matrix, points)[..., :2]
    torch.testing.assert_close(cell_centres(matrix, (6, 9), (6, 9)), expected)


@pytest.mark.parametrize(
    "geobox",
    [
        Affine.translation(730200, 5098280) @ Affine.scale(2.5, -2.5),
        Affine.translation(-3e6, 4e6) @ Affine.rotation(33) @ Affine.scale(10, -10),
    ],
)
def test_map_coordinates_are_those_of_rasterio(geobox):
    matrix = drawn(3)
    found = to_map(matrix, torch.tensor(tuple(geobox), dtype=torch.float64).expand(3, 9))
    assert found.dtype == torch.float64
    for sample, view, col, row in [(0, 0, 0, 0), (1, 1, 23, 5), (2, 0, 11, 22)]:
        x, y, _ = matrix[sample, view].double() @ torch.tensor([col, row, 1.0]).double()
        # rasterio's xy is that of a pixel's centre, of fractional rows and columns too
        expected = rasterio.transform.xy(geobox, y.item(), x.item())
        there = found[sample, view] @ torch.tensor([col, row, 1.0]).double()
        torch.testing.assert_close(
            there[:2], torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=0
        )


def test_place_is_a_product_of_matrices():
    matrix, points = drawn(4, 3), torch.rand(11, 2) * 20
    whole = torch.cat([points, torch.ones(11, 1)], dim=1)
    expected = torch.einsum("bvij,pj->bvpi", matrix, whole)[..., :2]
    torch.testing.assert_close(place(matrix, points), expected)


@pytest.mark.parametrize(
    ("size", "shape", "settings", "expected"),
    [
        ((224, 224), (224, 224), {}, (1, 1)),
        ((224, 224), (264, 264), {}, (1, 1)),
        ((112, 112), (224, 224), {}, (2, 2)),
        ((16, 16), (64, 64), {"scale": (0.1, 0.25), "ratio": (1, 1)}, (2, 2)),
        ((32, 32), (40, 64), {"dihedral": False, "scale": (0.5, 1.0)}, (1, 2)),
        ((32, 32), (40, 64), {"scale": (0.5, 1.0)}, (2, 2)),
        ((90, 90), (20, 20), {}, (1, 1)),
    ],
)
def test_readings_skip_no_pixel_and_are_no_more_than_needed(size, shape, settings, expected):
    settings = Geometry(size, **settings)
    assert settings.readings(shape) == expected
    matrix = draw(settings, 500, 1, shape, device="cpu")
    steps = matrix[..., :2, :2].abs().amax(dim=-2)  # of a column and of a row of the view
    assert (steps.amax(dim=(0, 1)) / torch.tensor(expected[::-1])).max() <= 1.5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", 0), ("size", (3, 2.5)), ("scale", (0, 1)), ("scale", (1, 0.5)), ("scale", 0.5),
        ("scale", (0.1, float("inf"))), ("ratio", (-1, 1)), ("ratio", (1, float("nan"))),
        ("min_overlap", -0.1), ("min_overlap", 1.1), ("min_overlap", float("nan")),
        ("registration", -1), ("registration", float("inf")),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(InputError, match=f"^{name}: got .*; allowed: "):
        Geometry(**{"size": 8, name: value})


def whole_patch(shape, size):
    settings = Geometry(size, scale=(1, 1), ratio=(1, 1), dihedral=False)
    matrix = draw(settings, 3, 1, shape, device="cpu")
    return Warp(matrix, settings.size, shape, settings.readings(shape))


def test_a_view_that_thins_the_patch_is_its_areas_mean():
    image = torch.rand(3, 1, 4, 64, 48)
    found = whole_patch((64, 48), (16, 12)).continuous(image)
    torch.testing.assert_close(found[:, 0], F.avg_pool2d(image[:, 0], 4), atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [(20, 30), (34, 51), (90, 135)])
def test_a_view_that_magnifies_the_patch_is_interpolated(size):
    image = torch.rand(3, 1, 4, 20, 30)
    found = whole_patch((20, 30), size).continuous(image)
    expected = F.interpolate(image[:, 0], size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(found[:, 0], expected, atol=1e-4, rtol=0)


def test_the_nearest_pixel_keeps_every_bit():
    warp = whole_patch((20, 30), (20, 30))
    for dtype in (torch.int64, torch.uint8, torch.bool, torch.float64):
        raster = (torch.rand(3, 1, 2, 20, 30, dtype=torch.float64) * 200).to(dtype)
        found = warp.nearest(raster, outside=False if dtype == torch.bool else IGNORE)
        assert found.dtype == dtype
        assert torch.equal(found, raster)
