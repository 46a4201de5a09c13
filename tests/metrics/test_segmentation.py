"""Scores against literal loops, against torchmetrics, and on cases known by hand."""

import json

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassF1Score, MulticlassJaccardIndex

from rscontrast.errors import InputError
from rscontrast.metrics.segmentation import confusion, scores

CLASSES = 4
NAMES = ("background", "a", "b", "c")


@pytest.fixture
def maps():
    rng = np.random.default_rng(3)
    truth = rng.integers(0, CLASSES, (23, 17)).astype(np.uint8)
    guess = rng.integers(0, CLASSES, (23, 17)).astype(np.uint8)
    prediction = np.where(rng.random((23, 17)) < 0.6, truth, guess)
    truth[rng.random((23, 17)) < 0.1] = 255
    return truth, prediction


def literal_confusion(truth, prediction, classes, ignore):
    counts = [[0] * classes for _ in range(classes)]
    for row, column in zip(truth.flat, prediction.flat, strict=True):
        if row != ignore and column != ignore:
            counts[row][column] += 1
    return counts


def literal_class_scores(truth, prediction, label):
    pairs = [
        (row == label, column == label)
        for row, column in zip(truth.flat, prediction.flat, strict=True)
        if 255 not in (row, column)
    ]
    hit, false, missed = (pairs.count(p) for p in ((True, True), (False, True), (True, False)))
    precision, recall = hit / (hit + false), hit / (hit + missed)
    harmonic = 2 * precision * recall / (precision + recall)
    return hit / (hit + false + missed), harmonic, precision, recall


def test_confusion_equals_a_literal_count(maps):
    truth, prediction = maps
    prediction[:2] = 255
    counts = confusion(truth, prediction, CLASSES)
    assert counts.dtype == np.int64
    assert counts.tolist() == literal_confusion(truth, prediction, CLASSES, 255)


def test_rows_are_the_truth():
    counts = confusion(np.array([1, 1, 0]), np.array([0, 0, 0]), 2)
    assert counts.tolist() == [[1, 0], [2, 0]]


def test_class_scores_equal_literal_ones(maps):
    found = scores(confusion(*maps, CLASSES), NAMES)
    for label in range(CLASSES):
        of_class = [s[label] for s in (found.iou, found.f1, found.precision, found.recall)]
        assert of_class == pytest.approx(literal_class_scores(*maps, label), abs=1e-12)


def test_agrees_with_torchmetrics(maps):
    found = scores(confusion(*maps, CLASSES), NAMES)
    truth, prediction = (torch.from_numpy(labels.astype(np.int64)) for labels in maps)
    for metric, ours in ((MulticlassJaccardIndex, found.iou), (MulticlassF1Score, found.f1)):
        theirs = metric(num_classes=CLASSES, average=None, ignore_index=255)(prediction, truth)
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-6)


def test_matrices_of_parts_add_up(maps):
    truth, prediction = maps
    parts = confusion(truth[:9], prediction[:9], CLASSES)
    parts += confusion(truth[9:], prediction[9:], CLASSES)
    np.testing.assert_array_equal(parts, confusion(truth, prediction, CLASSES))


def test_ignored_pixels_have_no_influence(maps):
    truth, prediction = maps
    before = confusion(truth, prediction, CLASSES)
    changed = prediction.copy()
    changed[truth == 255] = (changed[truth == 255] + 1) % CLASSES
    np.testing.assert_array_equal(before, confusion(truth, changed, CLASSES))
    assert before.sum() == (truth != 255).sum()


def test_ignore_may_be_a_class():
    counts = confusion(np.array([0, 1, 1]), np.array([1, 1, 0]), 2, ignore=0)
    assert counts.tolist() == [[0, 0], [0, 1]]


def test_a_class_that_occurs_nowhere_is_nan_and_in_no_mean():
    found = scores(np.array([[6, 0, 2], [0, 0, 0], [0, 0, 4]]), ("background", "a", "b"))
    for shares in (found.iou, found.f1, found.precision, found.recall):
        assert np.isnan(shares).tolist() == [False, True, False]
    assert found.iou[[0, 2]].tolist() == pytest.approx([6 / 8, 4 / 6])
    assert found.mean_iou == pytest.approx((6 / 8 + 4 / 6) / 2)
    assert found.mean_f1 == pytest.approx((12 / 14 + 8 / 10) / 2)
    assert (found.foreground_iou, found.foreground_f1) == pytest.approx((4 / 6, 8 / 10))
    assert found.accuracy == pytest.approx(10 / 12)


def test_a_class_that_is_never_predicted_scores_0():
    found = scores(np.array([[5, 0], [3, 0]]), ("background", "a"))
    assert [found.iou[1], found.f1[1], found.precision[1], found.recall[1]] == [0, 0, 0, 0]


def test_nothing_to_score_is_nan_throughout():
    found = scores(np.zeros((2, 2), np.int64), ("background", "a"))
    means = (found.accuracy, found.mean_iou, found.mean_f1, found.foreground_iou)
    assert np.isnan(means).all()


@pytest.mark.parametrize(
    ("truth", "prediction", "argument", "got"),
    [
        ([0, 7], [0, 1], "truth", 7),
        ([0, 1], [0, -3], "prediction", -3),
        ([0, 1], [0, 1, 1], "prediction", (3,)),
        ([0.0, 1.0], [0, 1], "truth", "float64"),
        ([0, 1], [False, True], "prediction", "bool"),
    ],
)
def test_bad_labels_are_named(truth, prediction, argument, got):
    with pytest.raises(InputError) as caught:
        confusion(np.array(truth), np.array(prediction), 2)
    assert (caught.value.argument, caught.value.got) == (argument, got)


@pytest.mark.parametrize("counts", [np.zeros((3, 3), int), np.array([[1, -1], [0, 2]])])
def test_a_bad_matrix_is_refused(counts):
    with pytest.raises(InputError, match="confusion: got"):
        scores(counts, ("background", "a"))


def test_no_classes_is_refused():
    with pytest.raises(InputError, match="classes: got 0"):
        confusion(np.array([0]), np.array([0]), 0)


def test_dict_survives_json():
    found = scores(np.array([[6, 0, 2], [0, 0, 0], [0, 0, 4]]), ("background", "a", "b"))
    read = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert read["iou"] == [0.75, None, pytest.approx(4 / 6)]
    assert read["confusion"] == [[6, 0, 2], [0, 0, 0], [0, 0, 4]]
    assert read["class_names"] == ["background", "a", "b"]
    assert read["accuracy"] == pytest.approx(10 / 12)


def test_table_is_aligned_and_holds_every_count():
    found = scores(np.array([[60000, 0, 2], [0, 0, 0], [0, 0, 4]]), ("background", "a", "b"))
    upper, lower = (part.splitlines() for part in found.table().split("\n\n"))
    assert upper[2].split() == ["a", "-", "-", "-", "-", "0"]
    assert len({len(line) for line in upper[:4]}) == 1
    assert [line.split()[-3:] for line in lower[1:]] == [
        ["60000", "0", "2"],
        ["0", "0", "0"],
        ["0", "0", "4"],
    ]
    assert len({len(line) for line in lower}) == 1
