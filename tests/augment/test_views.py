"""Views: pixels that hold their own coordinates show where each came from, in any composition."""

import pytest
import torch
from affine import Affine

from rscontrast.augment import PairViews
from rscontrast.augment.geometry import cell_centres
from rscontrast.augment.presets import PRESETS
from rscontrast.errors import InputError
from rscontrast.types import SensorContract

STILL = {"gain": 0.0, "band_gain": 0.0, "offset": 0.0, "blur": 0.0}
BANDS = [1, 2, 3, 4, 10, 13]
DTYPES = [torch.float32, torch.bfloat16]
CASES = {
    "square": {"shape": (40, 40), "size": 40},
    "batch of one": {"shape": (40, 40), "size": 40, "batch": 1},
    "wide patch": {"shape": (36, 60), "size": 32},
    "high patch, wide view": {"shape": (60, 36), "size": (24, 32)},
    "smaller views": {"shape": (64, 48), "size": 12, "min_scale": 0.8},
    "larger views": {"shape": (24, 30), "size": 48},
    "beyond the patch": {"shape": (40, 48), "size": 32, "registration": 3.0},
    "thinned beyond the patch": {"shape": (60, 60), "size": 16, "registration": 4.0},
    "same geometry": {"shape": (40, 48), "size": 32, "same_geometry": True, "registration": 1.0},
    "overlapping": {"shape": (40, 48), "size": 32, "min_scale": 0.1, "min_overlap": 0.6},
    "upright": {"shape": (40, 48), "size": 32, "dihedral": False},
    "one date, three views": {"shape": (40, 48), "size": 32, "views": 3, "dates": 0},
    "two dates, four views": {"shape": (40, 48), "size": 32, "views": 4},
}


def contract(bands, mean=0.0, std=1.0):
    names = tuple(f"b{i}" for i in range(bands))
    return SensorContract(names, 2.5, (mean,) * bands, (std,) * bands)


def ramp(shape, axis):
    """[H, W]: the column (axis 0) or the row (axis 1) of each pixel."""
    rows, cols = torch.meshgrid(*(torch.arange(float(side)) for side in shape), indexing="ij")
    return (cols, rows)[axis]


def split(case):
    """What is given to PairViews, and the patches: (settings, shape, size, axes before C)."""
    settings = dict(CASES[case])
    shape, size = settings.pop("shape"), settings.pop("size")
    before = [settings.pop("batch", 5), settings.pop("dates", 2)]
    return settings, shape, size, before if before[1] else before[:1]


def promised(made, size):
    """(x, y) [B, V, h, w, 2] in patch pixels that the matrices promise to each view's pixels."""
    h, w = (size, size) if isinstance(size, int) else size
    return cell_centres(made["view_matrix"].float(), (h, w), (h, w))


# Every number of bands in every precision, and every case of geometry.
KINDS = [
    *((bands, dtype, "wide patch") for bands in BANDS for dtype in DTYPES),
    *((4, torch.float32, case) for case in CASES if case != "wide patch"),
    (3, torch.bfloat16, "batch of one"),
    (1, torch.bfloat16, "beyond the patch"),
]


