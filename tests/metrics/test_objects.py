"""Buildings as wholes, against flood fill and cases known by hand."""

import math

import pytest
import torch

from rscontrast.errors import InputError
from rscontrast.metrics import ObjectScores
from tests.oracles import scores as oracle


def blocks(*grades, side=3):
    """A row of square buildings with a pixel between two."""
    image = torch.zeros(1, side + 2, len(grades) * (side + 1) + 1, dtype=torch.int64)
    for number, grade in enumerate(grades):
        left = number * (side + 1) + 1
        image[0, 1 : 1 + side, left : left + side] = grade
    return image


def counted(prediction, truth, *rest):
    metric = ObjectScores()
    metric.update(prediction, truth, *rest)
    return metric


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("given", [False, True])
def test_equals_the_literal_loop(seed, given):
    torch.manual_seed(seed)
    truth = torch.randint(-4, 5, (2, 24, 20)).clamp(min=0)
    prediction = torch.where(torch.rand(truth.shape) < 0.7, truth, torch.randint(-6, 5, (1,)))
    prediction = prediction.clamp(min=0)
    valid = torch.rand(truth.shape) > 0.2
    ids = torch.randint(-9, 6, truth.shape).clamp(min=0) * 1000 if given else None
    metric = counted(prediction, truth, valid, ids)
    expected = torch.zeros(5, 5, dtype=torch.int64)
    for row in range(2):
        groups = None
        if given:
            groups = [
                set(map(tuple, (ids[row] == i).nonzero().tolist())) for i in range(1000, 6000, 1000)
            ]
        arrays = (truth[row].tolist(), prediction[row].tolist(), valid[row].tolist())
        expected += torch.tensor(oracle.objects(*arrays, 5, groups))
    assert expected.sum() > 5
    assert metric.confusion.tolist() == expected.tolist()


def test_by_hand():
    truth = blocks(1, 2, 3, 4, 0)
    prediction = blocks(1, 2, 4, 0, 3)
    prediction[0, 1, 1] = 4  # a pixel does not change the grade of a building
    found = counted(prediction, truth).compute()
    assert found["building_accuracy"].item() == pytest.approx(2 / 4)
    assert found["building_recall"].item() == pytest.approx(3 / 4)
    grades = [found[f"building_f1/{n}"].item() for n in ("no-damage", "minor-damage")]
    assert grades == [1, 1]
    assert found["building_f1/major-damage"] == 0  # one missed, one drawn where none is
    assert found["building_f1/destroyed"] == 0
    assert found["building_f1"].item() == pytest.approx(0.5)


def test_most_of_the_pixels_decide_and_the_lowest_of_a_tie():
    truth = blocks(2, side=2)
    prediction = truth.clone()
    prediction[0, 1, 1:3] = 4
    assert counted(prediction, truth).confusion[2, 2] == 1
    prediction[0, 2, 1] = 4
    assert counted(prediction, truth).confusion[2, 4] == 1


def test_a_building_without_a_usable_pixel_does_not_count():
    truth, prediction = blocks(1, 2), blocks(1, 3)
    valid = torch.ones_like(truth, dtype=torch.bool)
    valid[..., 5:] = False
    found = counted(prediction, truth, valid).compute()
    assert found["building_accuracy"] == 1
    assert math.isnan(found["building_f1/minor-damage"])
    assert math.isnan(found["building_f1/major-damage"])


def test_a_cloud_across_a_building_leaves_it_one():
    truth = blocks(2, side=5)
    valid = torch.ones_like(truth, dtype=torch.bool)
    valid[..., 3] = False
    assert counted(truth, truth, valid).confusion.sum() == 1


def test_buildings_that_touch_are_one_unless_ids_part_them():
    truth = torch.zeros(1, 3, 6, dtype=torch.int64)
    truth[0, 1, 1:4], truth[0, 1, 4:] = 1, 4
    ids = torch.where(truth > 0, truth, 0)
    assert counted(truth, truth).confusion.sum() == 1
    assert counted(truth, truth, None, ids).confusion.sum() == 2


def test_no_building_is_nan():
    empty = torch.zeros(1, 4, 4, dtype=torch.int64)
    assert all(torch.isnan(value) for value in counted(empty, empty).compute().values())


def test_bad_input_says_what_came():
    truth = blocks(1)
    with pytest.raises(InputError, match="instances: got"):
        counted(truth, truth, None, truth[:, :2])
    with pytest.raises(InputError, match="mask: got 7"):
        counted(truth, truth * 7)
