"""xView2, class scores and boundary IoU against literal loops and cases known by hand."""

import math

import pytest
import torch
from torchmetrics.classification import MulticlassF1Score, MulticlassJaccardIndex

from rscontrast.errors import InputError
from rscontrast.metrics import BoundaryIoU, ClassScores, XView2Score, xview2_score
from rscontrast.metrics.boundary import inner_boundary
from rscontrast.types import DAMAGE_CLASSES as DAMAGE
from tests.oracles import scores as oracle

GRADES = torch.tensor([[[0, 0, 1, 1], [2, 2, 3, 3], [4, 4, 0, 0]]])


@pytest.fixture
def maps():
    """Truth and prediction [3, 15, 13], half alike."""
    torch.manual_seed(1)
    truth, guess = torch.randint(0, 5, (2, 3, 15, 13))
    return truth, torch.where(torch.rand(truth.shape) < 0.5, truth, guess)


def score(prediction, truth, **arguments):
    metric = XView2Score(**arguments)
    metric.update(prediction, truth)
    return metric.compute()


def harmonic(*grades):
    return 4 / sum(1 / (g + 1e-6) for g in grades)


def test_xview2_equals_the_literal_scorer(maps):
    truth, prediction = maps
    found = score(prediction, truth)
    total, localisation, damage, grades = oracle.xview2(truth.tolist(), prediction.tolist())
    assert found["xview2"].item() == pytest.approx(total, abs=1e-12)
    assert found["localisation_f1"].item() == pytest.approx(localisation, abs=1e-12)
    assert found["damage_f1"].item() == pytest.approx(damage, abs=1e-12)
    assert [found[f"f1/{n}"].item() for n in DAMAGE[1:]] == pytest.approx(grades, abs=1e-12)


def hand_made():
    empty = torch.zeros_like(GRADES)
    all_two = torch.full_like(GRADES, 2)
    yield "perfect", GRADES, GRADES, 0.3 + 0.7 * (1 + 1e-6)
    yield "empty prediction", GRADES, empty, 0.7e-6
    no_major = GRADES.where(GRADES != 3, 0)
    yield "a grade never found", GRADES, no_major, 0.3 * 12 / 14 + 0.7 * harmonic(1, 1, 0, 1)
    yield "a grade not in the truth", no_major, no_major, 0.3 + 0.7 * harmonic(1, 1, 0, 1)
    wrong = torch.tensor([0, 2, 3, 4, 1])[GRADES]
    yield "all wrong grades", GRADES, wrong, 0.3 + 0.7e-6
    inverse = torch.where(GRADES > 0, 0, 1)
    yield "all wrong", GRADES, inverse, 0.7e-6
    # Drawn where none is: costs localisation alone, since grades are scored within buildings.
    over = GRADES.where(GRADES > 0, 4)
    yield "too much", GRADES, over, 0.3 * 16 / 20 + 0.7 * (1 + 1e-6)
    one = 0.7 * harmonic(0, 2 * 2 / (2 * 2 + 6), 0, 0)
    yield "one grade all over", GRADES, all_two, 0.3 * 16 / 20 + one


@pytest.mark.parametrize("case", list(hand_made()), ids=lambda c: c[0])
def test_xview2_by_hand(case):
    _, truth, prediction, expected = case
    assert score(prediction, truth)["xview2"].item() == pytest.approx(expected, rel=1e-9)
    assert oracle.xview2(truth.tolist(), prediction.tolist())[0] == pytest.approx(expected)


def test_an_absent_grade_is_not_a_silent_zero():
    truth = GRADES.where(GRADES != 3, 0)
    found, left_out = score(truth, truth), score(truth, truth, absent="leave_out")
    assert math.isnan(found["f1/major-damage"])
    assert found["damage_f1"] < 1e-5
    assert left_out["damage_f1"].item() == pytest.approx(1 + 1e-6)


def test_nothing_to_score_is_nan():
    nowhere = torch.full((1, 2, 2), 255)
    for metric in (XView2Score(), ClassScores(), BoundaryIoU(), XView2Score("leave_out")):
        metric.update(torch.zeros(1, 2, 2, dtype=torch.int64), nowhere)
        assert all(torch.isnan(value) for value in metric.compute().values())


def test_false_positives_of_images_without_the_grade_count():
    """They did not in the scorer's first version."""
    truth, prediction = torch.ones(2, 2, 2).long(), torch.ones(2, 2, 2).long()
    truth[0], prediction[1] = 2, 2
    prediction[0] = 2
    found = score(prediction, truth)
    assert found["f1/minor-damage"].item() == pytest.approx(2 / 3)


@pytest.mark.parametrize("make", [XView2Score, ClassScores, BoundaryIoU])
def test_ignored_and_invalid_pixels_do_not_count(make, maps):
    truth, prediction = maps
    logits = torch.nn.functional.one_hot(prediction, 5).movedim(-1, 1).float()
    valid = torch.rand(3, 2, 15, 13) > 0.1
    kept = valid.all(1) & (torch.rand(truth.shape) > 0.1)
    labels = truth.where(kept | ~valid.all(1), 255)
    masked, by_valid = make(), make()
    masked.update(prediction, truth.where(kept, 255))
    by_valid.update(logits, labels, valid)
    unmapped = make()
    unmapped.update(prediction.where(kept, 255), truth)
    assert masked.compute() == by_valid.compute() == unmapped.compute()
    whole = make()
    whole.update(prediction, truth)
    assert whole.compute() != masked.compute()