@pytest.mark.parametrize(("bands", "dtype", "case"), KINDS)
class TestEveryKindOfBatch:
    def test_every_pixel_has_the_coordinates_that_the_geometry_promises(self, bands, dtype, case):
        settings, shape, size, before = split(case)
        views = PairViews(contract(bands), size, **STILL, **settings)
        params = None
        for axis in (0, 1):
            image = ramp(shape, axis).expand(*before, bands, *shape).to(dtype)
            made = views({"image": image}, params)
            params = made["params"]  # the rows come from where the columns did
            assert made["image"].dtype == dtype
            error = made["image"].float() - promised(made, size)[..., axis].unsqueeze(2)
            known = made["valid"].unsqueeze(2).expand_as(error)
            # bfloat16 itself has steps of a quarter between 32 and 64
            rounding = 0.13 if dtype == torch.bfloat16 else 0.0
            assert error[known].abs().max() < 0.5 + rounding
            assert known.float().mean() > 0.5
            x, y = promised(made, size).unbind(-1)
            within = (x > -0.5) & (x < shape[1] - 0.5) & (y > -0.5) & (y < shape[0] - 0.5)
            assert not (made["valid"] & ~within).any()
            assert bool(settings.get("registration")) or made["valid"].all()

    def test_replayed_views_are_the_same_bit_for_bit(self, bands, dtype, case):
        settings, shape, size, before = split(case)
        settings["views"] = 2 * settings.get("views", 1)
        torch.manual_seed(0)
        batch = {
            "image": torch.rand(*before, bands, *shape).to(dtype),
            "valid": torch.rand(*before, *shape) > 0.3,
            "mask": torch.randint(0, 5, (before[0], *shape)),
            "depth": torch.rand(before[0], 1, *shape),
        }
        views = PairViews(contract(bands, 0.3, 0.2), size, preset="byol", cutout=0.3, **settings)
        first = views(batch)
        again = views(batch, first["params"])
        for key in ("image", "valid", "mask", "depth", "view_matrix", "rectangle"):
            assert torch.equal(first[key].nan_to_num(-1), again[key].nan_to_num(-1))
        assert not torch.equal(first["image"], views(batch)["image"])

    def test_what_is_unusable_is_0_and_of_no_effect(self, bands, dtype, case):
        """NaN there, or half of the patches, or all of them: nothing of it comes through."""
        settings, shape, size, before = split(case)
        settings["views"] = 2 * settings.get("views", 1)
        torch.manual_seed(0)
        image = torch.rand(*before, bands, *shape)
        valid = torch.rand(*before, *shape) > 0.3
        valid[0] = False  # all nodata: of a batch of one all there is
        hidden = ~valid.unsqueeze(-3)
        views = PairViews(contract(bands, 0.3, 0.2), size, preset="simclr", **settings)
        made = views({"image": image.masked_fill(hidden, torch.nan).to(dtype), "valid": valid})
        same = views({"image": image.masked_fill(hidden, 99).to(dtype), "valid": valid},
                     made["params"])  # fmt: skip
        assert torch.equal(made["image"], same["image"])
        assert torch.isfinite(made["image"]).all()
        unknown = ~made["valid"].unsqueeze(2).expand_as(made["image"])
        assert (made["image"][unknown] == 0).all()
        assert not made["valid"][0].any()
        assert (before[0] == 1) or made["valid"][1:].any()

    def test_a_sample_without_the_batchs_axis_is_seen_to_as_a_batch_of_one(
        self, bands, dtype, case
    ):
        settings, shape, size, before = split(case)
        torch.manual_seed(0)
        batch = {
            "image": torch.rand(1, *before[1:], bands, *shape).to(dtype),
            "valid": torch.rand(1, *before[1:], *shape) > 0.3,
            "depth": torch.rand(1, *shape),
            "transform": torch.tensor([[2.5, 0, 7e5, 0, -2.5, 5e6, 0, 0, 1]]).double(),
        }
        views = PairViews(contract(bands, 0.3, 0.2), size, **settings)
        torch.manual_seed(1)
        together = views(batch)
        torch.manual_seed(1)
        alone = views({key: value[0] for key, value in batch.items()})
        together.pop("params")
        assert together.keys() == alone.keys()
        for key, value in together.items():
            assert torch.equal(alone[key].nan_to_num(-1), value[0].nan_to_num(-1))


def patches(batch=6, shape=(48, 60), dates=2):
    torch.manual_seed(0)
    return {
        "image": torch.rand(batch, dates, 4, *shape),
        "valid": torch.rand(batch, dates, *shape) > 0.2,
    }


