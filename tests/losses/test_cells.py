"""Which cells are positives: rectangles and matrices against the loop and by hand."""

import math

import pytest
import torch
from torch import Tensor

from rscontrast.augment.geometry import Geometry, cell_centres, draw, rectangles
from rscontrast.errors import InputError
from rscontrast.losses import cell_positives, view_positives
from tests.oracles import dense as oracle

SQUARE = (0.1, 0.2, 0.9, 1.0)


def boxes(*given: tuple[float, ...]) -> Tensor:
    return torch.tensor(given)


def mirrored(cells: int) -> Tensor:
    """Each cell with the one of the mirrored column."""
    index = torch.arange(cells**2).view(cells, cells).flip(1).flatten()
    return torch.eye(cells**2)[index].bool()


@pytest.mark.parametrize("cells", [1, 2, 7, 14])
def test_identical_square_views_give_the_identity(cells: int) -> None:
    found = cell_positives(boxes(SQUARE), boxes(SQUARE), (cells, cells), (cells, cells))
    assert torch.equal(found[0], torch.eye(cells**2).bool())


@pytest.mark.parametrize("box", [(0.0, 0.0, 0.9, 0.6), (0.0, 0.0, 0.6, 0.9)])
def test_identical_3_to_2_views_give_2_or_3_positives_a_row(box: tuple[float, ...]) -> None:
    found = cell_positives(boxes(box), boxes(box), (7, 7), (7, 7))[0]
    assert found.sum(1).unique().tolist() == [2, 3]
    assert (found.sum(1) == 2).sum() == 14  # the first and the last line of cells
    assert found.diagonal().all()


def test_a_mirrored_view_gives_the_mirrored_diagonal() -> None:
    x1, y1, x2, y2 = SQUARE
    found = cell_positives(boxes(SQUARE), boxes((x2, y1, x1, y2)), (5, 5), (5, 5))
    assert torch.equal(found[0], mirrored(5))
    both = cell_positives(boxes((x2, y1, x1, y2)), boxes((x2, y1, x1, y2)), (5, 5), (5, 5))
    assert torch.equal(both[0], torch.eye(25).bool())
    down = cell_positives(boxes(SQUARE), boxes((x1, y2, x2, y1)), (2, 2), (2, 2))[0]
    assert down.nonzero()[:, 1].tolist() == [2, 3, 0, 1]


def test_no_overlap_gives_none() -> None:
    first, second = (0.0, 0.0, 0.4, 0.4), (0.6, 0.6, 1.0, 1.0)
    assert not cell_positives(boxes(first), boxes(second), (7, 7), (7, 7)).any()


def test_unknown_and_empty_rectangles_give_none() -> None:
    found = cell_positives(
        boxes(SQUARE, (math.nan,) * 4, (0.5,) * 4),
        boxes(SQUARE, SQUARE, (0.5,) * 4),
        (3, 3),
        (3, 3),
    )
    assert found.flatten(1).any(1).tolist() == [True, False, False]


def test_random_rectangles_equal_the_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.rand(12, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    for cells in ((3, 3), (2, 4)):
        found = cell_positives(query, key, cells, cells)
        assert 0 < found.double().mean() < 0.5
        for n in range(12):
            assert torch.equal(
                found[n], oracle.positives(query[n].tolist(), key[n].tolist(), cells, 0.7)
            )


def test_each_view_has_its_own_number_of_cells() -> None:
    found = cell_positives(boxes(SQUARE), boxes(SQUARE), (2, 2), (4, 4))[0]
    assert found.shape == (4, 16)
    # Four quarters of each cell, at .25 of its diagonal, and two beyond each of two sides, at .56.
    assert (found.sum(1) == 8).all()
    assert torch.equal(found.T, cell_positives(boxes(SQUARE), boxes(SQUARE), (4, 4), (2, 2))[0])


def test_matrices_equal_rectangles_of_upright_views() -> None:
    geometry = Geometry((64, 64), dihedral=False)
    drawn = draw(
        geometry, 20, 2, (128, 128), device="cpu", generator=torch.Generator().manual_seed(1)
    )
    query, key = rectangles(drawn, (64, 64), (128, 128)).unbind(1)
    found = view_positives(*drawn.unbind(1), (64, 64), (4, 4), (4, 4))
    assert found.any()
    assert torch.equal(found, cell_positives(query, key, (4, 4), (4, 4)))


@pytest.mark.parametrize("same", [True, False])
def test_views_turned_any_way_find_their_cells(same: bool) -> None:
    """All eight symmetries, against the centres that the views' own geometry gives."""
    geometry = Geometry((60, 60), scale=(0.5, 1.0), ratio=(1, 1), same=False)
    drawn = draw(
        geometry, 64, 2, (120, 120), device="cpu", generator=torch.Generator().manual_seed(2)
    )
    if same:  # one crop in two symmetries: a permutation
        middle = drawn.new_tensor([29.5, 29.5])
        centre = (drawn[:, :, :2, :2] @ middle) + drawn[:, :, :2, 2]
        scale = drawn[:, :1, :2, :2].flatten(2).abs().amax(-1)[..., None, None]
        drawn[:, :, :2, :2] = drawn[:, :, :2, :2].sign() * scale
        drawn[:, :, :2, 2] = centre[:, :1] - drawn[:, :, :2, :2] @ middle
    found = view_positives(*drawn.unbind(1), (60, 60), (5, 5), (5, 5))
    query, key = cell_centres(drawn, (60, 60), 5).flatten(2, 3).unbind(1)
    side = drawn[:, :, :2, :2].flatten(2).abs().amax(-1).amax(1) * 60 / 5
    expected = torch.cdist(query, key, compute_mode="donot_use_mm_for_euclid_dist")
    expected = expected / (side * math.sqrt(2))[:, None, None] < 0.7
    assert torch.equal(found, expected)
    if same:
        assert (found.sum(1) == 1).all()
        assert (found.sum(2) == 1).all()
        assert len({tuple(f.int().argmax(1).tolist()) for f in found}) == 8


def test_a_quarter_turn_is_no_rectangle_but_a_matrix() -> None:
    upright = torch.eye(3).unsqueeze(0)
    turned = torch.tensor([[[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
    found = view_positives(upright, turned, (8, 8), (2, 2), (2, 2))[0]
    assert found.nonzero()[:, 1].tolist() == [0, 2, 1, 3]


@pytest.mark.parametrize("threshold", [0.0, -1.0, math.nan, math.inf])
def test_bad_threshold(threshold: float) -> None:
    with pytest.raises(InputError, match=r"^threshold: got"):
        cell_positives(boxes(SQUARE), boxes(SQUARE), (2, 2), (2, 2), threshold)


def test_bad_shapes() -> None:
    with pytest.raises(InputError, match=r"^rectangle: got \(1, 3\)"):
        cell_positives(torch.rand(1, 3), boxes(SQUARE), (2, 2), (2, 2))
    with pytest.raises(InputError, match=r"^view_matrix: got \(1, 4\)"):
        view_positives(boxes(SQUARE), boxes(SQUARE), (8, 8), (2, 2), (2, 2))
    with pytest.raises(InputError, match=r"^cells: got"):
        cell_positives(boxes(SQUARE), boxes(SQUARE), (0, 2), (2, 2))
    with pytest.raises(InputError, match=r"^key: got 1"):
        cell_positives(boxes(SQUARE, SQUARE), boxes(SQUARE), (2, 2), (2, 2))