def test_class_scores_equal_literal_ones(maps):
    truth, prediction = (labels[:1].clone() for labels in maps)
    truth[0, :3], prediction[truth == 2], truth[truth == 2] = 255, 3, 3
    prediction[prediction == 2] = 0
    metric = ClassScores()
    metric.update(prediction, truth)
    found = metric.compute()
    for label, name in enumerate(DAMAGE):
        expected = oracle.class_f1_iou(truth[0].tolist(), prediction[0].tolist(), label)
        got = found[f"f1/{name}"].item(), found[f"iou/{name}"].item()
        assert got == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert math.isnan(found["iou/minor-damage"])
    occurring = [found[f"iou/{name}"].item() for name in DAMAGE if name != "minor-damage"]
    assert found["mean_iou"].item() == pytest.approx(sum(occurring) / 4)


def test_class_scores_agree_with_torchmetrics(maps):
    truth, prediction = maps
    metric = ClassScores()
    metric.update(prediction, truth)
    found = metric.compute()
    for theirs, prefix in ((MulticlassJaccardIndex, "iou"), (MulticlassF1Score, "f1")):
        values = theirs(num_classes=5, average=None)(prediction, truth)
        ours = torch.stack([found[f"{prefix}/{name}"] for name in DAMAGE])
        torch.testing.assert_close(ours.float(), values)
    built = MulticlassJaccardIndex(num_classes=2, average=None)(prediction > 0, truth > 0)[1]
    assert found["building_iou"].item() == pytest.approx(built.item())


@pytest.mark.parametrize("distance", [1, 2, 20])
def test_boundary_iou_equals_the_literal_loop(distance, maps):
    truth, prediction = (labels[:1].clone() for labels in maps)
    truth, prediction = truth.clamp(max=1), prediction.clamp(max=1)
    truth[0, 4:9, 3:9] = prediction[0, 5:12, 2:8] = 1
    truth[0, 7, 7] = 255
    metric = BoundaryIoU(("no", "yes"), pixels=distance)
    metric.update(prediction, truth)
    for label, name in enumerate(("no", "yes")):
        expected = oracle.boundary_iou(truth[0].tolist(), prediction[0].tolist(), label, distance)
        assert metric.compute()[f"boundary_iou/{name}"].item() == pytest.approx(expected)


def test_a_boundary_by_hand():
    square = torch.zeros(9, 9, dtype=torch.bool)
    square[1:8, 1:8] = True
    assert inner_boundary(square, 1).sum() == 24
    assert inner_boundary(square, 2).sum() == 40
    assert inner_boundary(square, 4).sum() == 49
    assert inner_boundary(torch.ones(2, 5, 5, dtype=torch.bool), 1).sum() == 32  # the border


def test_the_width_of_a_boundary_is_a_share_of_the_diagonal():
    assert BoundaryIoU().distance(300, 400) == 10
    assert BoundaryIoU().distance(3, 4) == 1
    assert BoundaryIoU(pixels=3).distance(300, 400) == 3


def test_boundary_iou_is_iou_where_the_boundary_is_all():
    truth = torch.zeros(1, 12, 12, dtype=torch.int64)
    prediction = truth.clone()
    truth[0, 2:8, 2:8] = prediction[0, 4:10, 2:8] = 1
    metric = BoundaryIoU(("no", "yes"), pixels=12)
    metric.update(prediction, truth)
    assert metric.compute()["boundary_iou"].item() == pytest.approx(24 / 48)


def test_batches_add_up(maps):
    truth, prediction = maps
    for make in (XView2Score, ClassScores, BoundaryIoU):
        whole, parts = make(), make()
        whole.update(prediction, truth)
        for row in range(3):
            parts.update(prediction[row : row + 1], truth[row : row + 1])
        assert whole.compute() == parts.compute()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: XView2Score("skip"), r"absent: got 'skip'"),
        (lambda: xview2_score(torch.zeros(4, 4)), r"confusion: got \(4, 4\)"),
        (lambda: xview2_score(torch.full((5, 5), -1)), "confusion: got -1"),
        (lambda: ClassScores(("a", "a")), "class_names"),
        (lambda: BoundaryIoU(ratio=0), "ratio: got 0"),
        (lambda: BoundaryIoU(pixels=0), "pixels: got 0"),
        (lambda: ClassScores().update(torch.rand(1, 4, 2, 2), GRADES), "prediction: got"),
        (lambda: ClassScores().update(GRADES[:, :2], GRADES), "mask: got"),
        (lambda: ClassScores().update(GRADES + 1, GRADES), "prediction: got 5"),
        (lambda: ClassScores().update(GRADES, GRADES, GRADES), "valid: got torch.int64"),
        (lambda: ClassScores().update(GRADES, GRADES, GRADES[:, :2] > 0), "valid: got"),
    ],
)
def test_bad_input_says_what_came(call, message):
    with pytest.raises(InputError, match=message):
        call()