def test_labels_and_valid_are_those_of_the_nearest_pixel():
    """The mask numbers its pixels, so each label says which one it was read from."""
    batch = patches()
    batch["mask"] = torch.arange(48 * 60).reshape(48, 60).expand(6, -1, -1)
    made = PairViews(contract(4), 48, registration=4.0, dihedral="flips")(batch)
    x, y = promised(made, 48).unbind(-1)
    column, row = (x + 0.5).floor(), (y + 0.5).floor()
    within = (column >= 0) & (column < 60) & (row >= 0) & (row < 48)
    number = torch.where(within, row * 60 + column, 255).long()
    assert made["mask"].dtype == torch.int64
    # Of several readings a pixel at the border may lack some: then it is unknown too.
    inner = (x > 1) & (x < 58) & (y > 1) & (y < 46)
    assert torch.equal(made["mask"][inner], number[inner])
    assert (made["mask"][~within] == 255).all()
    assert (~within).any()
    # view v is of date v; at least half of the bilinear weight is of usable pixels
    samples, view = torch.arange(6)[:, None, None, None], torch.arange(2)[:, None, None]
    left, upper = x.floor(), y.floor()
    share = torch.zeros_like(x)
    for right, lower in ((0, 0), (0, 1), (1, 0), (1, 1)):
        weight = (1 - (x - left - right).abs()) * (1 - (y - upper - lower).abs())
        number = ((upper + lower).clamp(0, 47) * 60 + (left + right).clamp(0, 59)).long()
        share += weight * batch["valid"].flatten(2)[samples, view, number]
    sure = within & ((share - 0.5).abs() > 1e-3)
    assert torch.equal(made["valid"][sure], (share > 0.5)[sure])
    assert not made["valid"][~within].any()


def test_extra_rasters_come_along_whatever_their_kind():
    batch = patches()
    columns, rows = ramp((48, 60), 0), ramp((48, 60), 1)
    batch |= {
        "depth": columns.expand(6, -1, -1),
        "terrain": torch.stack([columns, rows]).expand(6, -1, -1, -1).double(),
        "dated": torch.stack([rows, rows + 100]).expand(6, -1, -1, -1).unsqueeze(2),
        "water": (columns > 30).expand(6, -1, -1),
        "classes": columns.to(torch.uint8).expand(6, 1, -1, -1),
        "mask": columns.expand(6, -1, -1),
        "dates": torch.zeros(6, 2),
        "crs": "EPSG:32632",
    }
    made = PairViews(contract(4), 32, registration=5.0)(batch)
    x, y = promised(made, 32).unbind(-1)
    inner, outer = (x > 1) & (x < 58) & (y > 1) & (y < 46), (x < -0.5) | (y > 47.5)
    assert outer.any()

    def near(found, expected, bound=0.01):
        assert (found - expected)[inner].abs().max() < bound

    near(made["depth"], x)
    near(made["terrain"][:, :, 0], x)
    near(made["terrain"][:, :, 1], y)
    near(made["dated"][:, :, 0] - 100 * torch.arange(2)[:, None, None], y)
    near(made["classes"].squeeze(2).float(), x, 0.51)
    near(made["mask"], x, 0.51)
    assert torch.equal(made["water"][inner], (made["classes"].squeeze(2) > 30)[inner])
    for key, dtype in (("depth", torch.float32), ("terrain", torch.float64), ("water", torch.bool),
                       ("classes", torch.uint8), ("mask", torch.float32)):  # fmt: skip
        assert made[key].dtype == dtype
    for key in ("depth", "dated"):
        values = made[key].squeeze(2) if key == "dated" else made[key]
        assert values[outer].isnan().all()
        assert not values[made["mask"] != 255].isnan().any()
    for key in ("classes", "mask"):
        assert (made[key].reshape(6, 2, 32, 32)[outer] == 255).all()
    assert not made["water"][outer].any()
    assert made["dates"] is batch["dates"]
    assert made["crs"] == "EPSG:32632"


def test_views_take_the_dates_by_turns():
    dated = torch.arange(2.0)[:, None, None, None].expand(5, 2, 3, 24, 24)
    made = PairViews(contract(3), 16, views=4, **STILL)({"image": dated})["image"]
    expected = torch.tensor([0.0, 1, 0, 1])[:, None, None, None].expand_as(made)
    torch.testing.assert_close(made, expected)
    flat = PairViews(contract(3), 16, **STILL)({"image": dated.flatten(1, 2)})["image"]
    torch.testing.assert_close(flat, expected[:, :2])


