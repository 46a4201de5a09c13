"""Mixed views and placed regions: what is where, by pixels that know their patch and place."""

import pytest
import torch
from torch import Tensor

from rscontrast.augment import RegionMix, RegionPlacing
from rscontrast.augment.cutout import spread
from rscontrast.augment.placing import fold, window
from rscontrast.errors import InputError


def marked(count: int, side: int) -> Tensor:
    """Each pixel holds (patch, row, column)."""
    patch, row, column = torch.meshgrid(
        torch.arange(count), torch.arange(side), torch.arange(side), indexing="ij"
    )
    return torch.stack([patch, row, column], 1).float()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("cells", [(7, 7), (2, 2), (4, 6)])
def test_kept_cells_are_the_views_own_and_the_others_another_patchs(cells: tuple[int, int]) -> None:
    images = marked(16, 48)
    mixed = RegionMix(p=1.0)(images, cells, seeded())
    assert mixed.kept.shape == (16, *cells)
    assert mixed.kept.any()
    assert not mixed.kept.all()
    own = spread(mixed.kept, (48, 48))
    patch = torch.arange(16).view(-1, 1, 1).float()
    assert torch.equal(mixed.images[:, 0], torch.where(own, patch, (patch - 1) % 16))
    assert torch.equal(mixed.images[:, 1:], images[:, 1:])


def test_r_0_gives_an_empty_mask_and_the_view_itself() -> None:
    images = marked(8, 56)
    for mix in (RegionMix(p=0.0), RegionMix(share=(0, 0), p=1.0)):
        mixed = mix(images, (7, 7), seeded())
        assert mixed.kept.all()
        assert torch.equal(mixed.images, images)


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6])
def test_the_cut_share_is_about_r_and_of_complements_the_rest(share: float) -> None:
    images = torch.zeros(800, 1, 7, 7)
    straight = RegionMix((share, share), 1.0, 0.0)(images, (7, 7), seeded())
    assert share - 0.02 < (~straight.kept).float().mean() < share + 0.03
    turned = RegionMix((share, share), 1.0, 1.0)(images, (7, 7), seeded())
    assert torch.equal(turned.kept, ~straight.kept)


def test_half_of_the_views_stay_whole_and_half_of_the_rest_are_complements() -> None:
    mixed = RegionMix((0.3, 0.3))(torch.zeros(2000, 1, 7, 7), (7, 7), seeded())
    cut = (~mixed.kept).float().mean((1, 2))
    assert (cut == 0).float().mean().item() == pytest.approx(0.5, abs=0.04)
    assert (cut > 0.5).float().mean().item() == pytest.approx(0.25, abs=0.04)


@pytest.mark.parametrize("bad", [{"share": (0.5, 0.2)}, {"p": 1.1}, {"complement": -0.1}])
def test_mix_refuses(bad: dict[str, object]) -> None:
    with pytest.raises(InputError):
        RegionMix(**bad)


@pytest.mark.parametrize("fill", ["content", "reflect", "zero"])
@pytest.mark.parametrize("cells", [2, 7])
def test_one_region_lies_at_two_places_of_the_canvas(fill: str, cells: int) -> None:
    placing = RegionPlacing(fill=fill)
    images = 1 + marked(32, 8 * cells)
    places = placing.draw(32, (cells, cells), device="cpu", generator=seeded())
    assert (places.offsets[0] != places.offsets[1]).any(1).all()
    assert (places.offsets >= 1).all()
    region, canvas = torch.tensor(places.region), torch.tensor(places.canvas)
    assert (places.offsets + region <= canvas - 1).all()
    assert (places.start + region <= cells).all()
    wanted = window(images, 8 * places.start, (8 * places.region[0], 8 * places.region[1]))
    for which, made in enumerate(placing.canvases(images, places)):
        assert tuple(made.shape[2:]) == (8 * places.canvas[0], 8 * places.canvas[1])
        found = window(made, 8 * places.offsets[which], tuple(wanted.shape[2:]))
        assert torch.equal(found, wanted)
        patch = torch.arange(32).view(-1, 1, 1) + 1
        around = {"content": (patch - 2) % 32 + 1, "reflect": patch, "zero": 0 * patch}[fill]
        inside = (made[:, 0] == patch).sum((1, 2))
        area = wanted.shape[2] * wanted.shape[3]
        assert ((made[:, 0] == patch) | (made[:, 0] == around)).all()
        assert fill == "reflect" or (inside == area).all()


def test_surroundings_are_one_in_both_canvases() -> None:
    images = marked(4, 56)
    placing = RegionPlacing()
    places = placing.draw(4, (7, 7), device="cpu", generator=seeded())
    first, second = placing.canvases(images, places)
    other = (first[:, 0] == second[:, 0]) & (first[:, 0] != torch.arange(4).view(-1, 1, 1))
    assert (first == second)[:, 1:].movedim(1, -1)[other].all()
    assert other.float().mean() > 0.3


def test_mirrored_surroundings_have_no_step_at_the_regions_edge() -> None:
    images = marked(3, 56)
    placing = RegionPlacing(fill="reflect")
    for made in placing.canvases(images, placing.draw(3, (7, 7), device="cpu")):
        assert made[:, 1].diff(dim=1).abs().max() <= 1
        assert made[:, 2].diff(dim=2).abs().max() <= 1


def test_regions_of_maps_are_where_the_pixels_are() -> None:
    images = marked(6, 28)
    placing = RegionPlacing()
    places = placing.draw(6, (7, 7), device="cpu", generator=seeded())
    thinned = [made[:, :, ::4, ::4] for made in placing.canvases(images, places)]
    own = places.of_view(images[:, :, ::4, ::4])
    assert torch.equal(places.of_canvas(thinned[0], 0), own)
    assert torch.equal(places.of_canvas(thinned[1], 1), own)


def test_every_place_is_drawn() -> None:
    places = RegionPlacing(0.4).draw(500, (7, 7), device="cpu", generator=seeded())
    assert places.region == (3, 3)
    assert {tuple(at) for at in places.offsets[1].tolist()} == {
        (y, x) for y in (1, 2, 3) for x in (1, 2, 3)
    }
    assert {tuple(at) for at in places.start.tolist()} == {
        (y, x) for y in range(5) for x in range(5)
    }


def test_fold_mirrors_at_the_edges() -> None:
    assert fold(torch.arange(-4, 7), 3).tolist() == [2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0]


@pytest.mark.parametrize("bad", [{"share": 0.0}, {"fill": "zeros"}, {"margin": -1}])
def test_placing_refuses(bad: dict[str, object]) -> None:
    with pytest.raises(InputError):
        RegionPlacing(**bad)


def test_placing_needs_cells_of_whole_pixels() -> None:
    placing = RegionPlacing()
    places = placing.draw(2, (3, 3), device="cpu")
    with pytest.raises(InputError, match=r"image: got \(32, 32\)"):
        placing.canvases(torch.zeros(2, 1, 32, 32), places)