def test_map_coordinates_of_views_are_those_of_the_pixels():
    """Images of map coordinates, on a turned grid far from the origin."""
    grid = Affine.translation(7e5, 5.1e6) @ Affine.rotation(20) @ Affine.scale(2.5, -2.5)
    rows, cols = torch.meshgrid(*(torch.arange(s).double() for s in (40, 50)), indexing="ij")
    x = grid.a * (cols + 0.5) + grid.b * (rows + 0.5) + grid.c
    y = grid.d * (cols + 0.5) + grid.e * (rows + 0.5) + grid.f
    batch = {"image": torch.stack([x, y]).expand(4, 2, -1, -1).clone()}
    batch["transform"] = torch.tensor(tuple(grid)).double().expand(4, 9)
    made = PairViews(contract(2), (24, 24), min_scale=0.5, **STILL)(batch)
    assert made["view_transform"].dtype == made["image"].dtype == torch.float64
    v, u = torch.meshgrid(*(torch.arange(24).double() for _ in range(2)), indexing="ij")
    pixels = torch.stack([u, v, torch.ones_like(u)]).flatten(1)
    expected = (made["view_transform"] @ pixels)[:, :, :2].unflatten(-1, (24, 24))
    error = (made["image"] - expected).norm(dim=2)
    assert error.max() < 0.5 * 2.5  # half a pixel, at the patch's border
    assert error[:, :, 1:-1, 1:-1].max() < 0.05


def test_min_overlap_holds_between_all_views():
    batch = {"image": torch.zeros(1500, 1, 16, 20)}
    views = PairViews(contract(1), 8, views=3, min_scale=0.05, min_overlap=0.5, registration=1.0)
    corners = views(batch)["rectangle"].double().unflatten(-1, (2, 2))
    low, high = corners.amin(-2), corners.amax(-2)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        common = torch.minimum(high[:, one], high[:, other]) - torch.maximum(
            low[:, one], low[:, other]
        )
        area = (high - low).prod(-1)
        share = common.clamp(min=0).prod(-1) / torch.minimum(area[:, one], area[:, other])
        assert share.min() > 0.5 - 1e-5
        assert share.max() > 0.99


def test_parameters_move_and_can_be_taken_apart():
    batch = patches()
    views = PairViews(contract(4), 24, preset="simclr", cutout=0.3)
    made = views(batch)
    params = made["params"]
    assert len(params) == 6
    assert params.to("meta").matrix.device.type == "meta"
    for part in (slice(2, 4), torch.tensor([2, 3])):
        some = views({key: value[part] for key, value in batch.items()}, params[part])
        torch.testing.assert_close(some["image"], made["image"][part])
        assert torch.equal(some["view_matrix"], made["view_matrix"][part])


def test_a_batch_and_its_parameters_must_fit():
    params = PairViews(contract(4), 24)(patches())["params"]
    with pytest.raises(InputError, match=r"^params: got .*; allowed: "):
        PairViews(contract(4), 24)(patches(batch=3), params)
    with pytest.raises(InputError, match=r"^params: got .*; allowed: "):
        PairViews(contract(4), 24, views=4)(patches(), params)
    with pytest.raises(InputError, match=r"^params: got .*; allowed: "):
        PairViews(contract(4), 24, cutout=0.4)(patches(), params)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_makes_views(preset):
    made = PairViews(contract(4, 0.3, 0.2), 24, preset=preset)(patches())
    assert made["image"].shape == (6, 2, 4, 24, 24)
    assert torch.isfinite(made["image"]).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("views", 0), ("size", 0), ("min_overlap", 2), ("registration", -1), ("cutout", 1.0),
        ("cutout", -0.1), ("preset", "simclear"), ("seed", -1),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_by_name(name, value):
    with pytest.raises(InputError, match=f"^{name}: got .*; allowed: "):
        PairViews(contract(3), **{"size": 32, name: value})


def test_arguments_of_ours_are_refused_for_other_presets():
    with pytest.raises(InputError, match=r"^blur: got 0.2.*simclr"):
        PairViews(contract(3), 32, preset="simclr", blur=0.2)
    with pytest.raises(InputError, match=r"^views: got 3"):  # the second view is another
        PairViews(contract(3), 32, preset="byol", views=3)


@pytest.mark.parametrize("shape", [(2, 3, 3, 8, 8), (2, 5, 8, 8), (8, 8)])
def test_another_layout_is_refused(shape):
    with pytest.raises(InputError, match=r"image: got "):
        PairViews(contract(4), 8)({"image": torch.zeros(shape)})


def test_parts_of_a_batch_that_fit_the_cache_are_the_batch(monkeypatch):
    torch.manual_seed(0)
    batch = {
        "image": torch.rand(5, 2, 3, 40, 40), "valid": torch.rand(5, 2, 40, 40) > 0.2,
        "mask": torch.randint(0, 5, (5, 40, 40)), "depth": torch.rand(5, 40, 40),
        "transform": torch.rand(5, 9), "place": list("abcde"),
    }  # fmt: skip
    views = PairViews(contract(3), 32, preset="simclr", seed=3)
    whole = views(batch)
    monkeypatch.setattr("rscontrast.augment.views.CACHED", 2 * 2 * 3 * 32 * 32 * 4)
    parts = PairViews(contract(3), 32, preset="simclr", seed=3)(batch)
    assert list(parts) == list(whole)
    for name in set(whole) - {"params", "place"}:
        torch.testing.assert_close(parts[name], whole[name], rtol=0, atol=0, equal_nan=True)
    assert parts["place"] is batch["place"]


SWAP = {"RegionCutout": {"fill": "swap", "p": 1.0}}


def test_swapped_regions_are_of_another_samples_same_view(monkeypatch):
    """Each patch is flat, of a number of its own: sample + view / 10; in parts or not."""
    numbers = torch.arange(4.0)[:, None] + torch.arange(2.0) / 10
    image = numbers[:, :, None, None, None].expand(4, 2, 3, 28, 28) / 10
    views = PairViews(contract(3), 28, operations=SWAP, **STILL)
    made = views({"image": image})
    found = (10 * made["image"]).round(decimals=3)
    for sample, view in ((n, v) for n in range(4) for v in range(2)):
        seen = set(found[sample, view].unique().tolist())
        others = {round(n + view / 10, 3) for n in range(4)} - {round(sample + view / 10, 3)}
        assert len({round(one, 3) for one in seen} & others) == 1
    monkeypatch.setattr("rscontrast.augment.views.CACHED", 1)
    assert torch.equal(views({"image": image}, made["params"])["image"], made["image"])
    with pytest.raises(InputError, match=r"^params: got '2 samples.*pixels of each other"):
        views({"image": image[2:]}, made["params"][2:])
    alone = views({"image": image[:1]})["image"]
    torch.testing.assert_close(alone, image[:1], rtol=0, atol=1e-5)


def test_parameters_of_another_recipe_or_size_are_refused():
    params = PairViews(contract(4), 24, preset="simclr")(patches())["params"]
    for views in (
        PairViews(contract(4), 32, preset="simclr"),
        PairViews(contract(4), 24, operations={"Haze": {}}),
        PairViews(contract(4), 24, preset="temporal", operations={"Sun": {}, "Blur": {}}),
    ):
        with pytest.raises(InputError, match=r"^params: got .*; allowed: "):
            views(patches(), params)
    with pytest.raises(InputError, match=r"^params: got .*; allowed: "):
        PairViews(contract(4), 24, preset="simclr")(patches(shape=(60, 48)), params)
    for wrong in ({"a": 1}, params.matrix):
        with pytest.raises(InputError, match=r"^params: got .*; allowed: "):
            PairViews(contract(4), 24, preset="simclr")(patches(), wrong)


BAD = {
    "depth": [torch.zeros(6, 24, 24), torch.zeros(5, 48, 60), torch.zeros(1, 48, 60),
              torch.zeros(6, 48, 60, dtype=torch.int8)],
    "valid": [torch.ones(6, 2, 24, 24), torch.ones(6, 3, 48, 60), torch.ones(1, 2, 48, 60)],
    "transform": [torch.eye(3).expand(6, 3, 3), torch.zeros(5, 9)],
    "image": [None, torch.zeros(6, 3, 48, 60), [1, 2]],
}  # fmt: skip


@pytest.mark.parametrize(("key", "value"), [(key, one) for key in BAD for one in BAD[key]])
def test_tensors_of_another_shape_are_refused_by_name(key, value):
    views = PairViews(contract(4), 24, registration=2.0)
    with pytest.raises(InputError, match=f"^{key}: got .*; allowed: "):
        views({**patches(), key: value})


def test_valid_of_each_band_comes_in_both_layouts():
    batch = patches()
    each = torch.rand(6, 2, 4, 48, 60) > 0.1
    views = PairViews(contract(4), 24)
    made = views({"image": batch["image"], "valid": each})
    flat = {"image": batch["image"].flatten(1, 2), "valid": each.flatten(1, 2)}
    assert torch.equal(views(flat, made["params"])["valid"], made["valid"])
    whole = {"image": batch["image"], "valid": each.all(dim=2)}
    assert torch.equal(views(whole, made["params"])["image"], made["image"])


def test_dates_alone_do_not_tell_a_sample_from_a_batch():
    views = PairViews(contract(3), 8)
    with pytest.raises(InputError, match=r"^dates: got \[3\]; allowed: .*transform"):
        views({"image": torch.zeros(3, 3, 12, 12), "dates": torch.zeros(3)})
    made = views({"image": torch.zeros(3, 2, 3, 12, 12), "dates": torch.zeros(3)})
    assert made["image"].shape == (3, 2, 3, 8, 8)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_scale", "x"), ("registration", "x"), ("min_overlap", None), ("cutout", "x"),
        ("gain", "x"), ("blur", "x"), ("dihedral", "turns"), ("operations", ["Haze"]),
        ("operations", {"Haze": 3}), ("registration", float("inf")), ("cutout", None),
    ],
)  # fmt: skip
def test_what_is_no_number_is_refused_by_name(name, value):
    with pytest.raises(InputError, match=f"^{name}.*: got .*; allowed: "):
        PairViews(contract(3), 32, **{name: value})


@pytest.mark.parametrize(
    "fields", [{"exponent": float("nan")}, {"exponent": "a"}, {"depth": 0.3}, {"depth": ["a", "b"]},
               {"p": "x"}, {"wavelengths": ["a"] * 3}]
)  # fmt: skip
def test_fields_that_are_no_numbers_are_refused_by_name(fields):
    with pytest.raises(InputError, match=f"^{next(iter(fields))}: got .*; allowed: "):
        PairViews(contract(3), 32, operations={"Haze": fields})


@pytest.mark.parametrize(("dihedral", "share"), [(True, 0.5), ("flips", 0.0), (False, 0.0)])
def test_the_rectangle_tells_where_cells_lie_unless_a_view_is_turned(dihedral, share):
    made = PairViews(contract(1), 28, dihedral=dihedral)({"image": torch.rand(200, 1, 32, 32)})
    x1, y1, x2, y2 = made["rectangle"].unsqueeze(-1).unbind(-2)
    steps = (torch.arange(7) + 0.5) / 7
    x, y = (x1 + (x2 - x1) * steps).unsqueeze(-2), (y1 + (y2 - y1) * steps).unsqueeze(-1)
    told = torch.stack([x.expand(-1, -1, 7, 7), y.expand(-1, -1, 7, 7)], dim=-1)
    true = (cell_centres(made["view_matrix"], (28, 28), 7) + 0.5) / 32
    wrong = ((told - true).abs() > 1e-4).flatten(2).any(dim=-1)
    assert torch.equal(wrong, made["turned"])
    assert wrong.float().mean().item() == pytest.approx(share, abs=0.1)
    flipped = (made["rectangle"][..., 0] > made["rectangle"][..., 2]).float().mean().item()
    assert flipped == pytest.approx(0.5 if dihedral else 0, abs=0.1)
